//! The networks we know, from `networks.txt` by way of the build script.

/// A network and what sets it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    pub name: &'static str,
    /// The `bits` of the easiest target it accepts.
    pub limit: u32,
    /// The digest of its first header, as people write it.
    pub first: &'static str,
}

/// Every network we know.
pub const NETWORKS: &[Network] = include!(concat!(env!("OUT_DIR"), "/networks.rs"));

impl Network {
    /// The network of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        NETWORKS.iter().find(|network| network.name == name)
    }
}
