//! Whole snapshot files: preamble, header, body and inline section.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok((_, roots)) = larder_store::parse(bytes) {
        for manifest in &roots {
            // What passed the checks can be used.
            let _ = (manifest.link_paths(), manifest.logical_bytes());
        }
    }
});
