//! What a build reads or writes without a word to cargo: where such files may be, and when they may have changed. The scenarios
//! show the same for what every repository has; here is what only some have.

use crate::support::volume::Volume;
use crate::support::{Said, Sandbox, args, said, skip};
use std::fs;
use std::path::{Path, PathBuf};

/// `app` prints what a macro read, which names nothing to nobody.
struct Told {
    sandbox: Sandbox,
}

const MACRO: &str = "use proc_macro::TokenStream;

#[proc_macro]
pub fn read(path: TokenStream) -> TokenStream {
    let dir = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap();
    let text = std::fs::read_to_string(format!(\"{dir}/{}\", path.to_string().trim_matches('\"')));
    format!(\"{:?}\", text.unwrap_or(\"nothing\".into()).trim()).parse().unwrap()
}
";

fn manifest(name: &str, rest: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{rest}")
}

impl Told {
    /// With the file that the macro reads, and more files.
    fn new(path: &str, more: &[(&str, &str)]) -> Self {
        let told = Self { sandbox: Sandbox::new() };
        let app = manifest("app", "[workspace]\nmembers = [\"mac\"]\n[dependencies]\nmac = { path = \"mac\" }\n");
        told.write("app/Cargo.toml", &app);
        told.write("app/.gitignore", "/target\n");
        told.write("app/src/main.rs", &format!("fn main() {{\n    println!(\"{{}}\", mac::read!(\"{path}\"));\n}}\n"));
        told.write("app/mac/Cargo.toml", &manifest("mac", "[lib]\nproc-macro = true\n"));
        told.write("app/mac/src/lib.rs", MACRO);
        more.iter().for_each(|(path, text)| told.write(path, text));
        told
    }

    /// What the repositories hold.
    fn write(&self, path: &str, text: &str) {
        let path = self.sandbox.path("repositories").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A command of the shell among the repositories.
    fn sh(&self, script: &str) {
        let mut command = self.sandbox.command("sh");
        let git = "git() { command git -c user.name=a -c user.email=a@b -c protocol.file.allow=always \"$@\"; }";
        said(command.current_dir(self.sandbox.path("repositories")).arg("-ec").arg(format!("{git}\n{script}"))).ok();
    }

    fn work(&self) -> PathBuf {
        self.sandbox.path("work")
    }

    /// Checks everything out at the same place anew.
    fn check_out(&self) {
        let work = self.work();
        if work.exists() {
            let away = (0..).map(|n| self.sandbox.path(&format!("away-{n}"))).find(|path| !path.exists()).unwrap();
            fs::rename(&work, away).unwrap();
        }
        said(self.sandbox.command("cp").arg("-r").arg(self.sandbox.path("repositories")).arg(work)).ok();
    }

    fn larder(&self, words: &[&str]) -> Said {
        said(&mut self.sandbox.larder(args(["run", "--workspace"]).with(self.work().join("app")).and(words))).ok()
    }

    fn build(&self) -> Said {
        self.larder(&["--", "cargo", "build"])
    }

    fn says(&self) -> String {
        said(&mut self.sandbox.command(self.work().join("app/target/debug/app"))).ok().out.trim().to_owned()
    }

    /// In a fresh checkout: what the program prints.
    fn fresh(&self) -> String {
        self.check_out();
        self.build();
        self.says()
    }
}

fn compiled(said: &Said) -> usize {
    said.err.lines().filter(|line| line.trim_start().starts_with("Compiling")).count()
}

#[test]
fn what_git_tracks_is_a_source_though_ignored() {
    let told = Told::new("data/word.txt", &[("app/data/word.txt", "one"), ("app/.gitignore", "/target\n/data\n")]);
    told.sh("cd app; git init -q; git add -A; git add -f data; git commit -qm first");
    assert_eq!(told.fresh(), "one");
    told.write("app/data/word.txt", "two");
    assert_eq!(told.fresh(), "two");
    told.check_out();
    assert_eq!(compiled(&told.build()), 0);
}

#[test]
fn without_a_repository_nothing_is_ignored() {
    let told = Told::new("data/word.txt", &[("app/data/word.txt", "one"), ("app/.gitignore", "/target\n/data\n")]);
    assert_eq!(told.fresh(), "one");
    told.write("app/data/word.txt", "two");
    assert_eq!(told.fresh(), "two");
    told.check_out();
    assert_eq!(compiled(&told.build()), 0);
}

#[test]
fn what_one_repository_ignores_another_within_it_does_not() {
    let told = Told::new("sub/made/word.txt", &[("app/.gitignore", "/target\nmade/\n"), ("sub/made/word.txt", "one")]);
    told.sh("cd sub; git init -q; git add -A; git commit -qm first");
    told.sh("cd app; git init -q; git submodule --quiet add ../sub sub; git add -A; git commit -qm first");
    assert_eq!(told.fresh(), "one");
    told.write("app/sub/made/word.txt", "two");
    assert_eq!(told.fresh(), "two");
}

#[test]
fn a_dependency_in_an_ignored_folder_is_a_source() {
    let told = Told::new("unused", &[("app/deps/foo/word.txt", "one"), ("app/.gitignore", "/target\n/deps\n")]);
    told.write(
        "app/Cargo.toml",
        &manifest(
            "app",
            "[workspace]\nmembers = [\"mac\"]\nexclude = [\"deps\"]\n[dependencies]\nfoo = { path = \"deps/foo\" }\n",
        ),
    );
    told.write("app/deps/foo/Cargo.toml", &manifest("foo", "[dependencies]\nmac = { path = \"../../mac\" }\n"));
    told.write("app/deps/foo/src/lib.rs", "pub const WORD: &str = mac::read!(\"word.txt\");\n");
    told.write("app/src/main.rs", "fn main() {\n    println!(\"{}\", foo::WORD);\n}\n");
    told.sh("cd app/deps/foo; git init -q; git add -A; git commit -qm first; cd ../..; git init -q; git add -A");
    assert_eq!(told.fresh(), "one");
    told.write("app/deps/foo/word.txt", "two");
    assert_eq!(told.fresh(), "two");
}

#[test]
fn a_member_outside_of_its_workspace_is_a_source() {
    let told = Told::new("word.txt", &[]);
    told.sh("mkdir tool; mv app/src tool/");
    told.write("app/Cargo.toml", "[workspace]\nresolver = \"2\"\nmembers = [\"../tool\", \"mac\"]\n");
    told.write(
        "tool/Cargo.toml",
        &manifest("app", "workspace = \"../app\"\n[dependencies]\nmac = { path = \"../app/mac\" }\n"),
    );
    told.write("tool/word.txt", "one");
    assert_eq!(told.fresh(), "one");
    told.write("tool/word.txt", "two");
    assert_eq!(told.fresh(), "two");
    told.check_out();
    assert_eq!(compiled(&told.build()), 0);
}

#[test]
fn what_a_link_leads_to_is_a_source() {
    let told = Told::new("data/word.txt", &[("shared/word.txt", "one")]);
    told.sh("ln -s ../shared app/data");
    assert_eq!(told.fresh(), "one");
    told.write("shared/word.txt", "two");
    assert_eq!(told.fresh(), "two");
    told.check_out();
    assert_eq!(compiled(&told.build()), 0);
}

#[test]
fn names_of_cargos_own_mean_nothing_elsewhere() {
    for path in ["data/Cargo.lock", "templates/Cargo.toml", "data/rust-toolchain.toml"] {
        let told = Told::new(path, &[(&format!("app/{path}"), "one {{x}}")]);
        assert_eq!(told.fresh(), "one {{x}}");
        told.write(&format!("app/{path}"), "two {{x}}");
        assert_eq!(told.fresh(), "two {{x}}", "{path}");
    }
}

#[test]
fn a_file_that_becomes_a_folder_is_gone() {
    let told = Told::new("data/word.txt", &[("app/data/word.txt", "one")]);
    assert_eq!(told.fresh(), "one");
    told.sh("rm app/data/word.txt; mkdir app/data/word.txt");
    assert_eq!(told.fresh(), "nothing");
}

/// What the target directory was built from then is in no snapshot.
#[test]
fn data_of_a_build_that_was_not_saved_is_not_forgotten() {
    let other = |told: &Told, script: &str| {
        fs::write(told.work().join("app/data/word.txt"), "two").unwrap();
        let words = ["run", "--save", "success", "--workspace"];
        said(&mut told.sandbox.larder(args(words).with(told.work().join("app")).and(["--", "sh", "-c", script])));
    };
    let plain = |told: &Told| {
        fs::write(told.work().join("app/data/word.txt"), "two").unwrap();
        // Cargo itself does not see the data.
        let main = told.work().join("app/src/main.rs");
        fs::write(&main, fs::read(&main).unwrap()).unwrap();
        said(told.sandbox.command("cargo").current_dir(told.work().join("app")).arg("build")).ok();
    };
    let never = |told: &Told| {
        fs::write(told.work().join("app/data/word.txt"), "two").unwrap();
        told.larder(&["--save", "never", "--", "cargo", "build"]);
    };
    let failed = |told: &Told| other(told, "cargo build; exit 1");
    for (way, build) in [("never", &never as &dyn Fn(&Told)), ("failed", &failed), ("plain", &plain)] {
        let told = Told::new("data/word.txt", &[("app/data/word.txt", "one")]);
        assert_eq!(told.fresh(), "one");
        build(&told);
        assert_eq!(told.says(), "two", "{way}");
        fs::write(told.work().join("app/data/word.txt"), "one").unwrap();
        told.build();
        assert_eq!(told.says(), "one", "{way}");
        assert_eq!(told.fresh(), "one", "and everybody else: {way}");
        assert_eq!(compiled(&told.build()), 0);
    }
}

#[test]
fn data_that_changes_after_it_was_read_is_not_taken_for_what_was_read() {
    let told = Told::new("data/word.txt", &[("app/data/word.txt", "one")]);
    told.check_out();
    told.larder(&["--job", "j", "--", "sh", "-c", "cargo build && echo two > data/word.txt"]);
    assert_eq!(told.says(), "one");
    told.write("app/data/word.txt", "two\n");
    told.check_out();
    told.larder(&["--job", "j", "--", "cargo", "build"]);
    assert_eq!(told.says(), "two");
    // The same in steps of their own.
    let step = |verb: &str| {
        let words = args([verb, "--job", "steps", "--workspace"]).with(told.work().join("app"));
        said(&mut told.sandbox.larder(words)).ok();
    };
    told.check_out();
    step("restore");
    fs::write(told.work().join("app/data/word.txt"), "three").unwrap();
    said(told.sandbox.command("cargo").current_dir(told.work().join("app")).arg("build")).ok();
    assert_eq!(told.says(), "two", "cargo itself does not see it");
    step("save");
    told.write("app/data/word.txt", "three");
    assert_eq!(told.fresh(), "three");
}

/// A script that overwrites a source which is in the repository, as generators of code do.
#[test]
fn an_outdated_source_that_a_script_makes_is_made_again() {
    let script = "fn main() {\n    println!(\"cargo::rerun-if-changed=schema\");\n    let word = std::fs::read_to_string(\"schema\").unwrap();\n    std::fs::write(\"src/made.rs\", format!(\"pub const WORD: &str = {word:?};\")).unwrap();\n}\n";
    let told = Told::new("unused", &[("app/schema", "new"), ("app/build.rs", script)]);
    told.write("app/src/made.rs", "pub const WORD: &str = \"old\";");
    told.write("app/src/main.rs", "mod made;\n\nfn main() {\n    println!(\"{}\", made::WORD);\n}\n");
    for _ in 0..3 {
        assert_eq!(told.fresh(), "new");
    }
    told.write("app/src/made.rs", "pub const WORD: &str = \"new\";");
    assert_eq!(told.fresh(), "new");
    told.check_out();
    assert_eq!(compiled(&told.build()), 0, "it is what the script makes");
}

#[test]
fn what_a_script_made_for_the_run_is_made_again() {
    let script = "fn main() {\n    println!(\"cargo::rerun-if-changed=page.src\");\n    std::fs::create_dir_all(\"dist\").unwrap();\n    std::fs::copy(\"page.src\", \"dist/page\").unwrap();\n}\n";
    let told = Told::new("unused", &[("app/page.src", "one"), ("app/build.rs", script)]);
    told.write(
        "app/src/main.rs",
        "fn main() {\n    println!(\"{}\", std::fs::read_to_string(\"dist/page\").unwrap());\n}\n",
    );
    told.write("app/.gitignore", "/target\n/dist\n");
    told.sh("cd app; git init -q; git add -A; git commit -qm first");
    let run = || {
        let mut program = told.sandbox.command("target/debug/app");
        said(program.current_dir(told.work().join("app"))).ok().out.trim().to_owned()
    };
    for _ in 0..2 {
        told.check_out();
        told.build();
        assert_eq!(run(), "one");
        assert_eq!(compiled(&told.build()), 0, "it is there");
    }
}

/// A sibling that is built for itself, in a folder within one that is ignored.
#[test]
fn a_target_directory_within_an_ignored_folder_is_not_deceived() {
    let told = Told::new("unused", &[("lib/.cargo/config.toml", "[build]\ntarget-dir = \"build/target\"\n")]);
    told.write(
        "app/Cargo.toml",
        &manifest("app", "[workspace]\nmembers = [\"mac\"]\n[dependencies]\nlib = { path = \"../lib\" }\n"),
    );
    told.write("app/src/main.rs", "fn main() {\n    println!(\"{}\", lib::WORD);\n}\n");
    told.write("lib/Cargo.toml", &manifest("lib", "[workspace]\n"));
    told.write("lib/.gitignore", "/build\n");
    told.write("lib/src/main.rs", "fn main() {\n    println!(\"{}\", lib::WORD);\n}\n");
    let word = |word: &str| told.write("lib/src/lib.rs", &format!("pub const WORD: &str = \"{word}\";\n"));
    word("one");
    told.sh("cd lib; git init -q; git add -A; git commit -qm first");
    assert_eq!(told.fresh(), "one");
    word("two");
    told.check_out();
    let alone = |told: &Told| {
        let mut cargo = told.sandbox.command("cargo");
        said(cargo.current_dir(told.work().join("lib")).args(["run", "-q"])).ok().out.trim().to_owned()
    };
    assert_eq!(alone(&told), "two");
    let (built, kept) = (told.work().join("lib/build"), told.sandbox.path("kept"));
    fs::rename(&built, &kept).unwrap();
    word("one");
    told.check_out();
    fs::rename(&kept, &built).unwrap();
    told.build();
    assert_eq!((told.says(), alone(&told)), ("one".into(), "one".into()));
}

/// Times of whole seconds: a source that is touched in the second of the last build must be newer all the same.
#[test]
fn an_edit_is_seen_where_times_are_whole_seconds() {
    let volume = match Volume::make("ext4", 64, &["-I", "128"]) {
        Ok(volume) => volume,
        Err(why) => return skip(&why),
    };
    let told = Told::new("unused", &[]);
    let (dir, target) = (volume.path.join("app"), told.sandbox.path("target"));
    for word in ["one", "two", "three"] {
        told.write("app/src/main.rs", &format!("fn main() {{\n    println!(\"{word}\");\n}}\n"));
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
            fs::remove_dir_all(&target).unwrap();
        }
        said(told.sandbox.command("cp").arg("-r").arg(told.sandbox.path("repositories/app")).arg(&dir)).ok();
        let mut larder = told.sandbox.larder(args(["run", "--workspace"]).with(&dir).and(["--", "cargo", "build"]));
        said(larder.env("CARGO_TARGET_DIR", &target)).ok();
        assert_eq!(said(&mut told.sandbox.command(target.join("debug/app"))).ok().out.trim(), word);
    }
}

/// A restore would overwrite what people wrote.
#[test]
fn a_target_directory_that_holds_sources_is_left_alone() {
    let told = Told::new("word.txt", &[("app/word.txt", "one")]);
    for (target, program) in
        [("..", "../debug/app"), (".", "debug/app"), ("src", "src/debug/app"), ("mac", "mac/debug/app")]
    {
        told.write("app/word.txt", "one");
        for (word, dated) in [("one", "2020-01-01"), ("two", "2020-01-01")] {
            told.write("app/word.txt", word);
            told.check_out();
            let app = told.work().join("app");
            said(told.sandbox.command("find").arg(told.work()).args(["-exec", "touch", "-d", dated, "{}", "+"])).ok();
            let mut larder =
                told.sandbox.larder(args(["run", "--exact", "--workspace"]).with(&app).and(["--", "cargo", "build"]));
            let done = said(larder.env("CARGO_TARGET_DIR", app.join(target))).ok();
            assert!(done.warnings().iter().any(|line| line.contains("holds sources")), "{target}: {}", done.err);
            assert_eq!(fs::read_to_string(app.join("word.txt")).unwrap(), word, "{target}");
            assert_eq!(said(&mut told.sandbox.command(app.join(Path::new(program)))).ok().out.trim(), word, "{target}");
        }
    }
    assert_eq!(told.sandbox.json(["ls"])["snapshots"].as_array().unwrap().len(), 0);
}

/// A target directory that is shared, with a build directory for each.
#[test]
fn a_build_directory_that_is_gone_deceives_nobody() {
    let told = Told::new("word.txt", &[("app/word.txt", "one")]);
    let built = |dir: &str| {
        told.write("app/.cargo/config.toml", &format!("[build]\nbuild-dir = \"{dir}\"\ntarget-dir = \"target\"\n"));
        told.check_out();
        compiled(&told.build())
    };
    assert_eq!(["first", "second", "first"].map(built), [2, 2, 0]);
}

/// `words/` and `./words` are `words`.
#[test]
fn a_folder_is_watched_however_it_is_spelled() {
    for spelling in ["words/", "./words", "words/.", "deep/../words"] {
        let told = Told::new("unused", &[("app/words/a", "a"), ("app/deep/b", "b")]);
        told.write(
            "app/build.rs",
            &format!("fn main() {{\n    println!(\"cargo::rerun-if-changed={spelling}\");\n}}\n"),
        );
        told.fresh();
        told.check_out();
        assert_eq!(compiled(&told.build()), 0, "{spelling}");
        told.write("app/words/c", "c");
        told.check_out();
        assert_eq!(compiled(&told.build()), 1, "{spelling}");
    }
}

/// Cargo never looks again at what came from a registry.
#[test]
fn a_vendored_package_that_somebody_mends_is_built_again() {
    let told = Told::new("unused", &[]);
    told.write("app/Cargo.toml", &manifest("app", "[dependencies]\nmended = \"0.1\"\n"));
    let config = "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"vendor\"\n";
    told.write("app/.cargo/config.toml", config);
    told.write("app/vendor/mended/Cargo.toml", &manifest("mended", ""));
    let checksum = format!("{{\"files\":{{}},\"package\":\"{}\"}}", "0".repeat(64));
    told.write("app/vendor/mended/.cargo-checksum.json", &checksum);
    told.write("app/src/main.rs", "fn main() {\n    println!(\"{}\", mended::WORD);\n}\n");
    told.sh("rm -r app/mac");
    for word in ["one", "two"] {
        told.write("app/vendor/mended/src/lib.rs", &format!("pub const WORD: &str = \"{word}\";\n"));
        assert_eq!(told.fresh(), word);
        told.check_out();
        assert_eq!(compiled(&told.build()), 0);
    }
}
