//! The schemas of `--format json`, checked in for whoever reads it, and equal to the types that write it.

use crate::commands::{gc, guard, init, pin, setup};
use crate::{bench, holdings, report};
use std::path::Path;

/// Rewrites the files instead of comparing them.
const UPDATE: &str = "UPDATE_SCHEMAS";

#[test]
fn the_schemas_are_those_of_the_types() {
    let schemas = [
        ("restore", schemars::schema_for!(report::Transfer)),
        ("save", schemars::schema_for!(report::Transfer)),
        ("run", schemars::schema_for!(report::Run)),
        ("ls", schemars::schema_for!(report::Ls)),
        ("du", schemars::schema_for!(holdings::Du)),
        ("status", schemars::schema_for!(holdings::Status)),
        ("verify", schemars::schema_for!(report::Verify)),
        ("verify-repair", schemars::schema_for!(report::Repair)),
        ("rm", schemars::schema_for!(report::Rm)),
        ("gc", schemars::schema_for!(gc::Gc)),
        ("guard", schemars::schema_for!(guard::Guard)),
        ("pin", schemars::schema_for!(pin::Pins)),
        ("unpin", schemars::schema_for!(pin::Pins)),
        ("why", schemars::schema_for!(report::Why)),
        ("report", schemars::schema_for!(crate::history::figures::Report)),
        ("setup", schemars::schema_for!(setup::Setup)),
        ("install-runner", schemars::schema_for!(report::InstallRunner)),
        ("audit", schemars::schema_for!(report::audit::Report)),
        ("init", schemars::schema_for!(init::Init)),
        ("config", schemars::schema_for!(report::Config)),
        ("bench", bench::schema()),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let update = std::env::var_os(UPDATE).is_some_and(|value| value == "1");
    let mut names: Vec<String> = Vec::new();
    for (command, mut schema) in schemas {
        schema.insert("title".to_owned(), format!("larder {command} --format json").into());
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).expect("a schema is plain data"));
        let name = format!("{command}.json");
        let path = folder.join(&name);
        if update {
            larder_fs::create_parents(&folder).expect("the repository can be written to");
            larder_fs::Dir::open(&folder)
                .and_then(|dir| {
                    dir.remove_all(name.as_ref())?;
                    larder_fs::write_new(&dir, name.as_ref(), &[text.as_bytes()], false)
                })
                .expect("the repository can be written to");
        }
        let checked_in = larder_fs::read_optional(&path).expect("the repository can be read").unwrap_or_default();
        assert!(
            checked_in == text.as_bytes(),
            "schemas/{name} is not what the types say: run this test with {UPDATE}=1, and raise SCHEMA_VERSION if a \
             field changed its meaning or went away"
        );
        names.push(name);
    }
    let there = larder_fs::Dir::open(&folder).and_then(|dir| dir.entries()).expect("the schemas are checked in");
    for entry in there {
        assert!(names.iter().any(|name| entry.name == **name), "no command prints {}", entry.name.display());
    }
}
