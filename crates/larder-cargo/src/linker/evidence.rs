//! Everything that may choose a linker, gathered from the command, the environment and cargo's configuration.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use toml::{Table, Value};

use super::Linker;
use crate::Env;
use crate::config::Config;
use crate::words::file_name;

/// What the evidence adds up to.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) verdict: Option<Linker>,
    /// The strongest source of flags names a linker (`-fuse-ld`) for all links, so defaults do not matter.
    pub(super) chosen: bool,
    /// `-Clinker-features=-lld` or the like: the default is the driver's.
    pub(super) no_lld: bool,
    /// What is configured as `linker`, and where.
    pub(super) drivers: Vec<(String, String)>,
    /// The triples for which one is.
    pub(super) own_linker: BTreeSet<String>,
}

impl Evidence {
    pub(super) fn judge(&mut self, linker: Linker) {
        self.verdict = Some(match self.verdict.take() {
            Some(old) => old.worse(linker),
            None => linker,
        });
    }

    pub(super) fn preloaded(&mut self, env: Env<'_>) {
        for name in ["LD_PRELOAD", "MOLD_PATH"] {
            if env(name).is_some_and(|value| value.to_string_lossy().contains("mold")) {
                self.judge(Linker::mold(format!("{name} names it, as under `mold -run`")));
            }
        }
        for name in ["COMPILER_PATH", "GCC_EXEC_PREFIX"] {
            if let Some(value) = env(name) {
                self.judge(
                    by_text(&value.to_string_lossy(), name)
                        .unwrap_or_else(|| Linker::unknown(format!("{name} redirects the compiler driver"))),
                );
            }
        }
        for name in [
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_BUILD_RUSTC",
            "CARGO_BUILD_RUSTC_WRAPPER",
            "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
        ] {
            if let Some(value) = env(name).filter(|value| !value.is_empty()) {
                self.wrapper(&value, name);
            }
        }
    }

    /// A wrapper of rustc may add flags; of the well-known ones none does.
    fn wrapper(&mut self, program: &OsStr, why: &str) {
        let name = file_name(program).unwrap_or("?");
        if !matches!(
            name.trim_end_matches(".exe"),
            "rustc" | "sccache" | "cachepot" | "kache" | "ccache" | "clippy-driver"
        ) {
            self.judge(Linker::unknown(format!("{why} puts {name} before rustc, which may choose a linker")));
        }
    }

    /// The command may carry flags itself: `mold -run cargo …`, `env RUSTFLAGS=… cargo`, `sh -c '…'`, `cargo rustc --
    /// -Clink-arg=…`.
    pub(super) fn command(&mut self, command: &[OsString]) {
        if command.first().and_then(|word| file_name(word)) == Some("mold") {
            self.judge(Linker::mold("the command runs under it"));
        }
        for word in command {
            let word = word.to_string_lossy();
            for part in word.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '[' | ']' | ',')) {
                let flag = part.split_once("RUSTFLAGS=").map_or(part, |(_, flag)| flag);
                if let Some((_, driver)) = flag.split_once("_LINKER=") {
                    self.drivers.push((driver.to_owned(), "the command's words".to_owned()));
                } else if ["-fuse-ld", "-ld-path", "linker", "link-arg", "-specs="]
                    .iter()
                    .any(|mark| flag.contains(mark))
                {
                    self.flag(flag, "the command's words");
                }
            }
            // Either may be a false alarm, which only costs copies.
            let shell = word.contains("mold") && word.contains("-run");
            if shell || file_name(OsStr::new(&*word)) == Some("mold") {
                self.judge(Linker::mold("the command's words"));
            }
        }
    }

    pub(super) fn environment(&mut self, env: Env<'_>, triples: &[String], only_host: bool) {
        let text = |name: &str| env(name).map(|value| value.to_string_lossy().into_owned());
        let strongest = text("CARGO_ENCODED_RUSTFLAGS").or_else(|| text("RUSTFLAGS"));
        self.chosen = only_host && strongest.is_some_and(|flags| flags.contains("-fuse-ld="));
        if let Some(flags) = text("CARGO_ENCODED_RUSTFLAGS") {
            self.flags(flags.split('\x1f'), "CARGO_ENCODED_RUSTFLAGS");
        }
        let mut names = vec!["RUSTFLAGS".to_owned(), "CARGO_BUILD_RUSTFLAGS".to_owned()];
        names.extend(["DEV", "RELEASE", "TEST", "BENCH"].map(|profile| format!("CARGO_PROFILE_{profile}_RUSTFLAGS")));
        for triple in triples {
            let upper = triple.to_uppercase().replace(['-', '.'], "_");
            names.push(format!("CARGO_TARGET_{upper}_RUSTFLAGS"));
            let name = format!("CARGO_TARGET_{upper}_LINKER");
            if let Some(driver) = text(&name) {
                self.own_linker.insert(triple.clone());
                self.drivers.push((driver, name));
            }
        }
        for name in names {
            if let Some(flags) = text(&name) {
                self.flags(flags.split_whitespace(), &name);
            }
        }
    }

    pub(super) fn config(&mut self, config: &Config, triples: &[String]) {
        for file in &config.files {
            let path = &file.path;
            let shown = if path.as_os_str().is_empty() { "--config".to_owned() } else { path.display().to_string() };
            self.table(&file.table, &shown, triples);
        }
    }

    /// One configuration file. `cfg(…)` is not evaluated but taken to apply.
    fn table(&mut self, table: &Table, file: &str, triples: &[String]) {
        let child = |table: &Table, key: &str| table.get(key).and_then(Value::as_table).cloned().unwrap_or_default();
        let build = child(table, "build");
        self.value(build.get("rustflags"), &format!("build.rustflags in {file}"));
        for key in ["rustc", "rustc-wrapper", "rustc-workspace-wrapper"] {
            if let Some(program) = build.get(key).and_then(Value::as_str).filter(|program| !program.is_empty()) {
                self.wrapper(OsStr::new(program), &format!("build.{key} in {file}"));
            }
        }
        for group in ["target", "profile"] {
            for (name, inner) in &child(table, group) {
                let Some(inner) = inner.as_table() else { continue };
                let one_triple = group == "target" && !name.starts_with("cfg(");
                if one_triple && !triples.contains(name) {
                    continue;
                }
                let source = format!("{group}.{name} in {file}");
                self.value(inner.get("rustflags"), &source);
                if let Some(driver) =
                    inner.get("linker").and_then(|linker| linker.as_str().or_else(|| linker.get("path")?.as_str()))
                {
                    self.own_linker.extend(one_triple.then(|| name.clone()));
                    self.drivers.push((driver.to_owned(), source));
                }
            }
        }
        for (name, value) in &child(table, "env") {
            if matches!(name.as_str(), "LD_PRELOAD" | "COMPILER_PATH" | "GCC_EXEC_PREFIX") {
                let source = format!("env.{name} in {file}");
                self.judge(
                    by_text(value.as_str().or_else(|| value.get("value")?.as_str()).unwrap_or(""), &source)
                        .unwrap_or_else(|| Linker::unknown(format!("{source} may change the linker"))),
                );
            }
        }
    }

    fn value(&mut self, value: Option<&Value>, why: &str) {
        match value {
            Some(Value::String(flags)) => self.flags(flags.split_whitespace(), why),
            Some(Value::Array(flags)) => self.flags(flags.iter().filter_map(Value::as_str), why),
            _ => {}
        }
    }

    fn flags<'f>(&mut self, flags: impl Iterator<Item = &'f str>, why: &str) {
        for flag in flags {
            self.flag(flag, why);
        }
    }

    /// One word of rustc's flags. A `-C` of its own before it needs no care: `link-arg=…` is understood alone.
    fn flag(&mut self, flag: &str, why: &str) {
        if let Some(mold) = by_text(flag, why) {
            return self.judge(mold);
        }
        let after = |mark: &str| flag.split_once(mark).map(|(_, value)| value.split_whitespace().next().unwrap_or(""));
        let codegen = flag.strip_prefix("-C").or_else(|| flag.strip_prefix("--codegen=")).unwrap_or(flag);
        if let Some(name) = after("-fuse-ld=") {
            self.judge(match name {
                "lld" | "bfd" => Linker::replaced_by(name, format!("-fuse-ld={name} in {why}")),
                _ => Linker::unknown(format!("-fuse-ld={name} in {why} was not measured")),
            });
        } else if let Some(path) = after("-ld-path=") {
            self.judge(Linker::unknown(format!("--ld-path={path} in {why} was not measured")));
        } else if let Some(driver) = codegen.strip_prefix("linker=") {
            self.drivers.push((driver.to_owned(), why.to_owned()));
        } else if let Some(flavor) = codegen.strip_prefix("linker-flavor=") {
            if !matches!(flavor, "gcc" | "gnu-cc" | "gnu-lld-cc" | "ld.lld" | "gnu-lld") {
                self.judge(Linker::unknown(format!("linker flavour {flavor} in {why} was not measured")));
            }
            self.no_lld |= !flavor.contains("lld");
        } else if let Some(features) = codegen.strip_prefix("linker-features=") {
            self.no_lld |= features.contains("-lld");
        } else if codegen.starts_with("link-self-contained=") {
            // Only where lld comes from; lld it stays.
        } else if flag.starts_with('@') || flag.contains("link-arg=@") || flag.contains("link-args=@") {
            self.judge(Linker::unknown(format!("{flag} in {why} names a file of further flags")));
        } else if ["link-arg=-B", "link-args=-B", "-specs=", "-Bprefix"].iter().any(|mark| flag.contains(mark)) {
            self.judge(Linker::unknown(format!("{flag} in {why} may redirect the compiler driver")));
        }
    }
}

/// mold by any name and in any flag, such as `-fuse-ld=/opt/mold` or `-B/usr/libexec/mold`.
fn by_text(text: &str, why: &str) -> Option<Linker> {
    text.contains("mold").then(|| Linker::mold(why))
}
