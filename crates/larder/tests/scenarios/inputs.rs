//! Inputs that are no modules: included, generated, or read by a macro that tells nobody.

use crate::cargo::Verb;
use crate::projects::{PROGRAM, RUN, SCRIPT, package, saying, scripted, workspace};
use crate::scenarios;
use crate::step::{NEAREST, UNSEEN, step};

scenarios! {
    include_str => saying("include_str!(\"motto.txt\")", "plain").with("app/src/motto.txt", "plain\n").build([
        step("the same commit"),
        step("changed").replace("app/src/motto.txt", "plain", "changed").compiles(PROGRAM).says("changed"),
        step("deleted").delete("app/src/motto.txt").fails(),
        step("back").back_to(2).fewer("a failed build was not saved, so there is nothing to make good"),
    ]);

    include_str_outside_of_the_package =>
        saying("include_str!(\"../../shared/motto.txt\")", "plain").with("shared/motto.txt", "plain\n").build([
            step("the same commit"),
            step("changed").replace("shared/motto.txt", "plain", "changed").compiles(PROGRAM).says("changed"),
            step("deleted").delete("shared/motto.txt").write("shared/other.txt", "other").fails()
                .blind(Verb::Doc, "rustdoc tells cargo of no file, and cargo looks at those of the package only"),
            step("back").back_to(0).says("plain").fewer(NEAREST),
        ]);

    include_bytes_of_an_ignored_file =>
        saying("String::from_utf8_lossy(include_bytes!(\"../secret.bin\"))", "plain")
            .with("app/.gitignore", "/target\n/secret.bin\n").with("app/secret.bin", "plain\n").build([
                step("made again, the same"),
                step("made again, another").replace("app/secret.bin", "plain", "changed").compiles(PROGRAM).says("changed"),
            ]);

    generated_before_cargo => package()
        .with("app/.gitignore", "/target\n/src/part.rs\n").build([
            step("generated again, the same"),
            step("generated again, another").replace("app/src/part.rs", "two", "2").compiles(PROGRAM).says("one 2"),
            step("and the first one").back_to(0).says("one two").fewer(NEAREST),
        ]);

    /// The checkout lacks what an earlier run of the script left there: only another run brings it back.
    generated_by_a_script_into_the_sources =>
        scripted(&format!("println!(\"cargo::rerun-if-changed=word.txt\"); {GENERATE}"))
            .with("app/.gitignore", "/target\n/src/generated.txt\n")
            .with("app/src/lib.rs", "pub fn line() -> String {\n    include_str!(\"generated.txt\").into()\n}\n")
            .saying("generated plain").build([
                step("the same commit").compiles(SCRIPT).more("a fresh checkout has no generated file"),
                step("another word").replace("app/word.txt", "plain", "changed").compiles(SCRIPT).says("generated changed").more("a fresh checkout has no generated file"),
            ]);

    /// Nobody but git could tell it from a source that a commit deleted.
    generated_by_a_script_and_not_ignored =>
        scripted(&format!("println!(\"cargo::rerun-if-changed=word.txt\"); {GENERATE}"))
            .with("app/src/lib.rs", "pub fn line() -> String {\n    include_str!(\"generated.txt\").into()\n}\n")
            .saying("generated plain").build([
                step("the same commit").compiles(RUN).more("a fresh checkout has no generated file"),
                step("another word").replace("app/word.txt", "plain", "changed").compiles(RUN).says("generated changed").more("a fresh checkout has no generated file"),
            ]);

    generated_by_an_unconditional_script_into_the_sources =>
        scripted(GENERATE)
            .with("app/.gitignore", "/target\n/src/generated.txt\n")
            .with("app/src/lib.rs", "pub fn line() -> String {\n    include_str!(\"generated.txt\").into()\n}\n")
            .saying("generated plain").build([
                step("the same commit").compiles(SCRIPT).more("a fresh checkout has no generated file"),
            ]);

    /// The script of `word` names one file, and nobody can know that it reads no other.
    unseen_by_cargo_changed => workspace().build([
        step("the same commit"),
        step("changed").replace("app/tool/read.txt", "unseen", "changed").compiles(TOOL_AND_WORD).says("plain changed").more(UNSEEN),
        step("back").back_to(0).says("plain unseen").fewer(NEAREST),
    ]);

    unseen_by_cargo_deleted => workspace().build([
        step("deleted").delete("app/tool/read.txt").compiles(TOOL_AND_WORD).says("plain nothing").more(UNSEEN),
        step("the same commit"),
        step("new").write("app/tool/read.txt", "new\n").compiles(TOOL_AND_WORD).says("plain new").more(UNSEEN),
    ]);

    unseen_by_cargo_renamed => workspace().build([
        step("renamed").rename("app/tool/read.txt", "app/tool/reads.txt").compiles(TOOL_AND_WORD).says("plain nothing").more(UNSEEN),
    ]);

    /// What belongs to no package may be read by every member.
    unseen_at_the_root_of_the_workspace => workspace().with("app/shared.txt", "one\n").build([
        step("changed").replace("app/shared.txt", "one", "two").all().more(UNSEEN),
        step("deleted").delete("app/shared.txt").all().more(UNSEEN),
        step("the same commit"),
    ]);

    unseen_in_a_package_that_reads_nothing => package().with("app/notes.txt", "one\n").build([
        step("changed").replace("app/notes.txt", "one", "two").compiles(PROGRAM).more(UNSEEN),
    ]);

    unseen_and_said_to_be_an_input =>
        scripted("println!(\"cargo::rerun-if-changed=build.rs\"); let word = fs::read_to_string(\"../elsewhere/word.txt\").unwrap();")
            .with("app/larder.toml", "inputs = [\"../elsewhere\"]\n").with("elsewhere/word.txt", "plain\n").build([
                step("the same commit"),
                step("changed").replace("elsewhere/word.txt", "plain", "changed").compiles(SCRIPT).says("changed").more(UNSEEN),
                step("the same commit"),
            ]);

    said_to_be_no_input => package().with("app/larder.toml", "ignore = [\"/notes/\"]\n").with("app/notes/a.txt", "one\n").build([
        step("changed").replace("app/notes/a.txt", "one", "two"),
        step("deleted").delete("app/notes").write("app/notes/b.txt", "three\n"),
    ]);

    generated_by_a_script_that_watches_a_variable =>
        scripted(&format!("println!(\"cargo::rerun-if-env-changed=GIVEN\"); {GENERATE}"))
            .with("app/.gitignore", "/target\n/src/generated.txt\n")
            .with("app/src/lib.rs", "pub fn line() -> String {\n    include_str!(\"generated.txt\").into()\n}\n")
            .saying("generated plain").build([
                step("the same commit").compiles(SCRIPT).more("a fresh checkout has no generated file"),
            ]);

    /// A known limit: see the table in `main`.
    unseen_outside_of_everything =>
        scripted("println!(\"cargo::rerun-if-changed=build.rs\"); let word = fs::read_to_string(\"../elsewhere/word.txt\").unwrap();")
            .with("elsewhere/word.txt", "plain\n").build([
                step("changed").replace("elsewhere/word.txt", "plain", "changed").says("plain").stale("it is in no package and nobody names it"),
            ]);
}

const TOOL_AND_WORD: &[&str] = &["tool bin", "word run", "word lib"];
const GENERATE: &str = "let word = fs::read_to_string(\"word.txt\").unwrap(); fs::write(\"src/generated.txt\", format!(\"generated {word}\")).unwrap();";
