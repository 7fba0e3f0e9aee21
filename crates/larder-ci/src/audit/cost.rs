//! What a fault costs in one run: estimates, each with what it assumes.
//!
//! A workflow does not say how large its builds are. So every figure is that of one real build, measured (a
//! node of three sibling repositories: 203 units, 6.8 GB of target directory, 7,785 files, two cores), or an assumption that is named.

/// A build from nothing, measured: `cargo build`, 203 units, two cores.
const BUILD_SECONDS: u64 = 100;
/// A target directory after builds and tests, measured.
const TARGET_BYTES: u64 = 6_800_000_000;
/// Copying it with `rsync -a`, measured on ext4.
const COPY_SECONDS: u64 = 18;
/// What it is after `zstd`, as caches over the network send it; assumed to be a third.
const PACKED_BYTES: u64 = 2_300_000_000;
/// Sending that at 50 MB/s and unpacking it.
const NETWORK_SECONDS: u64 = 65;
/// A shallow checkout of one repository; assumed.
const CHECKOUT_SECONDS: u64 = 8;
/// What cargo downloads for a build of that size; assumed.
const REGISTRY_BYTES: u64 = 300_000_000;
/// Downloading and unpacking that; assumed.
const REGISTRY_SECONDS: u64 = 20;
/// Building a tool such as cargo-audit with `cargo install`; assumed.
const TOOL_SECONDS: u64 = 120;

/// An estimate for one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// In words: how many times what.
    pub estimate: String,
    /// Runner time, in seconds.
    pub seconds: u64,
    /// Moved or kept, in bytes.
    pub bytes: u64,
    /// What was assumed.
    pub assumes: &'static str,
}

fn times(count: usize, of: u64) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(of)
}

fn duration(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", (seconds + 30) / 60) }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Checkouts that another job did already.
pub(super) fn checkouts(count: usize) -> Cost {
    let seconds = times(count, CHECKOUT_SECONDS);
    Cost {
        estimate: format!("{count} × {CHECKOUT_SECONDS} s of checkout: {}", duration(seconds)),
        seconds,
        bytes: 0,
        assumes: "a shallow checkout takes 8 s",
    }
}

/// Builds that could have started warm.
pub(super) fn builds(count: usize) -> Cost {
    let seconds = times(count, BUILD_SECONDS);
    let builds = if count == 1 { "build" } else { "builds" };
    Cost {
        estimate: format!("{count} {builds} from scratch × {BUILD_SECONDS} s: {}", duration(seconds)),
        seconds,
        bytes: 0,
        assumes: "203 crates on two cores, as measured; yours differ",
    }
}

/// Tools that are built in every run.
pub(super) fn tools(count: usize) -> Cost {
    let seconds = times(count, TOOL_SECONDS);
    Cost {
        estimate: format!("{count} × {TOOL_SECONDS} s of building: {}", duration(seconds)),
        seconds,
        bytes: 0,
        assumes: "a tool of 200 crates takes 2 min",
    }
}

/// Target directories copied on a disk.
pub(super) fn copies(count: usize) -> Cost {
    let (seconds, bytes) = (times(count, COPY_SECONDS), times(count, TARGET_BYTES));
    Cost {
        estimate: format!("{} copied in {}", gigabytes(bytes), duration(seconds)),
        seconds,
        bytes,
        assumes: "a target directory of 6.8 GB, copied by rsync in 18 s, as measured",
    }
}

/// Target directories sent over the network.
pub(super) fn transfers(count: usize) -> Cost {
    let (seconds, bytes) = (times(count, NETWORK_SECONDS), times(count, PACKED_BYTES));
    Cost {
        estimate: format!("{} over the network, {}", gigabytes(bytes), duration(seconds)),
        seconds,
        bytes,
        assumes: "a target directory of 6.8 GB packed to a third, 50 MB/s, 19 s to unpack",
    }
}

/// Target directories kept that nobody reads.
pub(super) fn kept(count: usize) -> Cost {
    let bytes = times(count, TARGET_BYTES);
    Cost {
        estimate: format!("{} of disk", gigabytes(bytes)),
        seconds: 0,
        bytes,
        assumes: "a target directory of 6.8 GB",
    }
}

/// Crates downloaded again.
pub(super) fn downloads(count: usize) -> Cost {
    let (seconds, bytes) = (times(count, REGISTRY_SECONDS), times(count, REGISTRY_BYTES));
    Cost {
        estimate: format!("{} downloaded again, {}", gigabytes(bytes), duration(seconds)),
        seconds,
        bytes,
        assumes: "300 MB of crates, 20 s to fetch and unpack",
    }
}
