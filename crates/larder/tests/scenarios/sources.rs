//! Edits of sources that cargo knows by name.

use crate::projects::{PROGRAM, manifest, package};
use crate::scenarios;
use crate::step::{NEAREST, UNSEEN, step};

scenarios! {
    unchanged => package().build([step("the same commit"), step("and again")]);

    edit => package().build([
        step("a module").replace("app/src/part.rs", "two", "2").compiles(PROGRAM).says("one 2"),
        step("the same commit"),
    ]);

    edit_of_the_program_only => package().build([
        step("main.rs").replace("app/src/main.rs", "app::line()", "app::line() + \"!\"")
            .compiles(&["app bin"]).says("one two!"),
    ]);

    edit_of_a_test_only => package().saying("test whole ... ok").test([
        step("tests/whole.rs").replace("app/tests/whole.rs", "fn whole", "fn entire")
            .compiles(&["app test whole"]).says("test entire ... ok"),
    ]);

    edit_of_an_inner_test => package().saying("test tests::inner ... ok")
        .with("app/src/lib.rs", "pub fn line() -> String {\n    \"one two\".into()\n}\n\n#[cfg(test)]\nmod tests;\n")
        .with("app/src/tests.rs", "#[test]\nfn inner() {}\n")
        .without("app/src/part.rs")
        .test([
            step("src/tests.rs").replace("app/src/tests.rs", "inner", "core")
                .compiles(&["app lib-test"]).says("test tests::core ... ok").more("only a job that builds tests names it"),
        ]);

    edit_seen_by_clippy => package().saying("unused variable: `first`")
        .with("app/src/main.rs", "fn main() {\n    let first = app::line();\n}\n")
        .clippy([
            step("the same commit"),
            step("another warning").replace("app/src/main.rs", "first", "second")
                .compiles(&["app bin"]).says("unused variable: `second`"),
        ]);

    /// rustc takes the metadata of an edit that changes none from its incremental data, by link, and cargo dates it:
    /// what is shared with the store must not be dated with it.
    compiled_to_the_same_under_clippy => package().saying("").clippy([
        step("a file that may be read").write("app/new.txt", "one\n").compiles(PROGRAM).more(UNSEEN),
        step("and changes").write("app/new.txt", "two\n").compiles(PROGRAM).more(UNSEEN),
        step("the same commit"),
        step("the first commit").back_to(0),
    ]);

    edit_of_documentation => package().saying("A line.").doc([
        step("the same commit"),
        step("a comment").replace("app/src/lib.rs", "A line.", "The line.").compiles(&["app doc"]).says("The line."),
        step("an item gone").replace("app/src/lib.rs", "/// The line.\npub fn", "fn").compiles(&["app doc"]).says("Crate app"),
    ]);

    documentation_that_includes_a_file => package()
        .with("app/src/lib.rs", "#![doc = include_str!(\"../README.md\")]\npub fn line() -> String {\n    \"one two\".into()\n}\n")
        .without("app/src/part.rs").with("app/README.md", "Read me.\n").saying("Read me.")
        .doc([
            step("the same commit"),
            step("README.md").replace("app/README.md", "Read", "Mind").compiles(&["app doc"]).says("Mind me."),
        ]);

    documentation_beside_other_files => package().with("app/README.md", "Read me.\n").saying("A line.").doc([
        step("README.md").replace("app/README.md", "Read", "Mind").compiles(&["app doc"]),
        step("a test").replace("app/tests/whole.rs", "3", "2").compiles(&["app doc"]),
        step("the same commit"),
    ]);

    revert_to_the_first_content => package().build([
        step("an edit").replace("app/src/part.rs", "two", "2").compiles(PROGRAM).says("one 2"),
        step("its revert").back_to(0).says("one two").fewer(NEAREST),
    ]);

    branches_to_and_fro => package().build([
        step("branch B").replace("app/src/part.rs", "two", "B").compiles(PROGRAM).says("one B"),
        step("branch A").back_to(0).says("one two").fewer(NEAREST),
        step("branch B").back_to(1).says("one B").fewer(NEAREST),
        step("branch A").back_to(0).says("one two").fewer(NEAREST),
        step("branch A again"),
    ]);

    older_commit_with_the_dates_of_commits => package().build([
        step("second commit").replace("app/src/part.rs", "two", "2").compiles(PROGRAM).says("one 2"),
        step("third commit").replace("app/src/part.rs", "2", "II").compiles(PROGRAM).says("one II"),
        step("first commit").back_to(0).old("app/src/part.rs").old("app/src/lib.rs").old("app/src/main.rs")
            .says("one two").fewer(NEAREST),
        step("one before it, which nobody built").replace("app/src/part.rs", "two", "0").old("app/src/part.rs")
            .old("app/src/lib.rs").old("app/src/main.rs").compiles(PROGRAM).says("one 0"),
    ]);

    delete_a_module => package().build([
        step("a module goes").delete("app/src/part.rs")
            .write("app/src/lib.rs", "pub fn line() -> String {\n    \"alone\".into()\n}\n")
            .compiles(PROGRAM).says("alone"),
        step("the same commit"),
    ]);

    delete_a_module_that_is_still_named => package().build([
        step("it goes").delete("app/src/part.rs").fails(),
        step("it comes back").back_to(0).fewer("a failed build was not saved, so there is nothing to make good"),
    ]);

    add_a_module => package().build([
        step("a module comes").write("app/src/more.rs", "pub const MORE: &str = \"three\";\n")
            .replace("app/src/lib.rs", "mod part;", "mod more;\nmod part;")
            .replace("app/src/lib.rs", "part::WORD", "more::MORE")
            .compiles(PROGRAM).says("one three"),
    ]);

    add_a_test => package().saying("test whole ... ok").test([
        step("tests/more.rs").write("app/tests/more.rs", "#[test]\nfn more() {}\n")
            .all().says("test more ... ok")
            .more("nobody can know who looked in vain for a file that is new: its package is built anew"),
        step("the same commit"),
    ]);

    add_a_program => package().build([
        step("src/bin/other.rs").write("app/src/bin/other.rs", "fn main() {\n    println!(\"other\");\n}\n")
            .all().says("other")
            .more("nobody can know who looked in vain for a file that is new: its package is built anew"),
    ]);

    rename_a_module => package().build([
        step("part becomes piece").rename("app/src/part.rs", "app/src/piece.rs")
            .replace("app/src/lib.rs", "part", "piece").compiles(PROGRAM),
        step("and back").back_to(0).fewer(NEAREST),
    ]);

    rename_a_module_to_a_folder => package().build([
        step("part.rs becomes part/mod.rs").rename("app/src/part.rs", "app/src/part/mod.rs").compiles(PROGRAM),
    ]);

    mode_only => package().build([step("executable").executable("app/src/part.rs")]);

    line_ends_and_marks => package().build([
        step("CRLF").write("app/src/part.rs", "pub const WORD: &str = \"two\";\r\n").compiles(PROGRAM),
        step("a byte order mark").write("app/src/part.rs", "\u{feff}pub const WORD: &str = \"two\";\r\n").compiles(PROGRAM),
        step("the same commit"),
    ]);

    symlinked_source => package()
        .with("app/common/first.rs", "pub const WORD: &str = \"two\";\n")
        .with("app/common/second.rs", "pub const WORD: &str = \"2\";\n")
        .without("app/src/part.rs")
        .linked("app/src/part.rs", "../common/first.rs")
        .build([
            step("the same commit"),
            step("what it leads to").replace("app/common/first.rs", "two", "II").compiles(PROGRAM).says("one II"),
            step("where it leads to").link("app/src/part.rs", "../common/second.rs").compiles(PROGRAM).says("one 2")
                .more("cargo compares the time of what it leads to now, and that is old"),
            step("the same commit"),
        ]);

    symlinked_folder => package()
        .with("app/common/part.rs", "pub const WORD: &str = \"two\";\n")
        .without("app/src/part.rs")
        .with("app/src/lib.rs", "#[path = \"linked/part.rs\"]\nmod part;\npub fn line() -> String {\n    format!(\"one {}\", part::WORD)\n}\n")
        .linked("app/src/linked", "../common")
        .build([
            step("the same commit"),
            step("a file behind it").replace("app/common/part.rs", "two", "II").compiles(PROGRAM).says("one II"),
        ]);

    folders_only => package().build([
        step("an empty folder").empty_dir("app/src/empty"),
        step("it is gone").delete("app/src/empty"),
    ]);

    what_nobody_builds_from => package()
        .with("app/docs/guide.md", "one\n")
        .with("app/.github/workflows/ci.yml", "on: push\n")
        .build([
            step("a guide").replace("app/docs/guide.md", "one", "two"),
            step("a workflow").replace("app/.github/workflows/ci.yml", "push", "pull_request"),
        ]);

    nested_package => package()
        .with("app/Cargo.toml", &manifest("app", "[dependencies]\nnested = { path = \"nested\" }\n"))
        .with("app/nested/Cargo.toml", &manifest("nested", ""))
        .with("app/nested/src/lib.rs", "pub const WORD: &str = \"two\";\n")
        .with("app/src/part.rs", "pub use nested::WORD;\n")
        .build([
            step("the same commit"),
            step("the inner one").replace("app/nested/src/lib.rs", "two", "2")
                .compiles(&["nested lib", "app lib", "app bin"]).says("one 2"),
            step("the outer one").replace("app/src/lib.rs", "one {}", "outer {}").compiles(PROGRAM).says("outer 2"),
            step("something new in the outer one").write("app/new.txt", "new\n").compiles(PROGRAM)
                .more("nobody can know who looked in vain for a file that is new: its package is built anew"),
            step("something new in the inner one").write("app/nested/new.txt", "new\n")
                .compiles(&["nested lib", "app lib", "app bin"])
                .more("nobody can know who looked in vain for a file that is new: its package is built anew"),
        ]);
}
