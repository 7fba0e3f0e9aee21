//! Answers that take the caller longer to get than a restore does, kept with the question.
//!
//! ```text
//! sessions/QUESTION.answer   digest of the rest, length of the question (u64), question, answer
//! ```
//!
//! The question holds all that the answer depends on, so an answer never grows old: another state of the machine is
//! another question. A file that is lost or damaged only costs asking again.

use crate::error::Result;
use crate::store::{SESSIONS, Store};
use std::ffi::OsString;
use std::path::Path;

/// How names of answers end.
pub(crate) const ANSWER: &str = ".answer";

fn name_of(question: &str) -> OsString {
    format!("{}{ANSWER}", &blake3::hash(question.as_bytes()).to_hex()[..24]).into()
}

impl Store {
    /// What was noted as the answer to `question` in the store at `store`, if there is one; it need not be open, since
    /// what to ask a store for may depend on the answer.
    pub fn recall(store: &Path, question: &str) -> Option<Vec<u8>> {
        let bytes = larder_fs::read_optional(&store.join(SESSIONS).join(name_of(question))).ok()??;
        let (digest, rest) = bytes.split_first_chunk::<32>()?;
        let (len, rest) = rest.split_first_chunk::<8>()?;
        let (noted, answer) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        let whole = blake3::hash(&bytes[32..]).as_bytes() == digest;
        (whole && noted == question.as_bytes()).then(|| answer.to_vec())
    }

    /// Notes the answer to a question.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Fs`] where it cannot be written; a store that can only be read notes nothing.
    pub fn note(&self, question: &str, answer: &[u8]) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        let body = [&(question.len() as u64).to_le_bytes(), question.as_bytes(), answer].concat();
        let staging = self.staging()?;
        let staged: OsString = format!("answer-{:08x}", fastrand::u32(..)).into();
        larder_fs::write_new(&staging.dir, &staged, &[blake3::hash(&body).as_bytes(), &body], false)?;
        Ok(staging.dir.replace(&staged, &self.room(SESSIONS)?, &name_of(question))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_fs::Dir;

    #[test]
    fn an_answer_belongs_to_its_question() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        assert_eq!(Store::recall(&path, "which?"), None);
        let store = Store::open(&path, &()).unwrap();
        assert_eq!(Store::recall(&path, "which?"), None);
        store.note("which?", b"this").unwrap();
        store.note("why?", b"because").unwrap();
        assert_eq!(Store::recall(&path, "which?").as_deref(), Some(&b"this"[..]));
        store.note("which?", b"that").unwrap();
        assert_eq!(Store::recall(&path, "which?").as_deref(), Some(&b"that"[..]));
        assert_eq!(Store::recall(&path, "why?").as_deref(), Some(&b"because"[..]));
    }

    #[test]
    fn whatever_else_stands_there_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), &()).unwrap();
        store.note("which?", b"this").unwrap();
        store.note("why?", b"because").unwrap();
        let sessions = Dir::open(&store.path().join(SESSIONS)).unwrap();
        let good = larder_fs::read(&store.path().join(SESSIONS).join(name_of("which?"))).unwrap();
        let put = |bytes: &[u8]| {
            sessions.remove_all(&name_of("which?")).unwrap();
            larder_fs::write_new(&sessions, &name_of("which?"), &[bytes], false).unwrap();
            Store::recall(store.path(), "which?")
        };
        for len in 0..good.len() {
            assert_eq!(put(&good[..len]), None, "{len} bytes");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(put(&bad), None, "byte {at}");
        }
        let other = larder_fs::read(&store.path().join(SESSIONS).join(name_of("why?"))).unwrap();
        assert_eq!(put(&other), None);
        assert_eq!(put(&good).as_deref(), Some(&b"this"[..]));
    }
}
