//! GitHub Actions: the runner reads every line of a step, on stdout and on stderr alike, and obeys some of them.
//!
//! A line that begins with `::name ::` is a command, and so is anything behind `##[name]` wherever it stands in a line
//! (the first version of the protocol, which runners still obey). larder gives commands of its own: it folds its
//! details, and marks what a person should act on. Whatever else it prints holds names from trees and stores, which
//! strangers may have chosen: [`inert`] keeps these from being obeyed.
//!
//! The runner compares in the way of a language, which passes over characters that nobody sees. So these are shown.

use std::borrow::Cow;
use std::sync::OnceLock;

/// Whether this is a step of a workflow.
pub(crate) fn is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true"))
}

/// Whether somebody asked for the step's debug log.
pub(super) fn is_debugging() -> bool {
    std::env::var_os("RUNNER_DEBUG").is_some_and(|value| value == "1")
}

/// What a command says, in one line.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A mark on the step (`warning`, `error`) that its page shows first.
pub(super) fn annotation(kind: &str, text: &str) -> String {
    // What is marked is printed again behind the command's name, and there the first protocol would find its prefix.
    format!("::{kind} title=larder::{}", data(&inert(text)))
}

/// Begins lines that are folded under a title.
pub(super) fn group(title: &str) -> String {
    format!("::group::{}", data(&inert(title)))
}

/// Ends them.
pub(super) const END_GROUP: &str = "::endgroup::";

/// Text with whatever the runner would obey made harmless, line by line.
pub(crate) fn inert(text: &str) -> Cow<'_, str> {
    let obeyed = |line: &str| line.trim_start().starts_with("::");
    let suspect = text.contains("##[") || text.contains(is_unseen) || text.split(['\n', '\r']).any(obeyed);
    if !suspect {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().fold(String::new(), |mut shown, c| {
        match is_unseen(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
        shown
    });
    let mut whole = String::new();
    for line in shown.split_inclusive(['\n', '\r']) {
        if obeyed(line) {
            whole.push('\\');
        }
        whole.push_str(&line.replace("##[", "##\\["));
    }
    Cow::Owned(whole)
}

/// JSON that says the same and holds nothing that a runner would obey.
pub(crate) fn inert_json(json: &str) -> String {
    // Outside of strings an object has none of these.
    let json = json.replace("##[", "#\\u0023[");
    json.chars().fold(String::new(), |mut shown, c| {
        match is_unseen(c) && c != '\n' {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}"))),
            false => shown.push(c),
        }
        shown
    })
}

/// Whether a comparison may pass over the character: controls, and those that Unicode calls ignorable.
fn is_unseen(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a runner would obey in these lines, as its `ActionCommand` reads them, taking every name for a command.
    fn obeyed(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for line in text.split(['\n', '\r']) {
            let seen: String = line.chars().filter(|c| !is_unseen(*c)).collect();
            let line = seen.trim();
            if let Some((command, _)) = line.strip_prefix("::").and_then(|rest| rest.split_once("::")) {
                found.push(command.to_owned());
            } else if let Some((command, _)) = line.split_once("##[").and_then(|(_, rest)| rest.split_once(']')) {
                found.push(command.to_owned());
            }
        }
        found
    }

    const HOSTILE: [&str; 14] = [
        "::warning::x",
        "  ::set-output name=a::b",
        "\u{a0}\u{2003}::add-mask::e",
        "\u{200b}::stop-commands::t",
        ":\u{feff}:error::x",
        "#\u{ad}#[add-path]/tmp",
        "##[group]x",
        "###[group]x",
        "tame ##[set-env name=A;]b",
        "tame\n::error::x",
        "tame\r::error::x",
        "tame\r\n \t::error::x\n##[error]y",
        "\u{1b}::error::x",
        "::::::a::",
    ];

    #[test]
    fn nothing_hostile_is_obeyed_by_itself_or_beside_another() {
        for first in HOSTILE {
            assert_eq!(obeyed(first).len().max(1), obeyed(first).len(), "{first:?} is hostile");
            for second in HOSTILE {
                for text in
                    [format!("{first}{second}"), format!("{first}\n{second}"), format!("larder: {first}{second}")]
                {
                    assert_eq!(obeyed(&inert(&text)), [""; 0], "{text:?} became {:?}", inert(&text));
                    assert_eq!(obeyed(&annotation("warning", &text)), ["warning title=larder"], "{text:?}");
                    assert_eq!(obeyed(&group(&text)), ["group"], "{text:?}");
                    let object = serde_json::json!({ &text: [text] }).to_string();
                    let safe = inert_json(&object);
                    assert_eq!(obeyed(&safe), [""; 0], "{safe}");
                    assert_eq!(
                        serde_json::from_str::<serde_json::Value>(&safe).unwrap(),
                        serde_json::from_str::<serde_json::Value>(&object).unwrap(),
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_tame_stays_as_it_is() {
        for tame in ["larder: hit k: 3 files", "a::b", "std::fs", "", "two\nlines\n", "50 % of é", "#[cfg]", "## [x]"]
        {
            assert!(matches!(inert(tame), Cow::Borrowed(same) if same == tame), "{tame:?}");
        }
    }

    #[test]
    fn commands_carry_any_text_in_one_line() {
        assert_eq!(annotation("warning", "50 %\r\nfull"), "::warning title=larder::50 %25%0D%0Afull");
        assert_eq!(annotation("warning", "%0A"), "::warning title=larder::%250A");
        assert_eq!(group("a\nb"), "::group::a%0Ab");
    }
}
