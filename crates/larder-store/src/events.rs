//! How the library speaks: through a trait. Only the binary has a terminal.

/// A step of a save or restore that may take long enough to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Examining a directory.
    Examine,
    /// Checking the blobs that will be used.
    Check,
    /// Taking files into the store.
    Ingest,
    /// Making the destination equal to the snapshot.
    Materialise,
    /// Making the new blobs durable.
    Sync,
    /// Computing digests.
    Digest,
    /// Removing what nothing needs.
    Sweep,
    /// Reading snapshots to count what they name.
    Count,
}

impl Phase {
    /// The phase in a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Self::Examine => "examining",
            Self::Check => "checking blobs",
            Self::Ingest => "taking in",
            Self::Materialise => "materialising",
            Self::Sync => "syncing",
            Self::Digest => "digesting",
            Self::Sweep => "sweeping",
            Self::Count => "counting",
        }
    }
}

/// Receives what happens. Every method may be called from several threads.
pub trait Events: Sync {
    /// A phase of `total` steps begins (0 where the number is not known).
    fn phase(&self, _phase: Phase, _total: u64) {}
    /// So many steps of the phase are done.
    fn advance(&self, _steps: u64) {}
    /// Something went wrong that a person should know of, though the work goes on.
    fn warn(&self, _message: &str) {}
}

/// Hears nothing.
impl Events for () {}
