//! Replays the fuzz corpus: what once broke a reader must not break it again.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

use larder_store::{
    Content, DirEntry, Header, Inode, Link, Manifest, Provenance, RootSummary, Stamp, State, Symlink, decode_manifests,
    encode, parse,
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
            Ok((_, _, roots)) => {
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
        worth: None,
    };
    (header, vec![manifest])
}

fn provenance() -> Provenance {
    let stamp = |path: &[u8], state| Stamp {
        path: path.to_vec(),
        state,
        mtime: larder_fs::Timestamp { secs: 1_600_000_000, nanos: 9 },
        listed: true,
    };
    let digest = larder_store::Digest([3; 32]);
    let stamps = vec![
        stamp(b"/w", State::Dir { names: digest }),
        stamp(b"/w/lib.rs", State::File { size: 5, digest }),
        stamp(b"/w/\xff", State::Symlink { target: digest }),
    ];
    Provenance { stamps, notes: b"notes".to_vec() }
}

fn sample_file() -> Vec<u8> {
    let (header, roots) = sample();
    [&encode(&header, &provenance(), &roots, b"abc").unwrap()[..], b"abc"].concat()
}

#[test]
fn what_was_encoded_is_decoded() {
    let (header, roots) = sample();
    assert_eq!(parse(&sample_file()).unwrap(), (header, provenance(), roots));
}

/// Seeds that this version of the format makes, by their names below `fuzz/corpus`.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let (_, roots) = sample();
    let good = sample_file();
    let mut foreign = good.clone();
    foreign[16] = 9;
    let body = |roots: &[Manifest]| [&[3][..], &postcard::to_stdvec(roots).unwrap()].concat();
    let mut hostile = roots.clone();
    hostile[0].dirs[1].name = b"..".to_vec();
    let root = roots[0].dirs[0].clone();
    let mut deep = Manifest { dirs: vec![root.clone()], ..Manifest::default() };
    deep.dirs.extend((0..20).map(|parent| DirEntry { parent, name: vec![b'n'; 255], ..root.clone() }));
    vec![
        ("snapshot/cut", good[..good.len() / 2].to_vec()),
        ("snapshot/good", good),
        ("snapshot/foreign-version", foreign),
        ("manifest/good", body(&roots)),
        ("manifest/dots", body(&hostile)),
        // A table that claims four billion entries.
        ("manifest/huge-count", [&[3, 1][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat()),
        ("manifest/deep", body(&[deep])),
    ]
}

/// After a change of the format: `LARDER_WRITE_SEEDS=1 cargo test -p larder-store --test fuzz_corpus`.
#[test]
fn the_seeds_are_of_this_format() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, bytes) in seeds() {
        if std::env::var_os("LARDER_WRITE_SEEDS").is_some() {
            fs::write(dir.join(name), &bytes).unwrap();
        }
        assert!(fs::read(dir.join(name)).unwrap() == bytes, "{name} is of another format");
    }
}
