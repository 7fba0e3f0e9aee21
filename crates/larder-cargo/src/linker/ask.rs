//! What a linker is that was configured, or that a compiler driver uses when nothing is.

use std::ffi::OsStr;

use super::{Linker, Question};
use crate::Run;
use crate::words::file_name;

/// A configured `linker`: a compiler driver is asked, a linker is known by its name.
pub(super) fn driver(driver: &str, why: &str, chosen: bool, run: Run<'_>) -> Linker {
    let name = file_name(OsStr::new(driver)).unwrap_or(driver).trim_end_matches(".exe");
    if name.contains("mold") {
        return Linker::mold(why);
    }
    match name {
        "lld" | "rust-lld" | "ld.lld" | "ld64.lld" | "wasm-ld" => return Linker::replaced_by("lld", why),
        "ld.bfd" => return Linker::replaced_by("bfd", why),
        "ld" => return ask_linker(OsStr::new(driver), run),
        _ => {}
    }
    // `aarch64-linux-gnu-gcc-12` → `gcc`
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    let last = bare.rsplit('-').next().unwrap_or(bare);
    match last {
        "cc" | "gcc" | "clang" | "c++" | "g++" | "clang++" if chosen => Linker::replaced_by("driver", why),
        "cc" | "gcc" | "clang" | "c++" | "g++" | "clang++" => ask_driver(driver, run),
        _ => Linker::unknown(format!("linker {driver} in {why} is not known")),
    }
}

/// What rustc links a target with when nothing is configured: `cc`, but for the targets that bring rust-lld.
pub(super) fn default_of(triple: &str, no_lld: bool, question: &Question<'_>) -> Linker {
    if triple == "x86_64-unknown-linux-gnu" && question.rustc.version >= (1, 90) && !no_lld {
        return Linker::replaced_by("rust-lld", "the default of rustc since 1.90");
    }
    if !triple.contains("-linux-") {
        return Linker::unknown(format!("the default linker for {triple} was not measured"));
    }
    ask_driver("cc", question.run)
}

fn ask_driver(driver: &str, run: Run<'_>) -> Linker {
    let answer = run(&[OsStr::new(driver), OsStr::new("-print-prog-name=ld")]);
    match answer
        .as_deref()
        .map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned())
        .filter(|path| !path.is_empty())
    {
        Some(path) => ask_linker(OsStr::new(&path), run),
        None => Linker::unknown(format!("`{driver} -print-prog-name=ld` gave no answer")),
    }
}

fn ask_linker(linker: &OsStr, run: Run<'_>) -> Linker {
    let shown = linker.to_string_lossy();
    let Some(answer) = run(&[linker, OsStr::new("--version")]) else {
        return Linker::unknown(format!("`{shown} --version` gave no answer"));
    };
    let answer = String::from_utf8_lossy(&answer);
    let line = answer.lines().next().unwrap_or("").trim();
    let why = format!("`{shown} --version` says {line:?}");
    // mold says "compatible with GNU ld", so it is asked for first.
    if line.contains("mold") {
        Linker::mold(why)
    } else if line.contains("LLD") {
        Linker::replaced_by("lld", why)
    } else if line.starts_with("GNU ld") {
        Linker::replaced_by("bfd", why)
    } else {
        Linker::unknown(why)
    }
}
