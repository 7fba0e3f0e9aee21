//! How a checkout comes about: kept, moved, dated by somebody, made on a machine with another clock.

use crate::projects::{PROGRAM, RUN, SCRIPT, manifest, package, saying, scripted};
use crate::scenarios;
use crate::step::{NEAREST, UNSEEN, step};

const OTHER_PATH: &str = "nothing that was built for another path may be used";

scenarios! {
    kept_with_its_target => package().build([
        step("nothing changed").kept(),
        step("an edit").kept().replace("app/src/part.rs", "two", "2").compiles(PROGRAM).says("one 2"),
        step("its revert").kept().back_to(0).says("one two")
            .fewer("the build of that commit is in the store, and the target directory that it replaces is too"),
        step("a fresh one"),
    ]);

    kept_without_its_target => package().build([
        step("nothing changed").kept_without_target(),
        step("an edit").kept_without_target().replace("app/src/part.rs", "two", "2").compiles(PROGRAM).says("one 2"),
        step("a module gone").kept_without_target().delete("app/src/part.rs")
            .replace("app/src/lib.rs", "mod part;", "mod part {\n    pub const WORD: &str = \"in\";\n}")
            .compiles(PROGRAM).says("one in"),
    ]);

    touched_and_not_changed => package().build([
        step("kept").kept().touched("app/src/part.rs"),
        step("kept without target").kept_without_target().touched("app/src/part.rs"),
        step("fresh").touched("app/src/part.rs"),
    ]);

    /// As `tar`, `rsync -t` and tools that date files by their commits do.
    changed_and_dated_back => package().build([
        step("kept").kept().replace("app/src/part.rs", "two", "2").old("app/src/part.rs").compiles(PROGRAM).says("one 2"),
        step("kept without target").kept_without_target().replace("app/src/part.rs", "2", "3").old("app/src/part.rs")
            .compiles(PROGRAM).says("one 3"),
        step("fresh").replace("app/src/part.rs", "3", "4").old("app/src/part.rs").compiles(PROGRAM).says("one 4"),
    ]);

    /// Length and time are those of the file before.
    changed_and_dated_as_before => package().build([
        step("kept").kept().replace("app/src/part.rs", "two", "TWO").dated_as_before("app/src/part.rs")
            .compiles(PROGRAM).says("one TWO"),
        step("kept without target").kept_without_target().replace("app/src/part.rs", "TWO", "Two").dated_as_before("app/src/part.rs")
            .compiles(PROGRAM).says("one Two"),
        step("fresh").replace("app/src/part.rs", "Two", "tWo").dated_as_before("app/src/part.rs")
            .compiles(PROGRAM).says("one tWo"),
    ]);

    deleted_in_a_kept_checkout =>
        scripted("let word = fs::read_to_string(\"word.txt\").unwrap_or(\"absent\".into());").build([
            step("kept").kept().delete("app/word.txt").compiles(SCRIPT).says("absent").more(UNSEEN),
            step("back, without target").kept_without_target().back_to(0).says("plain").fewer(NEAREST),
        ]);

    clock_ahead => package().beginning(step("from nothing").ahead()).build([
        step("the same commit on time").all().more("sources from now on would be older than what was built"),
        step("the same commit"),
    ]);

    clock_ahead_and_an_edit => package().beginning(step("from nothing").ahead()).build([
        step("an edit on time").replace("app/src/part.rs", "two", "2").all().says("one 2"),
    ]);

    clock_ahead_later => package().build([
        step("an edit").replace("app/src/part.rs", "two", "2").ahead().compiles(PROGRAM).says("one 2"),
        step("another on time").replace("app/src/part.rs", "2", "3").compiles(PROGRAM).says("one 3"),
    ]);

    moved => saying("env!(\"CARGO_MANIFEST_DIR\")", "[ROOT]/work/app").build([
        step("elsewhere").at("elsewhere").all().says("[ROOT]/elsewhere/app").more(OTHER_PATH),
        step("elsewhere again").at("elsewhere").says("[ROOT]/elsewhere/app"),
        step("where it was").says("[ROOT]/work/app"),
    ]);

    moved_with_an_edit => scripted("let word = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap(); drop(fs::metadata(\".\"));")
        .saying("[ROOT]/work/app").build([
            step("elsewhere").at("elsewhere").all().says("[ROOT]/elsewhere/app").more(OTHER_PATH),
            step("an edit elsewhere").at("elsewhere").replace("app/src/main.rs", "app::line()", "app::line() + \"!\"")
                .compiles(RUN).says("[ROOT]/elsewhere/app!"),
            step("where it was").compiles(RUN).says("[ROOT]/work/app!").more("here the edit is new"),
        ]);

    moved_home => package().build([
        step("another CARGO_HOME").env("CARGO_HOME", "[ROOT]/other-home").all().more(OTHER_PATH),
        step("and again").env("CARGO_HOME", "[ROOT]/other-home"),
        step("the first one"),
    ]);

    below_a_folder => package().with("app/Cargo.toml", &manifest("app", "[workspace]\n")).build([
        step("elsewhere, deeper").at("deep/er").all().more(OTHER_PATH),
        step("where it was"),
    ]);
}
