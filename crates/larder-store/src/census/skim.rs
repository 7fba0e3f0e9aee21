//! Reads of a snapshot what is counted, without its paths: names are passed over where they stand, so that a million
//! of them cost no memory.

use crate::blob::BlobId;
use crate::error::{Error, Result};
use crate::manifest::Content;
use crate::snapshot::{Header, Snapshot};
use larder_fs::{Meta, Timestamp};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// What a snapshot holds, in numbers.
pub(crate) struct Skimmed {
    pub(crate) header: Header,
    /// The stat of its file.
    pub(crate) meta: Meta,
    /// The sum of the lengths of its distinct files.
    pub(crate) logical: u64,
    /// Names of files and symbolic links.
    pub(crate) files: u64,
    /// The blobs that it names, each once, sorted.
    pub(crate) blobs: Vec<BlobId>,
}

/// Reads and counts a snapshot; only its header and body are read.
///
/// # Errors
///
/// [`Error::BadSnapshot`] where these are not what was written, [`Error::Fs`].
pub(crate) fn skim(path: &Path) -> Result<Skimmed> {
    let (header, body, meta) = Snapshot::load_body(path)?;
    let bad = |reason: String| Error::BadSnapshot { path: path.to_path_buf(), reason };
    let roots: Vec<Root<'_>> = postcard::from_bytes(&body).map_err(|e| bad(format!("its body: {e}")))?;
    if roots.len() != header.roots.len() {
        return Err(bad("header and body differ in their number of roots".into()));
    }
    let mut skimmed = Skimmed { header, meta, logical: 0, files: 0, blobs: Vec::new() };
    for (_, inodes, links, symlinks) in roots {
        skimmed.logical = skimmed.logical.saturating_add(inodes.bytes);
        skimmed.files += links.number + symlinks.number;
        skimmed.blobs.extend(inodes.blobs);
    }
    skimmed.blobs.sort_unstable();
    skimmed.blobs.dedup();
    skimmed.blobs.shrink_to_fit();
    Ok(skimmed)
}

/// A `Manifest`, field by field: `dirs`, `inodes`, `links`, `symlinks`. Postcard writes structs as it does tuples.
type Root<'a> = (
    Count<(u32, &'a [u8], u32, Timestamp)>,
    Inodes,
    Count<(u32, &'a [u8], u32)>,
    Count<(u32, &'a [u8], &'a [u8], Timestamp)>,
);

/// The length of a sequence whose elements are read and forgotten.
struct Count<T> {
    number: u64,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Count<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Counting<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Counting<T> {
            type Value = u64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<u64, A::Error> {
                let mut number = 0;
                while seq.next_element::<T>()?.is_some() {
                    number += 1;
                }
                Ok(number)
            }
        }
        let number = deserializer.deserialize_seq(Counting::<T>(PhantomData))?;
        Ok(Self { number, element: PhantomData })
    }
}

/// The inodes of a manifest: their bytes and blobs.
#[derive(Default)]
struct Inodes {
    bytes: u64,
    blobs: Vec<BlobId>,
}

impl<'de> Deserialize<'de> for Inodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Adding;
        impl<'de> Visitor<'de> for Adding {
            type Value = Inodes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of inodes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Inodes, A::Error> {
                let mut inodes = Inodes::default();
                // Mode, time, length, contents.
                while let Some((_, _, size, content)) = seq.next_element::<(u32, Timestamp, u64, Content)>()? {
                    inodes.bytes = inodes.bytes.saturating_add(size);
                    inodes.blobs.extend(BlobId::of(&content));
                }
                Ok(inodes)
            }
        }
        deserializer.deserialize_seq(Adding)
    }
}
