//! Lineages: snapshots that follow one another.
//!
//! A lineage is what one job of one repository saved at one place: the next snapshot of a lineage replaces the one
//! before it, and retention counts within a lineage. The *place* (its directory below `snapshots/`) stands for the
//! scope, so for the repository, and for whatever must be equal: paths, compiler, linker. So the jobs of a matrix are
//! lineages of their own, and after an update of the compiler a new lineage begins while the old one falls out of
//! use. Within a place the *job* is the header's part [`JOB`]. Snapshots without one (CARGO_HOME, `--path`) are told
//! apart by the names of their directories.

use crate::snapshot::{Found, Header};
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

/// The header part that names the job.
pub const JOB: &str = "job";

/// The name of a lineage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage {
    /// The place's directory below `snapshots/`.
    pub place: String,
    /// The job; where the header names none, the names of the directories.
    pub job: String,
}

impl Lineage {
    /// The lineage of a snapshot.
    pub fn of(found: &Found, header: &Header) -> Self {
        let place = found.path.parent().and_then(Path::file_name).map(OsStr::to_string_lossy).unwrap_or_default();
        Self { place: place.into_owned(), job: header.part(JOB).map_or_else(|| names(header), str::to_owned) }
    }
}

fn names(header: &Header) -> String {
    let name = |path: &str| Path::new(path).file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
    header.roots.iter().map(|root| name(&root.path)).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Lineage {
    /// Job and place, such as `cargo-test@1f0c9a4be2d7a1b3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.job, self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::RootSummary;
    use larder_fs::Timestamp;

    fn lineage(place: &str, parts: &[(&str, &str)], roots: &[&str]) -> String {
        let header = Header {
            id: "1".into(),
            key: "k".into(),
            scope: "s".into(),
            label: "l".into(),
            created: Timestamp::default(),
            larder: String::new(),
            parts: parts.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            roots: roots.iter().map(|path| RootSummary { path: (*path).into(), files: 0, bytes: 0 }).collect(),
            worth: None,
        };
        let found = Found { id: "1".into(), path: format!("/store/snapshots/{place}/k-1").into() };
        Lineage::of(&found, &header).to_string()
    }

    #[test]
    fn place_and_job_make_a_lineage() {
        assert_eq!(lineage("p", &[("lock", "x"), ("job", "test")], &["/w/target"]), "test@p");
        // The same job of another runner's directory.
        assert_eq!(lineage("p", &[("job", "test")], &["/v/target"]), "test@p");
        assert_eq!(lineage("p", &[("lock", "x")], &["/home/a/.cargo"]), ".cargo@p");
        assert_eq!(lineage("p", &[], &["/a/node_modules", "/a/dist"]), "node_modules,dist@p");
        assert_eq!(lineage("q", &[], &["/"]), "@q");
    }
}
