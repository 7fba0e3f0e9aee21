//! What the store must be told about files, since it knows nothing of cargo.

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

impl Treatment {
    /// What holds for a file that has names of both treatments: tools reach it by either.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            share: self.share && other.share,
            rewrite: self.rewrite && other.rewrite,
            vouches: self.vouches || other.vouches,
        }
    }

    /// Gives all names of a file the treatment that suits every one of them. `inodes` says for each name
    /// which of `count` files it belongs to.
    pub(crate) fn settle(treatments: &mut [Self], inodes: impl Iterator<Item = u32> + Clone, count: usize) {
        let mut merged: Vec<Option<Self>> = vec![None; count];
        for (treatment, inode) in treatments.iter().zip(inodes.clone()) {
            let merged = &mut merged[inode as usize];
            *merged = Some(merged.map_or(*treatment, |other| other.and(*treatment)));
        }
        for (treatment, inode) in treatments.iter_mut().zip(inodes) {
            *treatment = merged[inode as usize].unwrap_or(*treatment);
        }
    }
}

/// What is left out when some files cannot be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallout {
    /// For each path, whether it is left out.
    pub left_out: Vec<bool>,
    /// What that means to a person: units, folders.
    pub names: Vec<String>,
}

/// The rules for the files of one root. Paths are relative to it, as bytes, and are always all of its
/// files, since what a file is may depend on what stands beside it.
pub trait Policy: Sync {
    /// How each file is shared and ordered.
    fn treatments(&self, paths: &[Vec<u8>]) -> Vec<Treatment>;
    /// What has to be left out with the damaged files; `None` when the rest could not be trusted.
    fn fallout(&self, paths: &[Vec<u8>], damaged: &[bool]) -> Option<Fallout>;
}

/// Files of which nothing is known: never shared, all or nothing.
#[derive(Clone, Copy, Debug)]
pub struct Opaque;

impl Policy for Opaque {
    fn treatments(&self, paths: &[Vec<u8>]) -> Vec<Treatment> {
        vec![Treatment::default(); paths.len()]
    }

    fn fallout(&self, _paths: &[Vec<u8>], _damaged: &[bool]) -> Option<Fallout> {
        None
    }
}
