//! The binary as its users run it.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod bench;
