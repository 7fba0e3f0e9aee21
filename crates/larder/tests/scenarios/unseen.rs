//! Files that some unit names and another one reads without saying so; files that are made in another package.
//!
//! Cargo alone, in a checkout that stays, builds only who names them. In a fresh checkout without a cache all is built,
//! and so is right: larder must be too.

use crate::cargo::Verb;
use crate::projects::{RUN, SCRIPT, manifest, package, saying, scripted, workspace};
use crate::scenarios;
use crate::step::{NOTHING, Project, UNSEEN, step};

/// What stands on no macro and no script is not touched.
const WORD: &[&str] = &["word run", "word lib"];
const ALL: &[&str] = &["word run", "word lib", "tool bin"];

/// `tool` does not depend on `word`, and its macro reads this file, seen from there.
fn reading(path: &str) -> Project {
    workspace()
        .with("app/tool/Cargo.toml", &manifest("tool", "[dependencies]\nmac = { path = \"../mac\" }\n"))
        .with("app/tool/src/main.rs", "fn main() {\n    println!(\"{}\", mac::read!());\n}\n")
        .with(
            "app/mac/src/lib.rs",
            &format!(
                "use proc_macro::TokenStream;\n\n#[proc_macro]\npub fn read(_: TokenStream) -> TokenStream {{
    let path = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap() + \"/{path}\";
    format!(\"{{:?}}\", std::fs::read_to_string(path).unwrap_or(\"nothing\".into()).trim()).parse().unwrap()\n}}\n"
            ),
        )
}

/// The same with a macro that reads nothing at all.
fn reading_nothing() -> Project {
    reading("").saying("nothing").with(
        "app/mac/src/lib.rs",
        "#[proc_macro]\npub fn read(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n    \"\\\"nothing\\\"\".parse().unwrap()\n}\n",
    )
}

/// A package beside `app`, in its workspace, that names `motto.txt`.
fn with_a_member(project: Project) -> Project {
    project
        .with(
            "app/Cargo.toml",
            &manifest("app", "[workspace]\nmembers = [\"other\"]\ndefault-members = [\".\", \"other\"]\n"),
        )
        .with("app/other/Cargo.toml", &manifest("other", ""))
        .with("app/other/src/lib.rs", "pub const MOTTO: &str = include_str!(\"../motto.txt\");\n")
        .with("app/other/motto.txt", "plain\n")
}

const GENERATOR: &str = "fn main() {
    println!(\"cargo::rerun-if-changed=build.rs\");
    std::fs::write(\"../user/src/generated.rs\", \"pub const WORD: &str = \\\"generated\\\";\\n\").unwrap();
}
";

/// The script of `maker` writes a source of `user`, which depends on it.
fn made_by_another() -> Project {
    Project::new(
        "generated",
        &[
            ("app/Cargo.toml", "[workspace]\nresolver = \"2\"\nmembers = [\"maker\", \"user\"]\n"),
            ("app/.gitignore", "/target\n"),
            ("app/maker/Cargo.toml", &manifest("maker", "")),
            ("app/maker/build.rs", GENERATOR),
            ("app/maker/src/lib.rs", ""),
            ("app/user/Cargo.toml", &manifest("user", "[dependencies]\nmaker = { path = \"../maker\" }\n")),
            ("app/user/src/main.rs", "mod generated;\n\nfn main() {\n    println!(\"{}\", generated::WORD);\n}\n"),
        ],
    )
}

const MADE: &[&str] = &["maker script", "maker run", "maker lib", "user bin"];
const LACKING: &str = "a fresh checkout has no generated file";

scenarios! {
    named_by_a_test => workspace()
        .with("app/tool/tests/whole.rs", "const _: &str = include_str!(\"../read.txt\");\n")
        .test([
            step("the same commit"),
            step("changed").replace("app/tool/read.txt", "unseen", "changed").says("plain changed").more(UNSEEN)
                .compiles(&["tool bin", "tool bin-test", "tool test whole", "word run", "word lib", "word lib-test"]),
        ]);

    named_by_a_script_of_another_package => reading("../word/word.txt").saying("plain").build([
        step("the same commit"),
        step("changed").replace("app/word/word.txt", "plain", "changed").compiles(ALL).says("changed").more(UNSEEN),
        step("the same commit"),
    ]);

    in_another_package_and_named_by_nobody => reading("../word/other.txt").saying("plain").with("app/word/other.txt", "plain\n").build([
        step("changed").replace("app/word/other.txt", "plain", "changed").says("changed").more(UNSEEN)
            .compiles(&["word script", "word run", "word lib", "tool bin"]),
        step("deleted").delete("app/word/other.txt").says("nothing").more(UNSEEN)
            .compiles(&["word script", "word run", "word lib", "tool bin"]),
    ]);

    manifest_of_another_package => reading("../word/Cargo.toml").saying("0.1.0").build([
        step("a version").replace("app/word/Cargo.toml", "0.1.0", "0.2.0").says("0.2.0").more(UNSEEN)
            .compiles(&["word script", "word run", "word lib", "tool bin"]),
    ]);

    by_a_macro_that_reads_nothing => reading_nothing().build([
        step("the same commit"),
        step("changed").replace("app/word/word.txt", "plain", "changed").compiles(WORD),
    ]);

    by_a_script_of_another_package =>
        with_a_member(scripted("println!(\"cargo::rerun-if-changed=build.rs\"); let word = fs::read_to_string(\"other/motto.txt\").unwrap();")).build([
            step("changed").replace("app/other/motto.txt", "plain", "changed").says("changed").more(UNSEEN)
                .compiles(&["other lib", "app script", "app run", "app lib", "app bin"]),
        ]);

    by_nobody_who_could => with_a_member(package()).build([
        step("changed").replace("app/other/motto.txt", "plain", "changed").compiles(&["other lib"]),
    ]);

    /// Both may have read it: the one that names another file runs again by that.
    named_by_a_script_beside_another => with_a_member(scripted(
        "println!(\"cargo::rerun-if-changed=word.txt\"); let word = fs::read_to_string(\"word.txt\").unwrap();",
    )).build([
        step("the other's").replace("app/other/motto.txt", "plain", "changed").compiles(&["other lib", "app run", "app lib", "app bin"]).more(UNSEEN),
        step("its own").replace("app/word.txt", "plain", "changed").compiles(RUN).says("changed"),
    ]);

    /// What is to be ignored is still seen by who names it.
    named_and_ignored => reading("../word/word.txt").saying("plain").with("app/larder.toml", "ignore = [\"word.txt\"]\n").build([
        step("changed").replace("app/word/word.txt", "plain", "changed").compiles(ALL).says("changed").more(UNSEEN),
    ]);

    an_example_that_is_not_built => reading("examples/show.rs").saying("fn main() {}").with("app/tool/examples/show.rs", "fn main() {}\n").build([
        step("the same commit"),
        step("changed").write("app/tool/examples/show.rs", "fn main() { main() }\n").compiles(&["tool bin"]).says("main()").more(UNSEEN),
        step("deleted").delete("app/tool/examples/show.rs").compiles(&["tool bin"]).says("nothing").more(UNSEEN),
        step("new").write("app/tool/examples/show.rs", "fn main() { 1; }\n").compiles(&["tool bin"]).says("1;").more(UNSEEN),
    ]);

    an_example_that_is_built => reading("examples/show.rs").saying("fn main() {}").with("app/tool/examples/show.rs", "fn main() {}\n")
        .with("app/tool/tests/whole.rs", "#[test]\nfn whole() {}\n").test([
            step("changed").write("app/tool/examples/show.rs", "fn main() { 1; }\n").says("1;").more(UNSEEN)
                .compiles(&["tool bin", "tool bin-test", "tool example show", "tool test whole"]),
        ]);

    a_test_that_is_not_built => reading("tests/whole.rs").saying("one").with("app/tool/tests/whole.rs", "// one\n").build([
        step("changed").write("app/tool/tests/whole.rs", "// two\n").compiles(&["tool bin"]).says("two").more(UNSEEN)
            .blind(Verb::Test, "a test that is built names its source, and nobody else is believed to read it"),
    ]);

    a_test_that_nobody_could_read => package().with("app/examples/show.rs", "fn main() {}\n").build([
        step("changed").replace("app/tests/whole.rs", "3", "2").compiles(NOTHING),
        step("an example").write("app/examples/show.rs", "fn main() { 1; }\n").compiles(NOTHING),
    ]);

    data_of_tests_in_another_package => reading("read.txt").with("app/word/tests/data.json", "1").saying("unseen").build([
        step("changed").write("app/word/tests/data.json", "2").compiles(&["word script", "word run", "word lib"]).more(UNSEEN),
    ]);

    made_by_another_package => made_by_another().build([
        step("the same commit").compiles(MADE).more(LACKING),
        step("another word").replace("app/maker/build.rs", "= \\\"generated", "= \\\"changed").compiles(MADE).says("changed"),
        step("the same commit").compiles(MADE).more(LACKING),
    ]);

    made_by_another_package_and_ignored => made_by_another().with("app/user/.gitignore", "/src/generated.rs\n").build([
        step("the same commit").compiles(MADE).more(LACKING),
    ]);

    /// rustdoc names no files, so nobody knows that it wants this one.
    made_for_documentation => package().saying("A word.").with("app/.gitignore", "/target\n/src/generated.rs\n")
        .with("app/build.rs", "fn main() {\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    std::fs::write(\"src/generated.rs\", \"/// A word.\\npub const WORD: u8 = 1;\\n\").unwrap();\n}\n")
        .with("app/src/lib.rs", "pub mod generated;\n").without("app/src/main.rs").without("app/src/part.rs").without("app/tests/whole.rs")
        .doc([
            step("the same commit").compiles(&["app script", "app run", "app doc"]).more(LACKING),
            step("an edit").write("app/src/lib.rs", "//! Edited.\npub mod generated;\n").compiles(&["app script", "app run", "app doc"]).more(LACKING),
            step("the same commit").compiles(&["app script", "app run", "app doc"]).more(LACKING),
            step("the script").replace("app/build.rs", "A word", "The word").compiles(&["app script", "app run", "app doc"]).says("The word."),
        ]);

    /// As long as the file is there nothing need be made.
    made_by_another_package_in_a_kept_checkout => made_by_another().build([
        step("kept").kept(),
        step("kept without target").kept_without_target(),
    ]);

    included_from_the_tests => saying("include_str!(\"../tests/whole.rs\")", "whole").build([
        step("changed").replace("app/tests/whole.rs", "fn whole", "fn entire").compiles(&["app lib", "app bin"]).says("entire"),
    ]);

    made_again_by_the_only_script =>
        scripted("println!(\"cargo::rerun-if-changed=word.txt\"); let word = fs::read_to_string(\"word.txt\").unwrap();")
            .with("app/src/old.rs", "").with("app/src/lib.rs", "mod old;\npub fn line() -> String {\n    env!(\"WORD\").to_owned()\n}\n").build([
                step("a module that a commit deletes").delete("app/src/old.rs").replace("app/src/lib.rs", "mod old;\n", "")
                    .compiles(RUN).more("a script may have made what is gone"),
                step("the script").replace("app/build.rs", "word.trim()", "word.trim().to_uppercase()").compiles(SCRIPT).says("PLAIN"),
            ]);
}
