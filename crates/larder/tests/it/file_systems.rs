//! ext4, XFS, Btrfs and tmpfs for real: each link mode where it works, and what comes instead where it does not.

use crate::support::tree::{Listing, assert_is, immutable, inode, list, plant_target};
use crate::support::volume::{Volume, is_mounted};
use crate::support::{Sandbox, has, modes, skip, tool};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// How many file names and symlinks the planted tree has.
const NAMES: u64 = 16;
/// Its distinct files.
const FILES: u64 = 14;

struct Ground {
    sandbox: Sandbox,
    tree: PathBuf,
    before: Listing,
    next: u32,
    // Last, so that it is unmounted when nothing is in it any more.
    volume: Volume,
}

impl Ground {
    fn on(volume: Volume) -> Self {
        let sandbox = Sandbox::within(&volume.path);
        let tree = sandbox.path("app/target");
        plant_target(&tree);
        let before = list(&tree);
        Self { sandbox, tree, before, next: 0, volume }
    }

    fn make(kind: &str, megabytes: u64, options: &[&str]) -> Option<Self> {
        match Volume::make(kind, megabytes, options) {
            Ok(volume) => Some(Self::on(volume)),
            Err(why) => {
                skip(&format!("{kind}: {why}"));
                None
            }
        }
    }

    fn save(&self, key: &str, options: &[&str]) -> Value {
        let saved = self.sandbox.transfer("save", &self.tree, key, options);
        assert_eq!((&saved["outcome"], &saved["files"]), (&"saved".into(), &NAMES.into()), "{saved}");
        saved
    }

    /// Restores to a new place, which must become exactly what was saved.
    fn restore(&mut self, key: &str, options: &[&str]) -> (Value, PathBuf) {
        self.next += 1;
        let place = self.sandbox.path(&format!("place-{}/target", self.next));
        let restored = self.sandbox.transfer("restore", &place, key, options);
        assert_eq!(restored["outcome"], "hit", "{restored}");
        assert_is(&self.before, &place);
        (restored, place)
    }

    fn is_clean(&self) {
        let verified = self.sandbox.json(["verify"]);
        assert_eq!((&verified["clean"], &verified["set_aside"]), (&true.into(), &0.into()), "{verified}");
    }
}

fn reason<'a>(object: &'a Value, mode: &str) -> &'a str {
    object["why_not"][mode].as_str().unwrap_or_else(|| panic!("no reason why not {mode}: {object}"))
}

/// The names of the store's blobs by inode.
fn blob_inodes(store: &Path) -> Vec<u64> {
    let folders = ["blobs", "ingest"].map(|room| fs::read_dir(store.join(room)).unwrap());
    let folders = folders.into_iter().flatten().map(|folder| folder.unwrap().path());
    folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|blob| inode(&blob.unwrap().path()).0)).collect()
}

/// Files of nothing but shared extents, as the file system tells.
fn shares_extents(path: &Path) -> bool {
    let extents = tool("filefrag", &[&"-s", &"-v", &path]);
    let rows: Vec<&str> =
        extents.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit())).collect();
    assert!(!rows.is_empty(), "{extents}");
    rows.iter().all(|row| row.contains("shared"))
}

fn hard_links(ground: &mut Ground) {
    let saved = ground.save("linked", &["--link-mode", "hardlink"]);
    assert!(saved["work"]["linked"].as_u64().unwrap() >= 3, "{saved}");
    let (restored, place) = ground.restore("linked", &["--link-mode", "hardlink"]);
    let modes = modes(&restored);
    assert_eq!(modes.keys().collect::<Vec<_>>(), ["copy", "hardlink"]);
    assert_eq!(modes.values().sum::<u64>(), FILES);
    let blobs = blob_inodes(&ground.sandbox.store);
    for name in immutable() {
        assert!(blobs.contains(&inode(&place.join(&name)).0), "{} is the store's own", name.display());
    }
    let linked = list(&place).into_keys().filter(|name| {
        let path = place.join(name);
        path.is_file() && blobs.contains(&inode(&path).0)
    });
    let names: Vec<PathBuf> = linked.collect();
    let may_be = |name: &PathBuf| immutable().contains(name) || name.starts_with("debug/deps") || name.ends_with("app");
    assert!(names.iter().all(may_be), "files of other classes are not: {names:?}");
    assert!(!names.iter().any(|name| name.extension().is_some_and(|e| e == "d" || e == "txt")), "{names:?}");
    ground.is_clean();
}

fn copies(ground: &mut Ground) {
    ground.save("copied", &["--link-mode", "copy"]);
    let (restored, place) = ground.restore("copied", &["--link-mode", "copy"]);
    assert_eq!(modes(&restored), [("copy".to_owned(), FILES)].into());
    assert!(reason(&restored, "hardlink").contains("asked for"));
    let blobs = blob_inodes(&ground.sandbox.store);
    assert!(immutable().iter().all(|name| !blobs.contains(&inode(&place.join(name)).0)));
    // In whichever way it was saved, it can be restored in every other.
    ground.restore("copied", &["--link-mode", "hardlink"]);
    ground.restore("linked", &["--link-mode", "copy"]);
}

fn reflinks(ground: &mut Ground, works: bool) {
    ground.save("reflinked", &["--link-mode", "reflink"]);
    let (restored, place) = ground.restore("reflinked", &["--link-mode", "reflink"]);
    if works {
        assert!(modes(&restored)["reflink"] >= 5, "{restored}");
        if has("filefrag") {
            for name in immutable() {
                assert!(shares_extents(&place.join(&name)), "{}", name.display());
            }
        } else {
            skip("there is no filefrag");
        }
        // It is what is taken where nobody asks for anything.
        ground.save("any", &[]);
        let (restored, _) = ground.restore("any", &[]);
        assert!(modes(&restored)["reflink"] >= 5 && !modes(&restored).contains_key("hardlink"), "{restored}");
    } else {
        assert_eq!(modes(&restored), [("copy".to_owned(), FILES)].into());
        assert!(reason(&restored, "reflink").contains("share extents"), "{restored}");
        assert!(reason(&restored, "hardlink").contains("asked for"), "{restored}");
        ground.save("any", &[]);
        let (restored, _) = ground.restore("any", &[]);
        assert!(modes(&restored).contains_key("hardlink"), "{restored}");
    }
    ground.is_clean();
}

fn spares(ground: &mut Ground) {
    ground.save("spare", &["--spare"]);
    let trees = ground.sandbox.store.join("trees");
    let prepared = || fs::read_dir(&trees).unwrap().flat_map(|t| fs::read_dir(t.unwrap().path()).unwrap()).count();
    assert_eq!(prepared(), 1);
    let (first, place) = ground.restore("spare", &[]);
    assert_eq!(modes(&first), [("spare".to_owned(), NAMES - 1)].into());
    assert_eq!(prepared(), 0);
    let (second, _) = ground.restore("spare", &["--link-mode", "spare"]);
    assert!(reason(&second, "spare").contains("none was prepared"), "{second}");
    assert!(!modes(&second).contains_key("spare"));
    // A save from what was a spare knows every file.
    let again = ground.sandbox.transfer("save", &place, "spare", &[]);
    assert_eq!(again["work"]["unchanged"], FILES, "{again}");
    ground.is_clean();
}

fn subvolumes(ground: &mut Ground, works: bool) {
    ground.save("subvolume", &[]);
    let (restored, place) = ground.restore("subvolume", &["--link-mode", "subvolume"]);
    if !works {
        assert!(reason(&restored, "subvolume").contains("not on btrfs"), "{restored}");
        return;
    }
    assert_eq!(modes(&restored), [("subvolume".to_owned(), NAMES - 1)].into());
    assert_eq!(inode(&place).0, 256, "the root of a subvolume");
    // A second one is independent of the first.
    fs::write(place.join("debug/notes.txt"), "changed").unwrap();
    let (_, other) = ground.restore("subvolume", &["--link-mode", "subvolume"]);
    assert_eq!(inode(&other).0, 256);
    // Saved from and restored over like any directory.
    assert_eq!(ground.sandbox.transfer("save", &place, "changed", &[])["outcome"], "saved");
    let over = ground.sandbox.transfer("restore", &place, "subvolume", &["--exact"]);
    assert_eq!(over["work"]["unchanged"], NAMES - 2, "{over}");
    assert_is(&ground.before, &place);
    ground.is_clean();
}

fn overlays(ground: &mut Ground) {
    ground.save("below", &[]);
    let (restored, place) = ground.restore("below", &["--link-mode", "overlay"]);
    assert_eq!(modes(&restored), [("overlay".to_owned(), NAMES - 1)].into(), "{restored}");
    assert!(is_mounted(&place));
    fs::write(place.join("debug/notes.txt"), "changed").unwrap();
    fs::remove_file(place.join("debug/dangling")).unwrap();
    ground.is_clean();
    let changed = list(&place);
    // What cannot take its place leaves it alone.
    for more in [&["--exact"][..], &["--fallback-key", "nothing-"], &["--dry-run"]] {
        assert_eq!(ground.sandbox.transfer("restore", &place, "no such key", more)["outcome"], "miss");
        assert!(is_mounted(&place), "{more:?}");
        assert_is(&changed, &place);
    }
    assert_eq!(ground.sandbox.transfer("save", &place, "above", &[])["outcome"], "saved");
    let elsewhere = ground.sandbox.path("elsewhere/target");
    ground.sandbox.transfer("restore", &elsewhere, "above", &[]);
    assert_is(&changed, &elsewhere);
    // The next restore there takes the mount away first.
    ground.sandbox.transfer("restore", &place, "below", &["--exact", "--link-mode", "copy"]);
    assert!(!is_mounted(&place));
    assert_is(&ground.before, &place);
    ground.is_clean();
}

#[test]
fn ext4() {
    let Some(mut ground) = Ground::make("ext4", 300, &[]) else { return };
    hard_links(&mut ground);
    copies(&mut ground);
    reflinks(&mut ground, false);
    spares(&mut ground);
    subvolumes(&mut ground, false);
    overlays(&mut ground);
}

#[test]
fn xfs() {
    let Some(mut ground) = Ground::make("xfs", 320, &["-m", "reflink=1"]) else { return };
    hard_links(&mut ground);
    copies(&mut ground);
    reflinks(&mut ground, true);
    spares(&mut ground);
    subvolumes(&mut ground, false);
    overlays(&mut ground);
}

#[test]
fn btrfs() {
    let Some(mut ground) = Ground::make("btrfs", 300, &[]) else { return };
    hard_links(&mut ground);
    copies(&mut ground);
    reflinks(&mut ground, true);
    spares(&mut ground);
    subvolumes(&mut ground, true);
    overlays(&mut ground);
}

#[test]
fn tmpfs() {
    let mut ground = match Volume::tmpfs(200) {
        Ok(volume) => Ground::on(volume),
        Err(why) => return skip(&why),
    };
    hard_links(&mut ground);
    copies(&mut ground);
    reflinks(&mut ground, false);
    spares(&mut ground);
}

#[test]
fn across_file_systems_everything_is_copied() {
    let Some(mut ground) = Ground::make("ext4", 300, &[]) else { return };
    // The store stays there, the workspace is elsewhere.
    let desk = Sandbox::new();
    let place = desk.path("target");
    ground.save("k", &["--spare"]);
    for mode in ["auto", "hardlink", "reflink", "spare", "subvolume"] {
        let restored = ground.sandbox.transfer("restore", &place, "k", &["--link-mode", mode]);
        assert_eq!(modes(&restored), [("copy".to_owned(), FILES)].into(), "{mode}: {restored}");
        assert_is(&ground.before, &place);
        if ["auto", "hardlink"].contains(&mode) {
            assert!(reason(&restored, "hardlink").contains("different file systems"), "{restored}");
        }
        if ["auto", "spare"].contains(&mode) {
            assert!(reason(&restored, "spare").contains("different file systems"), "{restored}");
        }
        fs::remove_dir_all(&place).unwrap();
    }
    // And back.
    ground.sandbox.transfer("restore", &place, "k", &[]);
    let saved = ground.sandbox.transfer("save", &place, "from-there", &[]);
    assert!(reason(&saved, "hardlink").contains("different file systems"), "{saved}");
    ground.restore("from-there", &[]);
    ground.is_clean();
}

#[test]
fn a_store_that_is_mounted_to_be_read_restores() {
    let Some(mut ground) = Ground::make("ext4", 300, &[]) else { return };
    ground.save("k", &["--spare"]);
    let writable = ground.sandbox.store.clone();
    let read_only = Volume::read_only(&writable).unwrap();
    ground.sandbox.store.clone_from(&read_only.path);
    let (restored, place) = ground.restore("k", &[]);
    assert_eq!(modes(&restored), [("copy".to_owned(), FILES)].into(), "{restored}");
    assert!(reason(&restored, "hardlink").contains("different mounts"), "{restored}");
    assert!(reason(&restored, "spare").contains("read-only"), "{restored}");
    fs::write(place.join("debug/notes.txt"), "changed").unwrap();
    let over = ground.sandbox.transfer("restore", &place, "k", &["--exact"]);
    assert_eq!(over["work"]["copied"], 1);
    assert_is(&ground.before, &place);
    for (words, code) in [(&["verify"][..], 0), (&["verify", "--repair"], 0), (&["ls"], 0), (&["rm", "--key", "k"], 1)]
    {
        ground.sandbox.said(words).ends(code);
    }
    fs::write(writable.join("blobs/notes.txt"), "of somebody").unwrap();
    assert!(ground.sandbox.said(["verify", "--repair"]).ends(1).err.contains("is read-only"));
    fs::remove_file(writable.join("blobs/notes.txt")).unwrap();
    let save = crate::support::args(["save", "--key", "k", "--path"]).with(&place);
    assert!(ground.sandbox.said(save).ends(1).err.contains("is read-only"));
    ground.sandbox.store = writable;
    drop(read_only);
}

#[test]
fn a_file_with_as_many_names_as_there_may_be_is_copied() {
    let Some(mut ground) = Ground::make("ext4", 300, &[]) else { return };
    ground.save("k", &["--link-mode", "hardlink"]);
    let full = &immutable()[0];
    let names = ground.volume.path.join("names");
    fs::create_dir(&names).unwrap();
    let source = ground.tree.join(full);
    let have = inode(&source).1;
    for n in have..65_000 {
        fs::hard_link(&source, names.join(n.to_string())).unwrap();
    }
    let (restored, place) = ground.restore("k", &["--link-mode", "hardlink"]);
    assert!(reason(&restored, "hardlink").contains("as many names"), "{restored}");
    assert_ne!(inode(&place.join(full)).0, inode(&source).0);
    assert_eq!(inode(&place.join(full)).1, 1);
    let other = &immutable()[1];
    assert_eq!(inode(&place.join(other)).0, inode(&ground.tree.join(other)).0, "others are still linked");
    // Saving it anew copies it too.
    fs::remove_dir_all(ground.sandbox.store.join("sessions")).unwrap();
    fs::create_dir(ground.sandbox.store.join("sessions")).unwrap();
    ground.save("again", &["--link-mode", "hardlink"]);
    ground.restore("again", &["--link-mode", "hardlink"]);
    ground.is_clean();
}
