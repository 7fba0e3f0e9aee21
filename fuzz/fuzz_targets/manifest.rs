//! The body of a snapshot, as if its digest were right: what a hostile writer controls.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The first byte stands for the length of the inline section.
    let Some((inline, body)) = bytes.split_first() else { return };
    if let Ok(roots) = larder_store::decode_manifests(body, u64::from(*inline)) {
        for manifest in &roots {
            let (dirs, links) = (manifest.dir_paths(), manifest.link_paths());
            let escapes = |path: &Vec<u8>| path.split(|byte| *byte == b'/').any(|name| name == b"..");
            assert!(!dirs.iter().chain(&links).any(escapes));
            let _ = manifest.logical_bytes();
        }
    }
});
