//! Manifests, lock files, features, profiles, flags, compilers, commands.

use crate::cargo::Verb;
use crate::projects::{PROGRAM, SCRIPT, manifest, package, saying, scripted};
use crate::scenarios;
use crate::step::{NEAREST, Project, step};

const LOUD: &str = "if cfg!(feature = \"loud\") { \"LOUD\" } else { \"quiet\" }";
const FLAG: &str = "if cfg!(loud) { \"LOUD\" } else { \"quiet\" }";

/// Why larder may begin anew where cargo would go on.
const CLIPPYS: &str = "clippy is a compiler of its own and takes no other, and larder does not know that";

fn featured() -> Project {
    saying(LOUD, "quiet").with("app/Cargo.toml", &manifest("app", "[features]\nloud = []\n"))
}

/// A dependency that comes from a registry's mirror in the repository.
fn vendored() -> Project {
    saying("dep::VERSION", "0.1.0")
        .with("app/Cargo.toml", &manifest("app", "[dependencies]\ndep = \"0.1\"\n"))
        .with(
            "app/.cargo/config.toml",
            "[source.crates-io]\nreplace-with = \"vendored\"\n\n[source.vendored]\ndirectory = \"vendor\"\n",
        )
        .with("app/vendor/dep/Cargo.toml", &manifest("dep", ""))
        .with("app/vendor/dep/.cargo-checksum.json", "{\"files\":{}}\n")
        .with("app/vendor/dep/src/lib.rs", "pub const VERSION: &str = env!(\"CARGO_PKG_VERSION\");\n")
}

/// A dependency from a git repository, which has two tags.
fn from_git() -> Project {
    let manifest = manifest("app", "[dependencies]\ndep = { git = \"file://[ROOT]/upstream\", tag = \"v1\" }\n");
    saying("dep::WORD", "v1").with("app/Cargo.toml", &manifest).prepared(|world| {
        let dir = world.root.join("upstream");
        for tag in ["v1", "v2"] {
            let source = format!("pub const WORD: &str = \"{tag}\";\n");
            let content = crate::content::Content::default()
                .with("Cargo.toml", &crate::projects::manifest("dep", ""))
                .with("src/lib.rs", &source);
            content.check_out(&dir, &world.root);
            let commit = ["git", "-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", tag];
            for words in [&["git", "init", "-q"][..], &["git", "add", "-A"], &commit, &["git", "tag", tag]] {
                world.tool(&dir, words);
            }
        }
    })
}

scenarios! {
    version_bump => saying("env!(\"CARGO_PKG_VERSION\")", "0.1.0").build([
        step("a new version").replace("app/Cargo.toml", "0.1.0", "0.2.0").compiles(PROGRAM).says("0.2.0"),
        step("the same commit"),
        step("the old version").back_to(0).says("0.1.0"),
    ]);

    manifest_comment => package().build([
        step("a comment").replace("app/Cargo.toml", "[package]", "# A comment.\n[package]").compiles(PROGRAM)
            .more("who reads manifests unseen is built anew"),
    ]);

    manifest_comment_with_a_script =>
        scripted("let word = fs::read_to_string(\"word.txt\").unwrap();").build([
            step("a comment").replace("app/Cargo.toml", "[package]", "# A comment.\n[package]").compiles(SCRIPT).more("who reads manifests unseen is built anew"),
        ]);

    new_feature => saying("if cfg!(feature = \"loud\") { \"LOUD\" } else { \"quiet\" }", "quiet").build([
        step("declared").write("app/Cargo.toml", &manifest("app", "[features]\nloud = []\n")).compiles(PROGRAM),
        step("default").write("app/Cargo.toml", &manifest("app", "[features]\ndefault = [\"loud\"]\nloud = []\n"))
            .compiles(PROGRAM).says("LOUD"),
    ]);

    feature_to_and_fro => featured().build([
        step("with it").words(&["--features", "loud"]).compiles(PROGRAM).says("LOUD"),
        step("without it").says("quiet"),
        step("with it again").words(&["--features", "loud"]).says("LOUD"),
    ]);

    profile_to_and_fro => package().build([
        step("release").words(&["--release"]).all(),
        step("dev"),
        step("release again").words(&["--release"]),
        step("an edit").words(&["--release"]).replace("app/src/part.rs", "two", "2").compiles(PROGRAM).says("one 2"),
        step("and dev").compiles(PROGRAM),
    ]);

    flags_to_and_fro => saying(FLAG, "quiet").build([
        step("with a flag").env("RUSTFLAGS", "--cfg loud").all().says("LOUD"),
        step("without").says("quiet"),
        step("with it again").env("RUSTFLAGS", "--cfg loud").says("LOUD"),
    ]);

    profile_in_the_manifest => package().build([
        step("optimised").write("app/Cargo.toml", &manifest("app", "[profile.dev]\nopt-level = 1\n")).all(),
        step("as before").back_to(0),
    ]);

    settings_of_cargo => saying(FLAG, "quiet").with("app/.cargo/config.toml", "[build]\nrustflags = []\n").build([
        step("with a flag").write("app/.cargo/config.toml", "[build]\nrustflags = [\"--cfg\", \"loud\"]\n").all().says("LOUD"),
        step("without").back_to(0).says("quiet"),
    ]);

    variable_in_a_source => saying("option_env!(\"GIVEN\").unwrap_or(\"none\")", "none").build([
        step("set").env("GIVEN", "one").compiles(PROGRAM).says("one"),
        step("the same").env("GIVEN", "one"),
        step("not set: the first snapshot is the nearest").says("none").fewer(NEAREST),
    ]);

    /// The wrapper is a compiler of another version for all that cargo and larder can see.
    another_compiler => package()
        .with("tools/rustc", "#!/bin/sh\nif [ \"$*\" = -vV ]; then rustc -vV | sed \"s/^commit-hash: .*/commit-hash: ${ANSWER:-one}/\"; else exec rustc \"$@\"; fi\n")
        .executable("tools/rustc")
        .build([
            step("the same").env("RUSTC", "[ROOT]/work/tools/rustc").all().more(CLIPPYS),
            step("and again").env("RUSTC", "[ROOT]/work/tools/rustc"),
            step("another answer").env("RUSTC", "[ROOT]/work/tools/rustc").env("ANSWER", "two").all().more(CLIPPYS),
            step("the first answer").env("RUSTC", "[ROOT]/work/tools/rustc")
                .fewer("each compiler has snapshots of its own"),
            step("no wrapper").fewer("each compiler has snapshots of its own"),
        ]);

    dependency_from_a_mirror => vendored().build([
        step("the same commit"),
        step("a bump").replace("app/vendor/dep/Cargo.toml", "0.1.0", "0.1.1").compiles(&["dep lib", "app lib", "app bin"]).says("0.1.1"),
        step("the same commit"),
        step("back").back_to(0).says("0.1.0").fewer(NEAREST),
    ]);

    dependency_from_git => from_git().beginning(step("from nothing").online()).build([
        step("the same commit").online(),
        step("another tag").online().replace("app/Cargo.toml", "v1", "v2").compiles(&["dep lib", "app lib", "app bin"]).says("v2"),
        step("back").online().back_to(0).says("v1").fewer(NEAREST),
        step("with an empty CARGO_HOME").online().home_lost(),
    ]);

    dependency_by_path => package().build([
        step("a new one")
            .write("app/Cargo.toml", &manifest("app", "[dependencies]\nextra = { path = \"extra\" }\n"))
            .write("app/extra/Cargo.toml", &manifest("extra", ""))
            .write("app/extra/src/lib.rs", "pub const WORD: &str = \"three\";\n")
            .write("app/src/part.rs", "pub use extra::WORD;\n")
            .compiles(&["extra lib", "app lib", "app bin"]).says("one three"),
        step("the same commit"),
        step("gone again").back_to(0).says("one two").fewer(NEAREST),
    ]);

    without_a_lock_file => package().unlocked().with("app/.gitignore", "/target\n/Cargo.lock\n").build([
        step("the same commit"),
        step("an edit").replace("app/src/part.rs", "two", "2").compiles(PROGRAM).says("one 2"),
    ]);

    /// Each job has a snapshot of its own, and what is missing in it is taken from no other.
    jobs_in_turn => package().saying("").build([
        step("test").verb(Verb::Test).compiles(&["app lib-test", "app bin-test", "app test whole"]),
        step("build").verb(Verb::Build),
        step("build after an edit").verb(Verb::Build).replace("app/src/part.rs", "two", "2").compiles(PROGRAM),
        step("test of that edit").verb(Verb::Test).all().more("its own snapshot is older than the other job's"),
        step("build").verb(Verb::Build),
        step("test").verb(Verb::Test),
    ]);

    jobs_of_every_kind => package().saying("").build([
        step("clippy").verb(Verb::Clippy).all(),
        step("doc").verb(Verb::Doc).compiles(&["app doc"]),
        step("clippy again").verb(Verb::Clippy),
        step("doc again").verb(Verb::Doc),
        step("build again").verb(Verb::Build),
    ]);
}
