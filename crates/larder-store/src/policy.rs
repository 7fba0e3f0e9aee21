//! What the store must be told about files, since it knows nothing of cargo.

use std::borrow::Cow;

/// How a file may be shared and in which order it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Treatment {
    /// Every tool replaces the file instead of rewriting it, so the destination and the store may
    /// share its inode.
    pub share: bool,
    /// Tools rewrite the file in place anyway, so larder may do so too instead of replacing it.
    pub rewrite: bool,
    /// The file vouches for others: it is cut to nothing before they change and written after them.
    pub vouches: bool,
}

/// What must be left out together with a file whose blob is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group<'a> {
    /// The file alone.
    Alone,
    /// All files of the same group name.
    Named(Cow<'a, [u8]>),
    /// The whole snapshot.
    Whole,
}

/// The rules for the files of one root. Paths are relative to it, as bytes.
pub trait Policy: Sync {
    /// How the file at `path` is shared and ordered.
    fn treatment(&self, path: &[u8]) -> Treatment;
    /// What falls with the file at `path`.
    fn group<'a>(&self, path: &'a [u8]) -> Group<'a>;
}

/// Files of which nothing is known: never shared, all or nothing.
#[derive(Clone, Copy, Debug)]
pub struct Opaque;

impl Policy for Opaque {
    fn treatment(&self, _path: &[u8]) -> Treatment {
        Treatment::default()
    }

    fn group<'a>(&self, _path: &'a [u8]) -> Group<'a> {
        Group::Whole
    }
}
