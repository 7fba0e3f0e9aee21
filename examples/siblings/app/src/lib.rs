//! Reads a block header, checks its work and describes it.

use anyhow::{Context as _, Result};
use protocol::{Header, Network};
use serde::Serialize;

/// The first header of the main network.
pub const FIRST: &str = include_str!("../first.hex");

/// A header that passed, and what we can say of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub network: &'static str,
    pub digest: String,
    /// Whether this is the network's first header.
    pub first: bool,
    pub header: Header,
}

/// Reads the header in `text` and checks it by the rules of the network called `network`.
pub fn report(network: &str, text: &str) -> Result<Report> {
    let network = Network::named(network).with_context(|| format!("no network is called {network}"))?;
    let header = Header::from_hex(text).context("cannot read the header")?;
    let digest = header.digest();
    header.check(network).with_context(|| format!("{} refuses {digest}", network.name))?;
    Ok(Report { network: network.name, first: digest == network.first, digest, header })
}
