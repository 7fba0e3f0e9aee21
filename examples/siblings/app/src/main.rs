//! `app [NETWORK [HEADER]]`: prints the header as JSON, or says why it is refused.

use anyhow::Result;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let network = arguments.next().unwrap_or_else(|| "main".to_owned());
    let header = arguments.next().unwrap_or_else(|| app::FIRST.to_owned());
    println!("{}", serde_json::to_string_pretty(&app::report(&network, &header)?)?);
    Ok(())
}
