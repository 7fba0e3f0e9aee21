//! Packages beside each other: members of a workspace, repositories beside a repository.

use crate::cargo::Verb;
use crate::projects::{manifest, siblings, workspace};
use crate::scenarios;
use crate::step::{NEAREST, UNSEEN, step};

const ALL: &[&str] = &["consensus lib", "protocol lib", "app bin"];
const SCRIPT: &[&str] = &["consensus script", "consensus run", "consensus lib", "protocol lib", "app bin"];
const MEMBERS: &str = "[workspace]\nresolver = \"2\"\nmembers = [\"tool\", \"word\", \"mac\", \"late\"]\n";

scenarios! {
    beside_through_a_link => siblings()
        .moved("protocol", "real/protocol").linked("protocol", "real/protocol")
        .build([
            step("the same commits"),
            step("protocol").replace("real/protocol/src/lib.rs", "10", "20").compiles(&["protocol lib", "app bin"]).says("value 21"),
            step("consensus").replace("consensus/src/lib.rs", "1", "2").compiles(ALL).says("value 22"),
        ]);

    /// One repository holds the workspace and, outside of it, a package and a file that it is built from.
    below_the_root_of_a_repository => siblings()
        .moved("app", "mono/app").moved("protocol", "mono/protocol").moved("consensus", "mono/consensus").with("mono/limit.txt", "10")
        .with("mono/protocol/src/lib.rs", "pub fn value() -> u32 {\n    consensus::value() + include_str!(\"../../limit.txt\").parse::<u32>().unwrap()\n}\n")
        .working_in("mono/app")
        .build([
            step("the same commit"),
            step("consensus").replace("mono/consensus/src/lib.rs", "1", "2").compiles(ALL).says("value 12"),
            step("the file").write("mono/limit.txt", "20").compiles(&["protocol lib", "app bin"]).says("value 22"),
            step("what nobody reads").write("mono/notes.txt", "").says("value 22"),
        ]);

    beside_unchanged => siblings().build([step("the same commits"), step("and again")]);

    beside_leaf_edited => siblings().build([
        step("consensus").replace("consensus/src/lib.rs", "1", "2").compiles(ALL).says("value 12"),
        step("the same commits"),
    ]);

    beside_middle_edited => siblings().build([
        step("protocol").replace("protocol/src/lib.rs", "10", "20").compiles(&["protocol lib", "app bin"]).says("value 21"),
    ]);

    beside_at_another_commit => siblings().build([
        step("consensus moves on").replace("consensus/src/lib.rs", "1", "2").write("consensus/src/more.rs", "")
            .compiles(ALL).says("value 12"),
        step("it goes back").back_to(0).says("value 11").fewer(NEAREST),
        step("app moves on").replace("app/src/main.rs", "value {}", "number {}").compiles(&["app bin"]).says("number 11"),
    ]);

    beside_missing => siblings().build([
        step("it is missing").delete("consensus").fails(),
        step("it is back").back_to(0).fewer("a failed build was not saved, so there is nothing to make good"),
    ]);

    beside_with_an_included_file => siblings()
        .with("protocol/limit.txt", "10")
        .with("protocol/src/lib.rs", "pub fn value() -> u32 {\n    consensus::value() + include_str!(\"../limit.txt\").parse::<u32>().unwrap()\n}\n")
        .build([
            step("the same commits"),
            step("the file").write("protocol/limit.txt", "30").compiles(&["protocol lib", "app bin"]).says("value 31"),
        ]);

    beside_with_a_file_of_another => siblings()
        .with("consensus/limit.txt", "10")
        .with("protocol/src/lib.rs", "pub fn value() -> u32 {\n    consensus::value() + include_str!(\"../../consensus/limit.txt\").parse::<u32>().unwrap()\n}\n")
        .build([
            step("the file").write("consensus/limit.txt", "30").compiles(&["protocol lib", "app bin"]).says("value 31"),
            step("deleted").delete("consensus/limit.txt").fails(),
        ]);

    beside_with_a_script => siblings()
        .with("consensus/build.rs", "fn main() {\n    println!(\"cargo::rustc-env=N={}\", std::fs::read_to_string(\"n.txt\").unwrap_or(\"5\".into()));\n}\n")
        .with("consensus/n.txt", "1")
        .with("consensus/src/lib.rs", "pub fn value() -> u32 {\n    env!(\"N\").parse().unwrap()\n}\n")
        .build([
            step("the same commits"),
            step("its file").write("consensus/n.txt", "2").compiles(SCRIPT).says("value 12").more(UNSEEN),
            step("gone").delete("consensus/n.txt").compiles(SCRIPT).says("value 15").more(UNSEEN),
            step("another sibling").replace("protocol/src/lib.rs", "10", "20").compiles(&["protocol lib", "app bin"]).says("value 25"),
        ]);

    beside_knowing_its_path => siblings()
        .with("consensus/src/lib.rs", "pub fn value() -> u32 {\n    env!(\"CARGO_MANIFEST_DIR\").matches(\"elsewhere\").count() as u32\n}\n")
        .saying("value 10")
        .build([
            step("all elsewhere").at("elsewhere").all().says("value 11").more("nothing that was built for another path may be used"),
            step("where they were").says("value 10"),
        ]);

    patch_removed => siblings()
        .with("app/.cargo/config.toml", "[source.crates-io]\nreplace-with = \"vendored\"\n\n[source.vendored]\ndirectory = \"vendor\"\n")
        .with("app/vendor/consensus/Cargo.toml", &manifest("consensus", ""))
        .with("app/vendor/consensus/.cargo-checksum.json", "{\"files\":{}}\n")
        .with("app/vendor/consensus/src/lib.rs", "pub fn value() -> u32 {\n    7\n}\n")
        .build([
            step("the registry's instead").replace("app/Cargo.toml", "[patch.crates-io]\nconsensus = { path = \"../consensus\" }\n", "")
                .compiles(ALL).says("value 17"),
            step("the sibling's again").back_to(0).says("value 11").fewer(NEAREST),
        ]);

    beside_under_test => siblings().saying("test works ... ok")
        .with("app/src/lib.rs", "pub fn value() -> u32 {\n    protocol::value()\n}\n\n#[test]\nfn works() {\n    assert!(value() > 10);\n}\n")
        .test([
            step("the same commits"),
            step("consensus").replace("consensus/src/lib.rs", "1", "2")
                .compiles(&["consensus lib", "protocol lib", "app lib", "app lib-test", "app bin-test"]),
        ]);

    members_unchanged => workspace().build([step("the same commit"), step("and again")]);

    members_under_every_command => workspace().saying("").build([
        step("test").verb(Verb::Test).compiles(&["word lib-test", "mac macro-test", "tool bin-test"]),
        step("clippy").verb(Verb::Clippy).all(),
        step("doc").verb(Verb::Doc).compiles(&["word lib", "word doc", "mac doc", "tool doc"]),
        step("test again").verb(Verb::Test),
        step("clippy again").verb(Verb::Clippy),
        step("doc again").verb(Verb::Doc),
    ]);

    members_edited => workspace().build([
        step("word").replace("app/word/word.txt", "plain", "changed").compiles(&["word run", "word lib", "tool bin"]).says("changed unseen"),
        step("mac").replace("app/mac/src/lib.rs", "text.trim()", "text.trim().to_uppercase()").compiles(&["mac macro", "tool bin"]).says("changed UNSEEN"),
        step("tool").replace("app/tool/src/main.rs", "{} {}", "{}, {}").compiles(&["tool bin"]).says("changed, UNSEEN"),
    ]);

    member_added_and_removed => workspace().build([
        step("added").write("app/Cargo.toml", MEMBERS).write("app/late/Cargo.toml", &manifest("late", ""))
            .write("app/late/src/main.rs", "fn main() {\n    println!(\"late\");\n}\n")
            .compiles(&["late bin", "tool bin", "word run", "word lib"]).says("late").more(UNSEEN),
        step("the same commit"),
        step("removed").back_to(0).says("plain unseen"),
    ]);

    member_renamed => workspace().build([
        step("its folder").rename("app/word", "app/text").write("app/Cargo.toml", "[workspace]\nresolver = \"2\"\nmembers = [\"tool\", \"text\", \"mac\"]\n")
            .replace("app/tool/Cargo.toml", "../word", "../text")
            .compiles(&["word script", "word run", "word lib", "tool bin"]),
        step("the same commit"),
    ]);
}
