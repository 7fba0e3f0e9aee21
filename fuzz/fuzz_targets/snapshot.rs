//! Whole snapshot files: preamble, header, body and inline section.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok((_, provenance, roots)) = larder_store::parse(bytes) {
        assert!(provenance.stamps.iter().all(|stamp| stamp.path().is_absolute()));
        for manifest in &roots {
            // What passed the checks can be used.
            let _ = (manifest.link_paths(), manifest.logical_bytes());
        }
    }
});
