//! Builds that do not end well, and what is saved of them.

use crate::projects::{PROGRAM, manifest, package, scripted, siblings};
use crate::scenarios;
use crate::step::{NEAREST, killed, step};

const SAVE: &[&str] = &["--save", "always"];

scenarios! {
    failed_and_saved => siblings().build([
        step("app is wrong").replace("consensus/src/lib.rs", "1", "2").replace("app/src/main.rs", "value()", "valu()").options(SAVE).fails(),
        step("app is right").replace("app/src/main.rs", "valu()", "value()").compiles(&["app bin"]).says("value 12"),
    ]);

    failed_and_not_saved => siblings().build([
        step("app is wrong").replace("consensus/src/lib.rs", "1", "2").replace("app/src/main.rs", "value()", "valu()").fails(),
        step("app is right").replace("app/src/main.rs", "valu()", "value()")
            .compiles(&["consensus lib", "protocol lib", "app bin"]).says("value 12").more("a failed build is not saved"),
    ]);

    failed_and_saved_and_taken_back => package().build([
        step("wrong").replace("app/src/part.rs", "two", "2\"; oops").options(SAVE).fails(),
        step("as before").back_to(0).fewer(NEAREST),
    ]);

    failed_from_nothing => package().with("app/src/part.rs", "oops").beginning(step("wrong").options(SAVE).fails()).build([
        step("right").write("app/src/part.rs", "pub const WORD: &str = \"two\";\n").compiles(PROGRAM),
    ]);

    failed_script => scripted("println!(\"cargo::rerun-if-changed=word.txt\"); let word = fs::read_to_string(\"word.txt\").unwrap(); assert!(word.len() > 2);").build([
        step("it panics").write("app/word.txt", "x").options(SAVE).fails(),
        step("the same again").options(SAVE).fails(),
        step("right").write("app/word.txt", "good").compiles(crate::projects::RUN).says("good"),
    ]);

    /// Everything dies while the script runs: what was made before is kept, what was not is made.
    killed_and_saved => package()
        .with("app/Cargo.toml", &manifest("app", "[dependencies]\nslow = { path = \"slow\" }\n"))
        .with("app/slow/Cargo.toml", &manifest("slow", "[build-dependencies]\nearly = { path = \"../early\" }\n"))
        .with("app/slow/build.rs", killed::SCRIPT)
        .with("app/slow/src/lib.rs", "pub const WORD: &str = env!(\"WORD\");\n")
        .with("app/early/Cargo.toml", &manifest("early", ""))
        .with("app/early/src/lib.rs", "pub const WORD: &str = \"two\";\n")
        .with("app/src/part.rs", "pub use slow::WORD;\n")
        .build([
            step("killed from the first").replace("app/early/src/lib.rs", "two", "2").options(SAVE).killed(),
            step("once more").compiles(&["slow run", "slow lib", "app lib", "app bin"]).says("one 2").fewer("no undisturbed build was killed, so none is half done"),
            step("the same commit"),
        ]);
}
