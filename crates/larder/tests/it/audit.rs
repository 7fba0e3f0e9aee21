//! `larder audit` as its users run it.

use crate::support::{Said, Sandbox, snapshot};
use std::fs;
use std::path::Path;

const FAULTY: &str = "on: push
jobs:
  test:
    runs-on: self-hosted
    steps:
      - uses: actions/cache@v2
        with:
          path: ~/.cargo/registry
          key: cargo-${{ hashFiles('**/Cargo.lock') }}
          restore-keys: cargo-
      - run: |
          cargo test
          rm -rf ../core && mv _core ../core
";

fn write(sandbox: &Sandbox, path: &str, text: impl AsRef<[u8]>) {
    let path = sandbox.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn people_see_where_why_and_what_to_do() {
    let sandbox = Sandbox::new();
    write(&sandbox, "ci.yml", FAULTY);
    snapshot!(sandbox, sandbox.said(["audit", "ci.yml"]).ends(1), @"
    exit code 1
    --- stdout
    ci.yml:6:15: error[deprecated-cache-version]: actions/cache@v2 calls a service that no longer exists
        costs: 1 build from scratch × 100 s: 100 s (203 crates on two cores, as measured; yours differ)
        why: GitHub closed the service that old releases call: the step fails, or restores and saves nothing
        fix: use actions/cache v4 or later (or 3.4.0 where v3 is needed), Swatinem/rust-cache v2
    ci.yml:6:15: warning[hosted-cache-on-self-hosted]: actions/cache sends the cache over the network, past the runner's own disk
        costs: 2.3 GB over the network, 65 s (a target directory of 6.8 GB packed to a third, 50 MB/s, 19 s to unpack)
        why: the runner has a disk of its own that outlives the job, and packs, sends and fetches gigabytes all the same; GitHub drops what exceeds 10 GB a repository
        fix: keep the cache on the runner's disk: larder run, or larder restore and larder save
    ci.yml:13:11: error[sibling-moved-in-place]: ../core is removed and replaced by mv, whoever uses it
        costs: 1 build from scratch × 100 s: 100 s (203 crates on two cores, as measured; yours differ)
        why: the place beside a checkout belongs to the runner, not to the job: a job that runs at the same time loses the sources that it compiles, or builds another commit
        fix: check siblings out inside the job's own directory, or have larder restore them at canonical paths, which each job has for itself
    --- stderr
    larder: 2 errors, 1 warning, 0 notes in 1 file
    ");
}

#[test]
fn without_files_the_repository_is_audited() {
    let sandbox = Sandbox::new();
    let said = sandbox.said(["audit"]).ends(1);
    assert!(said.err.contains("has neither workflows nor actions"), "{said}");
    write(&sandbox, ".git/HEAD", "");
    write(&sandbox, ".github/workflows/a.yml", FAULTY);
    write(&sandbox, ".github/workflows/b.yaml", FAULTY);
    write(&sandbox, ".github/workflows/c.md", "*: no yaml");
    write(&sandbox, ".github/workflows/broken.yml", "a: [");
    let action = "runs: {using: composite, steps: [{uses: Swatinem/rust-cache@main}]}";
    write(&sandbox, ".github/actions/setup/action.yml", action);
    write(&sandbox, "action.yml", action);
    let files = |said: &Said| {
        let mut files: Vec<String> = Vec::new();
        for finding in said.json()["findings"].as_array().unwrap() {
            files.push(finding["file"].as_str().unwrap().to_owned());
        }
        files.dedup();
        files
    };
    let names =
        [".github/workflows/a.yml", ".github/workflows/b.yaml", "action.yml", ".github/actions/setup/action.yml"];
    let said = sandbox.said(["audit", "--format", "json", "--fail-on", "never"]).ok();
    assert_eq!(files(&said), names);
    // Found by itself, it is as likely not meant; named, it is an error.
    assert_eq!(said.warnings().len(), 1, "{said}");
    assert!(said.err.contains("broken.yml: is no YAML: line 1"), "{said}");
    sandbox.said(["audit", "--fail-on", "never", ".github/workflows/broken.yml"]).ends(1);
    // From a folder within, too.
    fs::create_dir(sandbox.path("within")).unwrap();
    let mut below = sandbox.larder(["audit", "--output", "json", "--fail-on", "never"]);
    let said: Said = below.current_dir(sandbox.path("within")).output().unwrap().into();
    assert!(files(&said)[0].ends_with("/.github/workflows/a.yml"), "{said}");
}

#[test]
fn the_exit_code_is_by_severity() {
    let sandbox = Sandbox::new();
    let with = |tag: &str| {
        format!(
            "on: push\njobs: {{a: {{runs-on: ubuntu-latest, steps: [{{uses: Swatinem/rust-cache@{tag}}}, {{run: cargo test}}]}}}}"
        )
    };
    for (tag, codes) in [("v1", [1, 1, 1, 0]), ("main", [0, 1, 1, 0]), ("v2", [0, 0, 1, 0]), (&"a".repeat(40), [0; 4])]
    {
        write(&sandbox, "ci.yml", with(tag));
        for (limit, code) in ["error", "warning", "note", "never"].into_iter().zip(codes) {
            sandbox.said(["audit", "--fail-on", limit, "ci.yml"]).ends(code);
        }
    }
    sandbox.said(["audit", "--format", "json", "--output", "sarif", "ci.yml"]).ends(2);
}

#[test]
fn what_is_no_workflow_is_told_from_what_is_no_yaml() {
    let sandbox = Sandbox::new();
    write(&sandbox, "compose.yml", "services: {web: {image: x}}");
    write(&sandbox, "empty.yml", "");
    for file in ["compose.yml", "empty.yml"] {
        let said = sandbox.said(["audit", "--format", "json", "--fail-on", "note", file]).ok();
        assert_eq!(said.json(), serde_json::json!({ "schema_version": 1, "findings": [] }));
    }
    write(&sandbox, "binary.yml", [0xff, 0xfe, 0x00]);
    write(&sandbox, "large.yml", "a: b\n".repeat(1 << 19));
    write(&sandbox, "ci.yml", FAULTY);
    for (file, why) in
        [("binary.yml", "no UTF-8"), ("large.yml", "larger than"), ("absent.yml", "absent.yml"), ("home", "no file")]
    {
        // The others are audited all the same.
        let said = sandbox.said(["audit", "--output", "json", "--fail-on", "never", file, "ci.yml"]).ends(1);
        assert!(said.err.contains(why), "{said}");
        assert!(!said.json()["findings"].as_array().unwrap().is_empty(), "{said}");
    }
}

#[test]
fn machines_get_sarif_and_annotations() {
    let sandbox = Sandbox::new();
    write(&sandbox, "ci.yml", FAULTY);
    let sarif = sandbox.said(["audit", "--output", "sarif", "ci.yml"]).ends(1).json();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        assert_eq!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "ci.yml");
    }
    let said = sandbox.said(["audit", "--output", "github", "ci.yml"]).ends(1);
    assert_eq!(said.out.lines().count(), run["results"].as_array().unwrap().len());
    assert!(said.out.contains("::error file=ci.yml,line=13,col=11,title=larder%3A sibling-moved-in-place::"), "{said}");
}

/// The schema of SARIF 2.1.0 (errata 01), as npm's `@microsoft/jest-sarif` 1.0.0-beta.0 has it, under the MIT licence.
const SARIF: &str = include_str!("support/sarif-2.1.0-rtm.5.json");

#[test]
fn sarif_is_what_its_schema_says() {
    let sandbox = Sandbox::new();
    let mut schema: serde_json::Value = serde_json::from_str(SARIF).unwrap();
    // Its pattern for a language has a bracket too many, which only JavaScript takes; larder writes no language.
    for owner in ["run", "toolComponent"] {
        let language = &mut schema["definitions"][owner]["properties"]["language"];
        language.as_object_mut().unwrap().remove("pattern").unwrap();
    }
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(!validator.is_valid(&serde_json::json!({ "version": "2.1.0" })), "a schema that takes anything");
    // Every rule's bad example, each under a name that a URI may not hold as it is.
    let page = include_str!("../../../../docs/audit.md");
    let examples: Vec<&str> =
        page.split("Bad:\n\n```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let names: Vec<String> = (0..examples.len()).map(|number| format!("flow {number} é:%.yml")).collect();
    names.iter().zip(&examples).for_each(|(name, text)| write(&sandbox, name, text));
    let words = ["audit", "--output", "sarif", "--fail-on", "never"].map(str::to_owned);
    let log = sandbox.said(words.into_iter().chain(names)).ok().json();
    let errors: Vec<String> = validator.iter_errors(&log).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let results = log["runs"][0]["results"].as_array().unwrap();
    let found: std::collections::BTreeSet<_> =
        results.iter().map(|result| result["ruleId"].as_str().unwrap()).collect();
    assert_eq!(found.len(), log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().len(), "{found:?}");
}

#[test]
fn colour_is_for_terminals() {
    let sandbox = Sandbox::new();
    write(&sandbox, "ci.yml", FAULTY);
    let plain = sandbox.said(["audit", "ci.yml"]).ends(1).out;
    assert!(!plain.contains('\u{1b}'));
    let coloured = sandbox.said(["audit", "--color", "always", "ci.yml"]).ends(1).out;
    assert!(coloured.contains("\u{1b}[1;31merror[sibling-moved-in-place]\u{1b}[0m"), "{coloured}");
}

#[test]
fn an_action_outside_the_repository_is_not_read() {
    let sandbox = Sandbox::new();
    write(&sandbox, "outside/action.yml", "runs: {using: composite, steps: [{uses: Swatinem/rust-cache@main}]}");
    let uses = |path: &str| format!("on: push\njobs: {{a: {{runs-on: x, steps: [{{uses: {path}}}]}}}}");
    write(&sandbox, "repo/.github/workflows/ci.yml", uses("./../outside"));
    let file = Path::new("repo/.github/workflows/ci.yml").to_str().unwrap();
    assert_eq!(sandbox.said(["audit", "--fail-on", "note", file]).ok().out, "");
    write(
        &sandbox,
        "repo/.github/actions/in/action.yml",
        "runs: {using: composite, steps: [{uses: Swatinem/rust-cache@main}]}",
    );
    write(&sandbox, "repo/.github/workflows/ci.yml", uses("./.github/actions/in"));
    let said = sandbox.said(["audit".to_owned(), format!("./{file}")]).ok();
    assert!(said.out.starts_with("repo/.github/actions/in/action.yml:1:41: warning[unpinned-cache-action]"), "{said}");
}
