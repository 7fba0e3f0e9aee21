//! Every object that larder prints is what its schema says.

use crate::support::tree::{overwrite, plant};
use crate::support::{Args, Sandbox, args, said};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

struct Schemas {
    sandbox: Sandbox,
    seen: BTreeSet<String>,
}

impl Schemas {
    fn of(command: &str) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../schemas/{command}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// Runs larder, whatever its exit code, and checks its object.
    fn check(&mut self, words: Args) -> Value {
        let mut command = words.clone().into_iter().next().unwrap().into_string().unwrap();
        if words.clone().into_iter().any(|word| word == "--repair") {
            command.push_str("-repair");
        }
        let said = said(self.sandbox.larder(["--format", "json"]).args(words));
        let object = said.json();
        let schema = Self::of(&command);
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&object).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{command}: {errors:?}\n{said}");
        assert_eq!(object["schema_version"], 1);
        // New fields may come, but not without a word in the schema.
        let properties = schema["properties"].as_object().unwrap();
        let unknown: Vec<&String> =
            object.as_object().unwrap().keys().filter(|key| !properties.contains_key(*key)).collect();
        assert!(unknown.is_empty(), "{command}: {unknown:?}");
        self.seen.insert(command);
        object
    }
}

#[test]
fn every_command_prints_what_its_schema_says() {
    let mut schemas = Schemas { sandbox: Sandbox::new(), seen: BTreeSet::new() };
    let tree = schemas.sandbox.path("tree");
    plant(&tree);
    let keyed = |verb: &str, key: &str| args([verb, "--path"]).with(&tree).and(["--key", key]);
    let package = schemas.sandbox.path("package/Cargo.toml");
    fs::create_dir_all(package.parent().unwrap()).unwrap();
    fs::write(&package, "[package]\nname = 'a'\n[lib]\npath = 'Cargo.toml'\n").unwrap();
    schemas.check(args(["why", "--workspace", "package"]));
    schemas.check(args(["init", "package", "--dry-run"]));
    for empty in ["ls", "du", "status", "verify", "config", "report"] {
        schemas.check(args([empty]));
    }
    schemas.check(keyed("restore", "k"));
    schemas.check(keyed("save", "k").with("--dry-run"));
    schemas.check(keyed("save", "k").with("--spare"));
    schemas.check(keyed("restore", "k").with("--dry-run"));
    fs::remove_dir_all(&tree).unwrap();
    assert_eq!(schemas.check(keyed("restore", "k"))["link_modes"]["spare"], 3);
    schemas.check(keyed("restore", "other").and(["--fallback-key", "k"]));
    assert_eq!(schemas.check(keyed("run", "k").and(["--", "true"]))["save"]["outcome"], "saved");
    assert_eq!(schemas.check(keyed("run", "absent").and(["--", "false"]))["save"], Value::Null);
    assert_eq!(schemas.check(args(["ls"]))["snapshots"].as_array().unwrap().len(), 2);
    schemas.check(args(["du", "--by", "snapshot"]));
    schemas.check(args(["status"]));
    schemas.check(args(["verify"]));
    assert_eq!(schemas.check(args(["report"]))["totals"]["saves"], 2);
    let fan = fs::read_dir(schemas.sandbox.store.join("blobs")).unwrap().next().unwrap().unwrap().path();
    overwrite(&fs::read_dir(fan).unwrap().next().unwrap().unwrap().path(), b"damage");
    assert_eq!(schemas.check(args(["verify"]))["damaged"].as_array().unwrap().len(), 1);
    fs::write(schemas.sandbox.store.join("blobs/notes"), "of somebody").unwrap();
    assert_eq!(schemas.check(args(["verify", "--repair", "--dry-run"]))["clean"], false);
    let repaired = schemas.check(args(["verify", "--repair"]));
    assert_eq!((&repaired["clean"], repaired["steps"].as_array().unwrap().len()), (&true.into(), 1));
    assert_eq!(repaired["lacking"].as_array().unwrap().len(), 2);
    schemas.check(args(["pin", "k", "--reason", "for a while"]));
    schemas.check(args(["gc", "--need", "8000000TB", "--dry-run"]));
    assert_eq!(schemas.check(args(["unpin", "k"]))["changed"].as_array().unwrap().len(), 1);
    schemas.check(args(["gc", "--keep", "1"]));
    schemas.check(args(["guard", "--high", "100", "--low", "100", "--dry-run"]));
    assert_eq!(schemas.check(args(["setup", "--workspace", "package"]))["siblings"].as_array().unwrap().len(), 0);
    let workflow = schemas.sandbox.path("ci.yml");
    fs::write(
        &workflow,
        "on: push\njobs: {a: {runs-on: x, steps: [{uses: actions/cache@v1, with: {path: target, key: k}}]}}",
    )
    .unwrap();
    assert!(!schemas.check(args(["audit", "ci.yml"]))["findings"].as_array().unwrap().is_empty());
    let runner = schemas.sandbox.path("runner");
    fs::create_dir(&runner).unwrap();
    fs::write(runner.join("run.sh"), "").unwrap();
    fs::write(runner.join(".env"), "").unwrap();
    let units = schemas.sandbox.path("units");
    let installed = schemas.check(args(["install-runner", "--units"]).with(units).with(runner));
    assert_eq!(installed["steps"].as_array().unwrap().len(), 5);
    schemas.check(args(["rm", "--key", "k", "--dry-run"]));
    schemas.check(args(["rm", "--key", "k"]));
    schemas.check(args(["bench", "--rounds", "1", "--only", "restore-identical,save-nothing", "tree"]));
    let checked_in = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")).unwrap();
    let stem = |name: String| name.strip_suffix(".json").unwrap().to_owned();
    let all: BTreeSet<String> =
        checked_in.map(|entry| stem(entry.unwrap().file_name().into_string().unwrap())).collect();
    assert_eq!(all, schemas.seen);
}
