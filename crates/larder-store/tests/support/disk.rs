//! Real file systems in files, mounted as loop devices. Needs root.

use super::skip;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Runs a program; the error is its own words.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let done = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if done.status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&done.stderr).trim()))
    }
}

/// A mounted file system in a file; unmounted when dropped.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// `None`, said out loud, where this cannot be done.
    pub(crate) fn new(what: &str, kind: &str, megabytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let mount = dir.path().join("mount");
        fs::create_dir(&mount).unwrap();
        let (image, mount) = (image.to_str().unwrap(), mount.to_str().unwrap());
        let make: &[&str] = match kind {
            // No blocks kept back for root, since the tests run as root.
            "ext4" => &["-q", "-m", "0", image],
            _ => &["-q", image],
        };
        let made = run(&format!("mkfs.{kind}"), make).and_then(|()| run("mount", &["-o", "loop", image, mount]));
        match made {
            Ok(()) => Some(Self { dir }),
            Err(why) => {
                skip(what, &why);
                None
            }
        }
    }

    pub(crate) fn mount(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    /// Fills what is left.
    pub(crate) fn fill(&self) {
        use std::io::Write;
        for size in [1 << 20, 4096, 1] {
            let mut file = fs::File::create(self.mount().join(format!("filler-{size}"))).unwrap();
            let bytes = vec![1; size];
            while file.write_all(&bytes).is_ok() {}
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // With whatever a test that failed left mounted in it; the loop device goes with its mount.
        if let Err(e) = run("umount", &["-R", self.mount().to_str().unwrap()]) {
            eprintln!("{} stays mounted: {e}", self.mount().display());
        }
    }
}
