//! The plan of a run: what one setup job decided, as one word that every other job is given.
//!
//! `larder1.` and the base64url (RFC 4648, section 5, without padding) of compact JSON. So it has only letters, digits,
//! `.`, `_` and `-`, and can stand unquoted in any shell, in YAML and in a dotenv file.
//!
//! Whoever reads one reads what others may have written: everything is checked, a part that is wrong makes the whole
//! wrong, and nothing in it names a place outside the workspace's neighbours, a program, or an option of git. No
//! credential is ever in it: an [`Address`] cannot hold one.
//!
//! Compatibility: the number in front is the version. Another one is refused; members that are not known are passed over.

use crate::address::Address;
use crate::reference::{is_branch, is_commit};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What every plan begins with.
const PREFIX: &str = "larder1.";
/// The longest plan that is read. GitHub lets an output have a megabyte; Linux a variable 128 KiB.
pub const MAX_PLAN: usize = 96 * 1024;
/// So many siblings a run may have.
const MAX_SIBLINGS: usize = 128;
/// No name of a repository, job or key is longer.
const MAX_NAME: usize = 255;

/// What a setup job decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The repository that the run is of.
    pub workspace: Workspace,
    /// Its siblings, by path.
    pub siblings: Vec<Sibling>,
    /// What the keys were made of, for people: names and short values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<(String, String)>,
    /// The key of the whole.
    pub key: String,
}

/// The repository that a run is of; what is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Owner and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The commit that was checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// One sibling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sibling {
    /// Where it stands, relative to the repository's root: `../NAME`.
    pub path: String,
    /// Where it comes from.
    pub url: String,
    /// The commit that every job builds.
    pub commit: String,
    /// The branch or tag that had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Its key.
    pub key: String,
}

/// Why a text is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPlan {
    /// Not what `larder setup` writes.
    #[error("it does not begin with {PREFIX}: take the output `plan` of `larder setup`, whole")]
    NoPlan,
    /// Another version's.
    #[error("it is the plan of another version of larder: run the same one in all jobs")]
    Version,
    /// Cut off, or changed.
    #[error("it is damaged ({0}): take the output `plan` of `larder setup`, whole")]
    Damaged(String),
    /// A part that must not be obeyed.
    #[error("{part} is not allowed: {why}")]
    Forbidden {
        /// What it is, and of whom.
        part: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Sibling {
    /// The name of its folder, in a plan that was checked.
    pub fn name(&self) -> &str {
        self.path.strip_prefix("../").unwrap_or(&self.path)
    }
}

/// Whether a folder of this name may stand beside the workspace.
pub fn is_sibling_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 128 && !name.starts_with(['-', '.']) && name.bytes().all(is_plain)
}

fn is_key(key: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !key.is_empty() && key.len() <= MAX_NAME && key.bytes().all(is_plain)
}

fn is_text(text: &str) -> bool {
    text.len() <= 4 * MAX_NAME && !text.chars().any(char::is_control)
}

impl Plan {
    /// The word.
    ///
    /// # Errors
    ///
    /// Where something in it would not be taken when it is read.
    pub fn encode(&self) -> Result<String, BadPlan> {
        self.check()?;
        let json = serde_json::to_vec(self).map_err(|error| BadPlan::Damaged(error.to_string()))?;
        let word = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&json));
        match word.len() > MAX_PLAN {
            true => Err(BadPlan::Damaged(format!("{} bytes are more than {MAX_PLAN}", word.len()))),
            false => Ok(word),
        }
    }

    /// Reads a word that anybody may have written. White space around it is passed over.
    ///
    /// # Errors
    ///
    /// Where it is not wholly a plan of this version.
    pub fn decode(word: &str) -> Result<Self, BadPlan> {
        let word = word.trim_ascii();
        let Some(text) = word.strip_prefix(PREFIX) else {
            let is_other = word
                .strip_prefix("larder")
                .and_then(|rest| rest.split_once('.'))
                .is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
            return Err(if is_other { BadPlan::Version } else { BadPlan::NoPlan });
        };
        if word.len() > MAX_PLAN {
            return Err(BadPlan::Damaged(format!("{} bytes are more than {MAX_PLAN}", word.len())));
        }
        let json = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|error| BadPlan::Damaged(error.to_string()))?;
        let plan: Self = serde_json::from_slice(&json).map_err(|error| BadPlan::Damaged(error.to_string()))?;
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), BadPlan> {
        let need = |holds: bool, part: &str, why: &str| match holds {
            true => Ok(()),
            false => Err(BadPlan::Forbidden { part: part.to_owned(), why: why.to_owned() }),
        };
        const COMMIT: &str = "expected the full name of a commit, 40 or 64 digits";
        const NAME: &str = "expected letters, digits, `-`, `_` and `.`";
        let Workspace { repository, commit, branch } = &self.workspace;
        need(repository.as_deref().is_none_or(is_text), "the repository", "it is too long, or not printable")?;
        need(commit.as_deref().is_none_or(is_commit), "the workspace's commit", COMMIT)?;
        need(branch.as_deref().is_none_or(is_branch), "the workspace's branch", "git would not take it")?;
        need(is_key(&self.key), "the key", NAME)?;
        let are_texts = self.parts.iter().all(|(name, value)| is_text(name) && is_text(value));
        need(are_texts && self.parts.len() <= MAX_SIBLINGS, "a part of the key", "it is too long, or not printable")?;
        need(self.siblings.len() <= MAX_SIBLINGS, "the number of siblings", "there are too many")?;
        let mut seen = BTreeSet::new();
        for sibling in &self.siblings {
            let shown: String = sibling.path.chars().take(64).flat_map(char::escape_debug).collect();
            let part = |what: &str| format!("{what} of the sibling {shown}");
            let name = sibling.path.strip_prefix("../").unwrap_or_default();
            need(is_sibling_name(name), &part("the path"), "expected ../NAME")?;
            // On some file systems these are one.
            need(seen.insert(name.to_ascii_lowercase()), &part("the path"), "there are two of them")?;
            need(is_commit(&sibling.commit), &part("the commit"), COMMIT)?;
            need(sibling.branch.as_deref().is_none_or(is_branch), &part("the branch"), "git would not take it")?;
            need(is_key(&sibling.key), &part("the key"), NAME)?;
            if let Err(error) = Address::parse(&sibling.url) {
                return Err(BadPlan::Forbidden { part: part("the address"), why: error.to_string() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan() -> Plan {
        Plan {
            workspace: Workspace {
                repository: Some("acme/app".into()),
                commit: Some("01".repeat(20)),
                branch: Some("topic/a".into()),
            },
            siblings: vec![Sibling {
                path: "../consensus".into(),
                url: "https://github.com/acme/consensus.git".into(),
                commit: "ab".repeat(20),
                branch: Some("main".into()),
                key: "consensus-1".into(),
            }],
            parts: vec![("rustc".into(), "1.95.0".into())],
            key: "app-1-2-3".into(),
        }
    }

    /// A plan as somebody might forge it.
    fn forged(change: impl FnOnce(&mut serde_json::Value)) -> Result<Plan, BadPlan> {
        let mut value = serde_json::to_value(plan()).unwrap();
        change(&mut value);
        Plan::decode(&format!("{PREFIX}{}", BASE64URL_NOPAD.encode(value.to_string().as_bytes())))
    }

    #[test]
    fn a_plan_is_one_plain_word() {
        let word = plan().encode().unwrap();
        assert!(word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')), "{word}");
        assert_eq!(Plan::decode(&word).unwrap(), plan());
        assert_eq!(Plan::decode(&format!(" {word}\n")).unwrap(), plan());
        assert_eq!(plan().siblings[0].name(), "consensus");
        let empty = Plan { key: "k".into(), ..Plan::default() };
        assert_eq!(Plan::decode(&empty.encode().unwrap()).unwrap(), empty);
    }

    #[test]
    fn other_words_are_refused() {
        let word = plan().encode().unwrap();
        for (bad, expected) in [
            ("x".to_owned(), BadPlan::NoPlan),
            (String::new(), BadPlan::NoPlan),
            (word.replace("larder1.", "larder2."), BadPlan::Version),
            ("larder.x".to_owned(), BadPlan::NoPlan),
        ] {
            assert_eq!(Plan::decode(&bad), Err(expected), "{bad}");
        }
        for cut in 8..word.len() {
            assert!(Plan::decode(&word[..cut]).is_err(), "{cut}");
        }
        assert!(Plan::decode(&format!("{word}=")).is_err());
        assert!(Plan::decode(&"larder1.A".repeat(MAX_PLAN)).is_err());
    }

    #[test]
    fn what_must_not_be_obeyed_is_refused() {
        assert!(forged(|_| {}).is_ok());
        assert!(forged(|value| value["later"] = 1.into()).is_ok());
        let bad_path = [
            "", "..", "../", "../..", "../../x", "/etc", "../a/b", "x", "./x", "../-x", "../.ssh", "../a\nb", "../a b",
            "../ü", "..//x", "../x/", "../x\0",
        ];
        for path in bad_path {
            assert!(forged(|value| value["siblings"][0]["path"] = path.into()).is_err(), "{path:?}");
        }
        for url in ["ext::sh -c x", "https://u:p@host/x", "-x", "/srv/x", "file://x/y", "https://host/x?token=1"] {
            let error = forged(|value| value["siblings"][0]["url"] = url.into()).unwrap_err();
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
        for commit in ["main", "HEAD", "--all", "", "ABCD", &"AB".repeat(20)] {
            assert!(forged(|value| value["siblings"][0]["commit"] = commit.into()).is_err(), "{commit}");
            assert!(forged(|value| value["workspace"]["commit"] = commit.into()).is_err(), "{commit}");
        }
        for branch in ["-x", "a..b", "a b", ""] {
            assert!(forged(|value| value["siblings"][0]["branch"] = branch.into()).is_err(), "{branch}");
        }
        assert!(forged(|value| value["siblings"][0]["key"] = "a\nb=c".into()).is_err());
        assert!(forged(|value| value["key"] = "::error::x".into()).is_err());
        assert!(forged(|value| value["workspace"]["repository"] = "a\u{1b}[2Jb".into()).is_err());
        assert!(
            forged(|value| {
                let mut twin = value["siblings"][0].clone();
                twin["path"] = "../Consensus".into();
                value["siblings"].as_array_mut().unwrap().push(twin);
            })
            .is_err()
        );
        assert!(
            forged(|value| {
                let one = value["siblings"][0].clone();
                value["siblings"] = (0..200)
                    .map(|n| {
                        let mut other = one.clone();
                        other["path"] = format!("../s{n}").into();
                        other
                    })
                    .collect();
            })
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn no_text_is_a_surprise(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,60}") {
            let _any = Plan::decode(&text);
            let _any = Plan::decode(&format!("{PREFIX}{text}"));
            let _any = Plan::decode(&format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes)));
        }

        #[test]
        fn what_is_encoded_is_decoded(
            names in prop::collection::btree_set("[a-z][a-z0-9_.-]{0,10}", 0..5),
            commit in "[0-9a-f]{40}",
            branch in prop::option::of("[a-zA-Zé][a-z0-9]{0,6}(/[a-z]{1,4})?"),
            host in "[a-z]{1,9}(:[0-9]{1,4})?",
        ) {
            let sibling = |name: &String| Sibling {
                path: format!("../{name}"),
                url: format!("https://{host}/o/{name}"),
                commit: commit.clone(),
                branch: branch.clone(),
                key: format!("{name}-k"),
            };
            let plan = Plan { siblings: names.iter().map(sibling).collect(), ..plan() };
            prop_assert_eq!(Plan::decode(&plan.encode().unwrap()).unwrap(), plan);
        }

        #[test]
        fn a_changed_letter_never_makes_another_place(at in 8usize..200, letter in "[A-Za-z0-9_-]") {
            let mut word = plan().encode().unwrap().into_bytes();
            let at = at.min(word.len() - 1);
            word[at] = letter.as_bytes()[0];
            if let Ok(read) = Plan::decode(std::str::from_utf8(&word).unwrap()) {
                for sibling in &read.siblings {
                    prop_assert!(is_sibling_name(sibling.name()));
                    prop_assert!(Address::parse(&sibling.url).is_ok());
                    prop_assert!(is_commit(&sibling.commit));
                }
            }
        }
    }
}
