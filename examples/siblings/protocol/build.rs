//! Turns `networks.txt` into the table that `src/network.rs` includes.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=networks.txt");
    let mut table = String::from("&[\n");
    for line in fs::read_to_string("networks.txt")?.lines() {
        let line = line.split('#').next().unwrap_or_default();
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [] => {}
            [name, bits, first] => {
                let bits = u32::from_str_radix(bits, 16)?;
                writeln!(table, "    Network {{ name: {name:?}, limit: {bits:#x}, first: {first:?} }},")?;
            }
            _ => return Err(format!("networks.txt: not three columns: {line}").into()),
        }
    }
    table.push_str("]\n");
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&out).join("networks.rs"), table)?;
    Ok(())
}
