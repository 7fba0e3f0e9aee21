//! Replays the fuzz corpus: what once broke a reader must not break it again.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

use larder_store::{
    Content, DirEntry, Header, Inode, Link, Manifest, RootSummary, Symlink, decode_manifests, encode, parse,
};
use std::fs;
use std::path::PathBuf;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn use_all(roots: &[Manifest]) {
    for manifest in roots {
        let paths = [manifest.dir_paths(), manifest.link_paths()].concat();
        assert!(paths.iter().all(|path| path.split(|byte| *byte == b'/').all(|name| name != b"..")));
        manifest.logical_bytes();
    }
}

#[test]
fn every_input_is_read_or_refused() {
    let (mut read, mut refused) = (0, 0);
    for (path, bytes) in corpus("snapshot") {
        match parse(&bytes) {
            Ok((_, roots)) => {
                use_all(&roots);
                read += 1;
            }
            Err(e) => {
                assert!(!e.to_string().is_empty(), "{}", path.display());
                refused += 1;
            }
        }
    }
    for (_, bytes) in corpus("manifest") {
        let Some((inline, body)) = bytes.split_first() else { continue };
        match decode_manifests(body, u64::from(*inline)) {
            Ok(roots) => {
                use_all(&roots);
                read += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(read >= 2 && refused >= 2, "a corpus of {read} good and {refused} bad inputs tests little");
}

fn sample() -> (Header, Vec<Manifest>) {
    let time = larder_fs::Timestamp { secs: 1_700_000_000, nanos: 5 };
    let dir = |parent, name: &[u8]| DirEntry { parent, name: name.to_vec(), mode: 0o755, mtime: time };
    let inode = |size, content| Inode { mode: 0o644, mtime: time, size, content };
    let digest = larder_store::Digest([7; 32]);
    let manifest = Manifest {
        dirs: vec![dir(0, b""), dir(0, b"deps"), dir(1, b"\xff")],
        inodes: vec![
            inode(3, Content::Inline { offset: 0 }),
            inode(9000, Content::Digest { digest, ino: 12 }),
            inode(70_000, Content::Ingest { save: larder_store::SaveId(9), index: 1, ino: 13, digest: None }),
        ],
        links: vec![
            Link { dir: 0, name: b"app".to_vec(), inode: 2 },
            Link { dir: 1, name: b"app-hash".to_vec(), inode: 2 },
            Link { dir: 1, name: b"lib".to_vec(), inode: 1 },
            Link { dir: 2, name: b"print".to_vec(), inode: 0 },
        ],
        symlinks: vec![Symlink { dir: 1, name: b"link".to_vec(), target: b"/nowhere".to_vec(), mtime: time }],
    };
    let header = Header {
        id: "018bcfe56800deadbeef".into(),
        key: "key".into(),
        scope: "scope".into(),
        label: "label".into(),
        created: time,
        larder: "0.1.0".into(),
        parts: vec![("rustc".into(), "1.95".into())],
        roots: vec![RootSummary { path: "/target".into(), files: 5, bytes: 79_003 }],
    };
    (header, vec![manifest])
}

#[test]
fn what_was_encoded_is_decoded() {
    let (header, roots) = sample();
    let mut bytes = encode(&header, &roots, b"abc").unwrap();
    bytes.extend_from_slice(b"abc");
    assert_eq!(parse(&bytes).unwrap(), (header, roots));
}

/// Writes the seeds anew after a change of the format: `cargo test -p larder-store --test fuzz_corpus -- --ignored`.
#[test]
#[ignore = "writes to the corpus"]
fn write_seeds() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let (header, roots) = sample();
    let mut bytes = encode(&header, &roots, b"abc").unwrap();
    bytes.extend_from_slice(b"abc");
    fs::write(dir.join("snapshot/good"), &bytes).unwrap();
    fs::write(dir.join("snapshot/cut"), &bytes[..bytes.len() / 2]).unwrap();
    bytes[16] = 9;
    fs::write(dir.join("snapshot/foreign-version"), &bytes).unwrap();
    let body = |roots: &[Manifest]| [&[3][..], &postcard::to_stdvec(roots).unwrap()].concat();
    fs::write(dir.join("manifest/good"), body(&roots)).unwrap();
    let mut hostile = roots.clone();
    hostile[0].dirs[1].name = b"..".to_vec();
    fs::write(dir.join("manifest/dots"), body(&hostile)).unwrap();
    // A table that claims four billion entries.
    fs::write(dir.join("manifest/huge-count"), [&[3, 1][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat()).unwrap();
    let mut deep = roots[0].clone();
    let root = deep.dirs[0].clone();
    deep = Manifest { dirs: vec![root.clone()], ..Manifest::default() };
    deep.dirs.extend((0..20).map(|parent| DirEntry { parent, name: vec![b'n'; 255], ..root.clone() }));
    fs::write(dir.join("manifest/deep"), body(&[deep])).unwrap();
}
