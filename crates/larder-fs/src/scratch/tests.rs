use super::*;
use std::os::unix::fs::symlink;

fn scratch() -> (tempfile::TempDir, Scratch) {
    let outer = tempfile::tempdir().unwrap();
    let scratch = Scratch::create_in(outer.path()).unwrap();
    (outer, scratch)
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn dropping_leaves_nothing_behind() {
    let (outer, scratch) = scratch();
    fs::create_dir_all(scratch.path().join("a/b")).unwrap();
    fs::write(scratch.path().join("a/b/c"), "c").unwrap();
    symlink("nowhere", scratch.path().join("a/link")).unwrap();
    fs::set_permissions(scratch.path().join("a"), Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(scratch.path().join("a/b"), Permissions::from_mode(0o000)).unwrap();
    drop(scratch);
    assert!(is_empty(outer.path()));
}

#[test]
fn a_removed_scratch_is_not_an_error_twice() {
    let (outer, scratch) = scratch();
    fs::remove_dir(scratch.path()).unwrap();
    scratch.remove().unwrap();
    assert!(is_empty(outer.path()));
}

#[test]
fn every_difference_is_told() {
    let (_outer, scratch) = scratch();
    let tree = |name: &str| {
        let root = scratch.path().join(name);
        fs::create_dir_all(root.join("d")).unwrap();
        for (file, bytes) in [("a", "1"), ("d/b", "22"), ("z", "")] {
            fs::write(root.join(file), bytes).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(5, 7);
            File::options().write(true).open(root.join(file)).unwrap().set_modified(time).unwrap();
        }
        symlink("a", root.join("link")).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(6, 8);
        File::open(root.join("d")).unwrap().set_modified(time).unwrap();
        root
    };
    let wanted = list(&tree("wanted")).unwrap();
    assert_eq!(wanted.len(), 5);
    let told = |name: &str, change: &dyn Fn(&Path)| {
        let root = tree(name);
        change(&root);
        difference(&wanted, &list(&root).unwrap(), Times::Exact)
    };
    assert_eq!(told("same", &|_| ()), None);
    assert_eq!(told("less", &|r| fs::remove_file(r.join("z")).unwrap()).unwrap(), "`z` is missing");
    assert_eq!(told("gap", &|r| fs::remove_file(r.join("a")).unwrap()).unwrap(), "`a` is missing");
    let more = told("more", &|r| fs::write(r.join("zz"), "").unwrap());
    assert_eq!(more.unwrap(), "`zz` is there and should not be");
    let size = told("size", &|r| fs::write(r.join("a"), "12").unwrap());
    assert_eq!(size.unwrap(), "`a` should be File(1) and is File(2)");
    let mode = told("mode", &|r| fs::set_permissions(r.join("a"), Permissions::from_mode(0o600)).unwrap());
    assert!(mode.unwrap().ends_with("and has 0600"));
    let time = told("time", &|r| {
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(5, 8);
        File::open(r.join("a")).unwrap().set_modified(time).unwrap();
    });
    assert_eq!(time.unwrap(), "`a` should have mtime 5.000000007 and has 5.000000008");
    assert_eq!(difference(&wanted, &list(&scratch.path().join("time")).unwrap(), Times::Seconds), None);
    let link = told("link", &|r| {
        fs::remove_file(r.join("link")).unwrap();
        symlink("b", r.join("link")).unwrap();
    });
    assert!(link.unwrap().starts_with("`link` should be Symlink"));
}

#[test]
fn replacing_does_not_write_through_a_hard_link() {
    let (_outer, scratch) = scratch();
    let (file, other) = (scratch.path().join("file"), scratch.path().join("other"));
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o750)).unwrap();
    fs::hard_link(&file, &other).unwrap();
    replace(&file, 70_001, 3).unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"old");
    let meta = fs::metadata(&file).unwrap();
    assert_eq!((meta.len(), meta.mode() & 0o7777), (70_001, 0o750));
    assert!(!same_bytes(&file, &other).unwrap());
    replace(&other, 70_001, 3).unwrap();
    assert!(same_bytes(&file, &other).unwrap());
    replace(&other, 70_001, 4).unwrap();
    assert!(!same_bytes(&file, &other).unwrap());
    assert_eq!(list(scratch.path()).unwrap().len(), 2, "no temporary file stays");
}

#[test]
fn the_mount_table_is_read() {
    assert_eq!(unescape(b"/a\\040b\\134/c\\9"), b"/a b\\/c\\9");
    assert!(mount_points().unwrap().contains(&PathBuf::from("/proc")));
    assert!(room(Path::new("/")).unwrap().available > 0);
}
