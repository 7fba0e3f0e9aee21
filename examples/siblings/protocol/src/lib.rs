//! Block headers as they go over the wire, and the networks they belong to.

mod header;
mod network;

pub use header::{Header, Malformed};
pub use network::{NETWORKS, Network};
