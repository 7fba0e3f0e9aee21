//! Decisions over strings; `tests/linkers.rs` holds them against real linkers.

use std::ffi::OsStr;
use std::path::Path;

use super::*;

struct Case<'a> {
    command: &'a str,
    env: &'a [(&'a str, &'a str)],
    config: &'a str,
    host: &'a str,
    release: &'a str,
    ld: &'a str,
}

const PLAIN: Case<'_> = Case {
    command: "cargo build",
    env: &[],
    config: "",
    host: "x86_64-unknown-linux-gnu",
    release: "1.95.0",
    ld: "GNU ld (GNU Binutils for Debian) 2.40",
};

fn verdict(case: &Case<'_>) -> Linker {
    let command: Vec<OsString> = case.command.split(' ').map(OsString::from).collect();
    let env = |name: &str| case.env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
    let config = Config::load(Path::new("/w"), &command, &env, &|path| {
        (path == Path::new("/w/.cargo/config.toml")).then(|| case.config.as_bytes().to_vec())
    });
    let rustc = Rustc::parse(&format!("rustc 1\nhost: {}\nrelease: {}\n", case.host, case.release)).unwrap();
    let run = |words: &[&OsStr]| match words[1].to_str() {
        Some("-print-prog-name=ld") => Some(b"ld\n".to_vec()),
        Some("--version") => Some(format!("{}\nmore", case.ld).into_bytes()),
        _ => None,
    };
    decide(&Question { command: &command, env: &env, config: &config, rustc: &rustc, run: &run })
}

#[track_caller]
fn check(case: &Case<'_>, replaces: bool, name: &str) {
    let got = verdict(case);
    assert_eq!((got.replaces(), got.name()), (replaces, name), "{got}");
}

#[test]
fn defaults() {
    check(&PLAIN, true, "rust-lld");
    check(&Case { release: "1.89.0", ..PLAIN }, true, "bfd");
    check(&Case { release: "2.0.0-nightly", ..PLAIN }, true, "rust-lld");
    let arm = Case { host: "aarch64-unknown-linux-gnu", ..PLAIN };
    check(&arm, true, "bfd");
    check(&Case { ld: "mold 2.30.0 (compatible with GNU ld)", ..arm }, false, "mold");
    check(&Case { ld: "LLD 19.1.0 (compatible with GNU linkers)", ..arm }, true, "lld");
    check(&Case { ld: "GNU gold (GNU Binutils 2.40) 1.16", ..arm }, false, "unknown");
    check(&Case { host: "aarch64-apple-darwin", ..PLAIN }, false, "unknown");
}

#[test]
fn flags_in_every_place() {
    let mold = "-C link-arg=-fuse-ld=mold";
    for name in [
        "RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
        "CARGO_PROFILE_DEV_RUSTFLAGS",
    ] {
        check(&Case { env: &[(name, mold)], ..PLAIN }, false, "mold");
    }
    check(&Case { env: &[("CARGO_ENCODED_RUSTFLAGS", "-C\x1flink-arg=-fuse-ld=mold")], ..PLAIN }, false, "mold");
    for config in [
        "build.rustflags = '-Clink-arg=-fuse-ld=mold'",
        "build = { rustflags = ['-C', 'link-arg=-B/usr/libexec/mold'] }",
        "[target.x86_64-unknown-linux-gnu]\nlinker = '/usr/bin/mold-wrapper'",
        "[target.'cfg(unix)']\nrustflags = ['-Clink-arg=--ld-path=/opt/mold']",
        "profile.dev.rustflags = ['-Clinker=mold']",
        "env.LD_PRELOAD = '/usr/lib/mold/mold-wrapper.so'",
    ] {
        check(&Case { config, ..PLAIN }, false, "mold");
    }
}

#[test]
fn the_command_may_choose() {
    for command in [
        "mold -run cargo build",
        "/usr/bin/mold -run cargo build",
        "env X=1 mold -run cargo build",
        "cargo rustc -- -Clink-arg=-fuse-ld=mold",
    ] {
        check(&Case { command, ..PLAIN }, false, "mold");
    }
    check(
        &Case { command: "cargo build --config=build.rustflags=['-Clink-arg=-fuse-ld=mold']", ..PLAIN },
        false,
        "mold",
    );
    check(&Case { env: &[("LD_PRELOAD", "/usr/lib/mold/mold-wrapper.so")], ..PLAIN }, false, "mold");
    for command in [
        "env CARGO_TARGET_X_LINKER=wild cargo build",
        "sh -c RUSTFLAGS=-Clinker=wild cargo build",
        "env RUSTFLAGS=-Clink-arg=-fuse-ld=wild cargo b",
    ] {
        check(&Case { command, ..PLAIN }, false, "unknown");
    }
    check(&Case { command: "cargo build --target wasm32-wasip1", ..PLAIN }, false, "unknown");
    check(&Case { command: "cargo build --target x86_64-unknown-linux-gnu", ..PLAIN }, true, "rust-lld");
    let musl = Case { command: "cargo build --target x86_64-unknown-linux-musl", ..PLAIN };
    check(&musl, true, "bfd");
    check(&Case { ld: "mold 2.30.0 (compatible with GNU ld)", ..musl }, false, "mold");
    // Flags do not reach build scripts when there is a target.
    let flags = [("RUSTFLAGS", "-Clink-arg=-fuse-ld=lld")];
    let older = Case { env: &flags, release: "1.80.0", ld: "mold 2", ..PLAIN };
    check(&older, true, "lld");
    check(&Case { command: "cargo build --target x86_64-unknown-linux-gnu", ..older }, false, "mold");
}

#[test]
fn tables_of_other_targets_do_not_count() {
    let config = "[target.aarch64-unknown-linux-gnu]\nlinker = 'wild'\nrustflags = ['-Clink-arg=-fuse-ld=mold']";
    check(&Case { config, ..PLAIN }, true, "rust-lld");
    check(&Case { config, command: "cargo build --target aarch64-unknown-linux-gnu", ..PLAIN }, false, "mold");
    let config = "[target.aarch64-unknown-linux-gnu]\nlinker = 'aarch64-linux-gnu-gcc'";
    check(&Case { config, command: "cargo build --target=aarch64-unknown-linux-gnu", ..PLAIN }, true, "bfd");
}

#[test]
fn named_linkers() {
    for (flags, replaces, name) in [
        ("-Clink-arg=-fuse-ld=bfd", true, "bfd"),
        ("-Clink-arg=-fuse-ld=lld -Copt-level=1", true, "lld"),
        ("-Clink-arg=-fuse-ld=gold", false, "unknown"),
        ("-Clink-arg=-fuse-ld=wild", false, "unknown"),
        ("-Clink-arg=-fuse-ld=bfd -Clink-arg=-fuse-ld=mold", false, "mold"),
        ("-Clinker-features=-lld", true, "bfd"),
        ("-Clinker=clang", true, "bfd"),
        ("-Clinker=aarch64-linux-gnu-gcc-12", true, "bfd"),
        ("-Clinker=/opt/link.sh", false, "unknown"),
        ("-Clinker=wild", false, "unknown"),
        ("@flags", false, "unknown"),
        ("-Clink-arg=-B/opt/ld", false, "unknown"),
        ("-Clink-arg=-s -Ctarget-cpu=native --cfg x", true, "rust-lld"),
    ] {
        check(&Case { env: &[("RUSTFLAGS", flags)], ..PLAIN }, replaces, name);
    }
    check(&Case { env: &[("RUSTC_WRAPPER", "/usr/bin/sccache")], ..PLAIN }, true, "rust-lld");
    check(&Case { env: &[("RUSTC_WRAPPER", "/opt/own.sh")], ..PLAIN }, false, "unknown");
    check(&Case { config: "[", ..PLAIN }, false, "unknown");
}

#[test]
fn the_compiler_of_a_target_directory_is_the_one_that_cargo_noted() {
    let said = |release: &str| {
        format!(
            r#"{{"success":true,"stdout":"rustc {release}\nhost: x86_64-unknown-linux-gnu\nrelease: {release}\n"}}"#
        )
    };
    let other = r#"{"success":true,"stdout":"___\nlib___.rlib\n"}"#;
    let info = |outputs: &[String]| {
        let named = outputs.iter().enumerate().map(|(at, output)| format!(r#""{at}":{output}"#)).collect::<Vec<_>>();
        format!(r#"{{"rustc_fingerprint":1,"outputs":{{{}}}}}"#, named.join(",")).into_bytes()
    };
    let noted = Rustc::of_target(&info(&[said("1.95.0"), other.to_owned()])).expect("one compiler is noted");
    assert_eq!((noted.host.as_str(), noted.version), ("x86_64-unknown-linux-gnu", (1, 95)));
    assert_eq!(Rustc::of_target(&info(&[said("1.95.0"), said("1.80.0")])), None);
    assert_eq!(Rustc::of_target(&info(&[other.to_owned()])), None);
    assert_eq!(Rustc::of_target(b"not json"), None);
}
