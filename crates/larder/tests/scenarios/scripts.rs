//! Build scripts of every kind.

use crate::projects::{PROGRAM, RUN, SCRIPT, scripted};
use crate::scenarios;
use crate::step::{NEAREST, Project, UNSEEN, step};

fn by_file() -> Project {
    scripted("println!(\"cargo::rerun-if-changed=word.txt\"); let word = fs::read_to_string(\"word.txt\").unwrap();")
}

/// The word is all the files of a folder.
fn by_folder() -> Project {
    scripted(
        "println!(\"cargo::rerun-if-changed=words\");
    let mut words: Vec<String> = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(\"words\")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { words.push(fs::read_to_string(path).unwrap().trim().into()) }
        }
    }
    words.sort();
    let word = words.join(\" \");",
    )
    .with("app/words/a.txt", "a\n")
    .with("app/words/deep/b.txt", "b\n")
    .without("app/word.txt")
    .saying("a b")
}

fn by_variable() -> Project {
    scripted(
        "println!(\"cargo::rerun-if-env-changed=GIVEN\"); let word = std::env::var(\"GIVEN\").unwrap_or(\"none\".into()); drop(fs::metadata(\".\"));",
    )
    .saying("none")
}

/// It says nothing, so cargo takes the newest time of all files of the package for its input.
fn by_everything() -> Project {
    scripted("let word = fs::read_to_string(\"word.txt\").unwrap_or(\"absent\".into());")
}

fn by_missing() -> Project {
    scripted(
        "println!(\"cargo::rerun-if-changed=absent.txt\"); let word = fs::read_to_string(\"absent.txt\").unwrap_or(\"plain\".into());",
    )
}

scenarios! {
    file => by_file().build([
        step("the same commit"),
        step("its file").replace("app/word.txt", "plain", "changed").compiles(RUN).says("changed"),
        step("a source").replace("app/src/lib.rs", "env!(\"WORD\")", "concat!(env!(\"WORD\"), \"!\")").compiles(PROGRAM).says("changed!"),
        step("the first commit").back_to(0).says("plain").fewer(NEAREST),
    ]);

    file_deleted => by_file().build([
        step("its file").delete("app/word.txt").fails(),
        step("back").back_to(0).fewer("a failed build was not saved, so there is nothing to make good"),
    ]);

    script_itself => by_file().build([
        step("build.rs").replace("app/build.rs", "word.trim()", "word.trim().to_uppercase()").compiles(SCRIPT).says("PLAIN"),
        step("the same commit"),
    ]);

    /// As scripts that put the commit into the program do.
    head_of_git => scripted("println!(\"cargo::rerun-if-changed=.git/HEAD\"); let word = fs::read_to_string(\".git/HEAD\").unwrap();")
        .with("app/.git/HEAD", "ref: refs/heads/one\n").saying("refs/heads/one").build([
            step("the same branch"),
            step("another branch").write("app/.git/HEAD", "ref: refs/heads/two\n").compiles(RUN).says("refs/heads/two"),
            step("a source").replace("app/src/main.rs", "app::line()", "app::line() + \"!\"").compiles(&["app bin"]).says("refs/heads/two!"),
            step("the first branch").back_to(0).says("refs/heads/one").fewer(NEAREST),
        ]);

    /// A branch's own file comes and goes when git packs it.
    branch_of_git => scripted("println!(\"cargo::rerun-if-changed=.git/refs/heads/one\"); let word = fs::read_to_string(\".git/refs/heads/one\").unwrap();")
        .with("app/.git/HEAD", "ref: refs/heads/one\n").with("app/.git/refs/heads/one", "1111111111111111111111111111111111111111\n")
        .saying("1111").build([
            step("the same commit"),
            step("another commit").write("app/.git/refs/heads/one", "2222222222222222222222222222222222222222\n").compiles(RUN).says("2222"),
        ]);

    folder_file_changed => by_folder().build([
        step("the same commit"),
        step("a file").replace("app/words/a.txt", "a", "A").compiles(RUN).says("A b"),
        step("a nested file").replace("app/words/deep/b.txt", "b", "B").compiles(RUN).says("A B"),
        step("a source").replace("app/src/lib.rs", "env!(\"WORD\")", "concat!(env!(\"WORD\"), \"!\")").compiles(PROGRAM).says("A B!"),
    ]);

    folder_file_added => by_folder().build([
        step("a file").write("app/words/c.txt", "c\n").compiles(RUN).says("a b c"),
        step("a nested file").write("app/words/deep/d.txt", "d\n").compiles(RUN).says("a b c d"),
        step("the same commit"),
    ]);

    folder_file_removed => by_folder().with("app/words/c.txt", "c\n").with("app/words/deep/d.txt", "d\n").saying("a b c d").build([
        step("a file").delete("app/words/c.txt").compiles(RUN).says("a b d"),
        step("a nested file").delete("app/words/deep/d.txt").compiles(RUN).says("a b"),
        step("a nested folder").delete("app/words/deep").compiles(RUN).says("a"),
        step("the same commit"),
    ]);

    folder_file_renamed => by_folder().build([
        step("a file").rename("app/words/a.txt", "app/words/z.txt").compiles(RUN),
    ]);

    folder_with_an_empty_one => by_folder().build([
        step("an empty folder comes").empty_dir("app/words/empty").compiles(RUN),
        step("the same commit"),
    ]);

    variable => by_variable().build([
        step("the same commit"),
        step("set").env("GIVEN", "one").compiles(RUN).says("one"),
        step("the same").env("GIVEN", "one"),
        step("another").env("GIVEN", "two").compiles(RUN).says("two"),
        step("not set: the first snapshot is the nearest").says("none").fewer(NEAREST),
    ]);

    everything => by_everything().build([
        step("the same commit"),
        step("a source").replace("app/src/main.rs", "app::line()", "app::line() + \"!\"").compiles(RUN).says("plain!"),
        step("a file that it reads").replace("app/word.txt", "plain", "changed").compiles(SCRIPT).says("changed!").more(UNSEEN),
        step("the same commit"),
    ]);

    everything_with_what_nobody_builds_from =>
        by_everything().with("app/docs/guide.md", "one\n").with("app/.hidden", "").build([
            step("the same commit"),
            step("a guide").replace("app/docs/guide.md", "one", "two").compiles(RUN),
            step("the same commit"),
        ]);

    everything_without_a_lock_file => by_everything().unlocked().build([
        step("the same commit"),
    ]);

    everything_with_a_file_deleted => by_everything().build([
        step("the file that it reads").delete("app/word.txt").compiles(SCRIPT).says("absent").more(UNSEEN),
        step("the same commit"),
        step("it comes back").back_to(0).says("plain").fewer(NEAREST),
    ]);

    everything_with_another_file_deleted => by_everything().with("app/other.txt", "other\n").build([
        step("another file").delete("app/other.txt").compiles(SCRIPT).more(UNSEEN),
    ]);

    /// cargo runs such a script every time: see the table in `main`.
    missing => by_missing().build([
        step("the same commit").compiles(RUN),
        step("it appears").write("app/absent.txt", "present").compiles(RUN).says("present"),
        step("the same commit"),
        step("it goes again").delete("app/absent.txt").compiles(RUN).says("plain"),
    ]);
}
