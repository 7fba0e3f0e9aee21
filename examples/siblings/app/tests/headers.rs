//! The program on real headers, good and spoiled.

use std::process::Command;

#[test]
fn the_first_header_passes() {
    let report = app::report("main", app::FIRST).expect("the first header is good");
    assert!(report.first);
    assert_eq!(report.header.time, 1_231_006_505);
    assert!(!app::report("regtest", app::FIRST).expect("enough work for an easy network").first);
}

#[test]
fn a_changed_nonce_is_not_enough_work() {
    let spoiled = app::FIRST.replace("1dac2b7c", "1dac2b7d");
    let refusal = format!("{:#}", app::report("main", &spoiled).expect_err("the work is gone"));
    assert!(refusal.ends_with("the digest is above the target"), "{refusal}");
}

#[test]
fn the_program_prints_json() {
    let output = Command::new(env!("CARGO_BIN_EXE_app")).output().expect("app runs");
    assert!(output.status.success());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["header"]["nonce"], 2_083_236_893_u32);
}

#[test]
fn an_unknown_network_is_an_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_app")).arg("moon").output().expect("app runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no network is called moon"));
}
