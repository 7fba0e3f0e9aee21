//! Paths and names as text, for formats that have no other way to keep bytes.
//!
//! UTF-8 stands as it is. Anything else is a NUL, which no path contains, and then the bytes in hexadecimal: nothing is
//! lost, and nothing that serde meets makes it fail.

use std::borrow::Cow;
use std::fmt::Write as _;

fn encode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with('\0') => Cow::Borrowed(text),
        _ => {
            let mut text = String::with_capacity(1 + 2 * bytes.len());
            text.push('\0');
            for byte in bytes {
                write!(text, "{byte:02x}").expect("a String takes everything");
            }
            Cow::Owned(text)
        }
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let Some(hex) = text.strip_prefix('\0') else { return Some(text.as_bytes().to_vec()) };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    hex.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

/// For a `Vec<u8>`.
pub(crate) mod bytes {
    use std::borrow::Cow;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        super::decode(&text).ok_or_else(|| D::Error::custom("an odd number of digits, or no hexadecimal ones"))
    }
}

/// For a `PathBuf`.
pub(crate) mod path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        super::bytes::serialize(path.as_os_str().as_bytes(), to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(PathBuf::from(OsString::from_vec(super::bytes::deserialize(from)?)))
    }
}

/// For a `Vec<PathBuf>`.
pub(crate) mod paths {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Borrowed<'a>(#[serde(with = "super::path")] &'a Path);

    #[derive(Deserialize)]
    struct Owned(#[serde(with = "super::path")] PathBuf);

    pub(crate) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(|path| Borrowed(path)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<Owned>::deserialize(from)?.into_iter().map(|path| path.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_name_survives(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn text_stays_readable() {
        assert_eq!(encode("/w/ä".as_bytes()), "/w/ä");
        assert_eq!(encode(b"\xff\x0a"), "\0ff0a");
        assert_eq!((decode("\0f"), decode("\0zz")), (None, None));
    }
}
