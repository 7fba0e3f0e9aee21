//! Whatever is handed in: an answer, and in time.

use larder_ci::audit::{Error, Unknown, audit};
use larder_ci::{annotations, sarif, shell};
use proptest::prelude::*;

/// Parts that workflows are made of, and parts that break them.
const PARTS: &[&str] = &[
    "on: push\n",
    "jobs:\n",
    "  a:\n",
    "    runs-on: [self-hosted]\n",
    "    needs: a\n",
    "    steps:\n",
    "      - run: |\n",
    "          rsync -a target/ \"$CACHE/x\" || true\n",
    "          find $CACHE -type d | xargs rm -rf\n",
    "          for d in $(ls /srv/cache | head -n -5); do rm -rf \"$d\"; done\n",
    "      - uses: actions/cache@v2\n",
    "        with: {path: target, key: '${{ hashFiles(''**/Cargo.toml'') }}'}\n",
    "      - uses: ./.github/actions/x\n",
    "          echo \"A=${A:-$B}\" >> $GITHUB_ENV\n",
    "          cat <<EOF > x\n",
    "          EOF\n",
    "          x=`cargo build`; (cd ../y && cargo test)\n",
    "          rm -rf ../y; mv y ../y\n",
    "# larder: allow(x) y\n",
    "    <<: *a\n",
    "&a ",
    "*a",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "$(",
    ")",
    "`",
    "${{",
    "}}",
    "${",
    "\t",
    "|",
    ">-\n",
    "\n",
    " ",
    "- ",
    ": ",
    "é",
    "\u{feff}",
    "---\n",
    "!x ",
    "? ",
    "%YAML 1.1\n",
    "\\",
    "<<'E'\n",
    "\r\n",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::collection::vec(prop::sample::select(PARTS), 0..60).prop_map(|parts| parts.concat()),
        1 => ".{0,200}",
    ]
}

/// A workflow that is whole, with some characters changed.
fn damaged() -> impl Strategy<Value = String> {
    let whole = include_str!("../../../../docs/audit.md");
    let examples: Vec<&str> = whole.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    (
        prop::sample::select(examples),
        prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(PARTS), 0_usize..20), 1..6),
    )
        .prop_map(|(text, edits)| {
            let mut chars: Vec<char> = text.chars().collect();
            for (at, part, removed) in edits {
                let at = at.index(chars.len() + 1);
                let end = (at + removed).min(chars.len());
                chars.splice(at..end, part.chars());
            }
            chars.into_iter().collect()
        })
}

fn answers(text: &str) -> Result<(), TestCaseError> {
    if let Ok(findings) = audit("x.yml", text, &Unknown) {
        let lines = text.lines().count();
        for finding in &findings {
            prop_assert!(finding.at.line as usize <= lines.max(1), "{:?} of {lines} lines", finding);
            prop_assert!(finding.at.column >= 1);
            let line = annotations::line(finding);
            prop_assert_eq!(line.matches('\n').count(), 1);
        }
        prop_assert_eq!(sarif::log(&findings, "0.0.0")["runs"][0]["results"].as_array().unwrap().len(), findings.len());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_has_an_answer(text in text()) {
        answers(&text)?;
    }

    #[test]
    fn a_damaged_workflow_has_an_answer(text in damaged()) {
        answers(&text)?;
    }

    #[test]
    fn any_script_is_read_to_its_end(text in text()) {
        let script = shell::parse(&text);
        let lines = text.split('\n').count();
        for command in &script.commands {
            prop_assert!(command.line < lines);
            prop_assert!(command.within.is_none_or(|at| at < script.commands.len()));
        }
    }
}

/// The largest files that are read, made of whatever is dear. The test ends only if the time is in proportion to the length.
#[test]
fn large_files_are_read_once() {
    let fits = |unit: &str| unit.repeat((1 << 20) / unit.len() - 200);
    let script = |unit: &str| {
        let line = format!("          {unit}\n");
        format!(
            "on: [push, pull_request]\njobs:\n  a:\n    runs-on: self-hosted\n    steps:\n      - run: |\n{}",
            fits(&line)
        )
    };
    for unit in [
        "find /srv/cache -type d | head -n -5 | xargs rm -rf",
        "rsync -a target/ /srv/cache/$K/ || true",
        "rm -rf ../x; mv x ../x",
        "x=$(cat $X)",
        "export A=$A$A B=$A",
        "${{ ",
        "$( ",
        "` ",
        "\" ",
        "{ echo A=1; } >> $GITHUB_ENV",
        "for d in $L; do",
        "<<E",
        "cargo install x",
        "df / | cat",
        "echo \"A=b\" | tee -a $GITHUB_ENV",
        "(",
        "${A",
        "sha256sum Cargo.toml",
        "rm -rf $d",
        "read -r d",
    ] {
        audit("x.yml", &script(unit), &Unknown).unwrap();
    }
    let steps = "      - {uses: actions/cache@v2, with: {path: target, key: a-x}}\n";
    let job = |n: usize| format!("  j{n}:\n    runs-on: self-hosted\n    needs: [a]\n    steps:\n{}", steps.repeat(9));
    let jobs: String = (0..500).map(job).collect();
    audit("x.yml", &format!("on: push\njobs:\n{jobs}"), &Unknown).unwrap();
    let too_many: String = (0..501).map(job).collect();
    assert!(matches!(audit("x.yml", &format!("on: push\njobs:\n{too_many}"), &Unknown), Err(Error::TooLarge(_))));
    assert!(matches!(audit("x.yml", &"a: b\n".repeat(2 << 20), &Unknown), Err(Error::Yaml(_))));
}

#[test]
fn aliases_of_aliases_take_no_time() {
    let mut text = "a0: &a0 [x, x]\n".to_owned();
    for n in 1..60 {
        text.push_str(&format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1));
    }
    text.push_str(
        "on: *a59\njobs: {a: {runs-on: *a59, needs: *a59, steps: *a59, strategy: {matrix: {x: *a59}}, env: *a59}}\n",
    );
    audit("x.yml", &text, &Unknown).unwrap();
    let mut text = "m0: &m0 {k0: v}\n".to_owned();
    for n in 1..60 {
        text.push_str(&format!("m{n}: &m{n} {{<<: [*m{0}, *m{0}, *m{0}], k{n}: v}}\n", n - 1));
    }
    text.push_str("on: push\nenv: *m59\njobs: {a: *m59}\n");
    audit("x.yml", &text, &Unknown).unwrap();
}
