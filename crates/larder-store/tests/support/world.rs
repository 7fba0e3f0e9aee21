//! A store with a few snapshots, something that is done to it, and what must hold afterwards however that ended.

use super::{ByName, Heard, Node, Scan, assert_same, open, put, restore, restore_request, save, scan, small_tree};
use larder_store::evict::Freed;
use larder_store::{Error, GcRequest, LinkMode, Outcome, Result, Snapshot, Store, TreeKind};
use std::fs;
use std::path::{Path, PathBuf};

/// What somebody makes in a directory whose restore was interrupted.
const BUILT_SINCE: &str = "lib/built-since";

macro_rules! scenarios {
    ($($name:ident: $scenario:ident,)*) => {
        /// Something that is done to a store.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Scenario {
            $($scenario,)*
        }

        impl Scenario {
            pub(crate) const ALL: &[Self] = &[$(Self::$scenario,)*];
        }

        /// A test for each scenario, which calls the function `$run` with the test's name and the scenario.
        macro_rules! every_scenario {
            ($run:ident) => {$(
                #[test]
                fn $name() {
                    $run(stringify!($name), support::world::Scenario::$scenario);
                }
            )*};
        }
    };
}

scenarios! {
    a_first_save: SaveFirst,
    a_save_after_a_change: SaveChanged,
    a_restore_to_an_empty_place: RestoreFresh,
    a_restore_over_another_tree: RestoreOver,
    an_exact_restore: RestoreExact,
    a_removal: Remove,
    a_collection: Collect,
    a_verification: Verify,
    a_repair: Repair,
    preparing_a_spare: Prepare,
    a_restore_by_spare: RestoreSpare,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Failed(String),
    Done,
    Missed,
}

/// The state before it.
pub(crate) struct World {
    scenario: Scenario,
    base: PathBuf,
    /// Keys and trees that must be restorable at the end.
    published: Vec<(&'static str, Scan)>,
    /// The tree that a save was to publish as `new`.
    new: Option<Scan>,
    dest: Option<Scan>,
}

impl Scenario {
    fn overwrites(self) -> bool {
        matches!(self, Self::RestoreOver | Self::RestoreExact)
    }

    /// Makes the state in which the scenario begins, in the empty directory `base`.
    pub(crate) fn arrange(self, base: &Path) -> World {
        let (src, store) = (base.join("src"), open(&base.join("store")));
        let mut world = World { scenario: self, base: base.to_path_buf(), published: vec![], new: None, dest: None };
        let mut publish = |key: &'static str, version: u64| {
            small_tree(&src, version);
            save(&store, &src, key, &ByName).unwrap();
            world.published.push((key, scan(&src)));
        };
        match self {
            Self::SaveFirst => {
                small_tree(&base.join("other"), 1);
                save(&store, &base.join("other"), "other", &ByName).unwrap();
                world.published.push(("other", scan(&base.join("other"))));
                small_tree(&src, 0);
                world.new = Some(scan(&src));
            }
            Self::SaveChanged => {
                publish("a", 0);
                small_tree(&src, 1);
                world.new = Some(scan(&src));
            }
            _ => {
                publish("a", 0);
                publish("b", 1);
            }
        }
        if self.overwrites() {
            restore(&store, &base.join("dest"), "a", &ByName).unwrap();
            if self == Self::RestoreExact {
                put(&base.join("dest/unit/fp/v-extra"), b"of nobody", 0o644, (1_500_000_000, 0));
                fs::create_dir_all(base.join("dest/extra/dir")).unwrap();
                put(&base.join("dest/extra/dir/file"), b"of nobody", 0o444, (1_500_000_000, 0));
            }
            world.dest = Some(scan(&base.join("dest")));
        }
        if self == Self::Collect {
            let pinned = store.find_exact(&super::place(), "b").unwrap();
            assert!(store.pin(&pinned[0].id, "for good").unwrap());
        }
        if self == Self::RestoreSpare {
            let found = store.find_exact(&super::place(), "b").unwrap();
            let snapshot = Snapshot::load(&found[0].path).unwrap();
            let roots = [super::root(&base.join("dest"), &ByName)];
            store.prepare(&snapshot, TreeKind::Spare, &roots, LinkMode::Auto, &()).unwrap();
        }
        if self == Self::Repair {
            damage_harmlessly(&base.join("store"));
        }
        world
    }

    /// Does it. The store is opened here too, so that opening it is disturbed as well.
    pub(crate) fn act(self, base: &Path, heard: &Heard) -> Ended {
        match self.try_act(base, heard) {
            Ok(ended) => ended,
            Err(e) => Ended::Failed(format!("{e:?}")),
        }
    }

    fn try_act(self, base: &Path, heard: &Heard) -> Result<Ended> {
        let (src, dest) = (base.join("src"), base.join("dest"));
        if self == Self::Repair {
            let repaired = Store::repair(&base.join("store"), false, heard)?.expect("there is a store");
            let failed = repaired.steps.iter().find(|step| !step.is_mended());
            return Ok(failed.map_or(Ended::Done, |step| Ended::Failed(format!("{step:?}"))));
        }
        let store = larder_store::Store::open(&base.join("store"), heard)?;
        match self {
            Self::Repair => unreachable!("it opens the store in its own way"),
            Self::SaveFirst | Self::SaveChanged => {
                store.save(&super::save_request(&src, "new", &ByName, LinkMode::Auto), heard)?;
            }
            Self::RestoreFresh | Self::RestoreOver | Self::RestoreExact | Self::RestoreSpare => {
                let mut request = restore_request(&dest, "b", &ByName, LinkMode::Auto);
                request.exact = self != Self::RestoreOver;
                request.keep_newer = self == Self::RestoreOver;
                let restored = store.restore(&request, heard)?;
                assert_ne!(restored.outcome, Outcome::Partial, "no blob is damaged: {}", heard.text());
                if restored.outcome == Outcome::Miss {
                    return Ok(Ended::Missed);
                }
            }
            Self::Remove => {
                let found = store.find_exact(&super::place(), "a")?;
                store.remove(&found, false, heard)?;
            }
            Self::Collect => {
                let wanted = |_: &larder_fs::Space| Freed { bytes: u64::MAX, inodes: 0 };
                let collected = store.gc(&GcRequest { wanted: &wanted, ..super::gc_request() }, heard)?;
                if !collected.unreadable.is_empty() {
                    return Ok(Ended::Failed("a snapshot could not be read".into()));
                }
            }
            Self::Verify => {
                store.verify(heard)?;
            }
            Self::Prepare => {
                let found = store.find_exact(&super::place(), "b")?;
                let snapshot = Snapshot::load(&found[0].path)?;
                store.prepare(&snapshot, TreeKind::Spare, &[super::root(&dest, &ByName)], LinkMode::Auto, heard)?;
            }
        }
        Ok(Ended::Done)
    }
}

/// Whatever goes wrong with a store without harming a snapshot.
fn damage_harmlessly(store: &Path) {
    fs::remove_file(store.join("FORMAT")).unwrap();
    fs::remove_dir(store.join("trees")).unwrap();
    fs::create_dir_all(store.join("tmp/0123456789abcdef/deep")).unwrap();
    fs::write(store.join("blobs/notes.txt"), "of somebody").unwrap();
    fs::create_dir_all(store.join("snapshots/a folder/of somebody")).unwrap();
    for entry in fs::read_dir(store.join("sessions")).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_none() {
            fs::write(entry, "nothing that larder wrote").unwrap();
        }
    }
    for save in fs::read_dir(store.join("ingest")).unwrap().map(|entry| entry.unwrap().path()) {
        fs::write(save.join("0.blake3"), "no digest").unwrap();
    }
}

impl World {
    /// Fails unless everything that was promised holds. `ended` is `None` where the process died.
    pub(crate) fn check(&self, ended: Option<&Ended>, what: &str) {
        let (store_path, dest) = (self.base.join("store"), self.base.join("dest"));
        if self.scenario.overwrites() {
            self.check_dest(ended, what);
        } else if matches!(ended, Some(Ended::Missed | Ended::Failed(_)))
            && !matches!(self.scenario, Scenario::RestoreSpare)
        {
            assert!(!dest.exists(), "{what}: the destination was left alone");
        }
        let store = open(&store_path);
        if self.scenario.overwrites() && ended != Some(&Ended::Done) {
            self.check_half(&store, what);
        }
        assert_eq!(fs::read_dir(store_path.join("tmp")).unwrap().count(), 0, "{what}: tmp was swept");
        let there = |key: &str| !store.find_exact(&super::place(), key).unwrap().is_empty();
        let mut expected: Vec<(&str, &Scan)> = self.published.iter().map(|(key, tree)| (*key, tree)).collect();
        if let Some(new) = &self.new {
            match ended {
                Some(Ended::Done) => assert!(there("new"), "{what}: the save said it was done"),
                Some(_) => assert!(!there("new"), "{what}: a failed save publishes nothing"),
                None => {}
            }
            if there("new") {
                expected.push(("new", new));
            }
        }
        if matches!(self.scenario, Scenario::Remove | Scenario::Collect) {
            assert!(!there("a") || ended != Some(&Ended::Done), "{what}: the removal said it was done");
            expected.retain(|(key, _)| *key != "a" || there("a"));
        }
        for (key, tree) in &expected {
            let fresh = self.base.join(format!("check-{key}"));
            let restored = restore(&store, &fresh, key, &ByName).unwrap();
            assert_eq!(restored.outcome, Outcome::Hit, "{what}: {key}");
            assert_same(tree, &scan(&fresh), &format!("{what}: {key}"));
        }
        let verified = store.verify(&()).unwrap();
        assert!(verified.is_clean() && verified.set_aside == 0, "{what}: {verified:?}");
        // What was restored here is in nobody's use.
        store.end_jobs();
        // What was disturbed works when it is left in peace.
        assert_eq!(self.scenario.act(&self.base, &Heard::default()), Ended::Done, "{what}: again");
        match self.scenario {
            Scenario::SaveFirst | Scenario::SaveChanged => {
                assert_eq!(
                    restore(&store, &self.base.join("check-after"), "new", &ByName).unwrap().outcome,
                    Outcome::Hit
                );
                assert_same(self.new.as_ref().unwrap(), &scan(&self.base.join("check-after")), &format!("{what}: new"));
            }
            Scenario::RestoreFresh | Scenario::RestoreExact | Scenario::RestoreSpare => {
                assert_same(&self.published[1].1, &scan(&dest), &format!("{what}: the destination"));
            }
            Scenario::RestoreOver => {
                let mut got = scan(&dest);
                got.remove(BUILT_SINCE.as_bytes());
                // A fault may have hidden what larder had made there; death hides nothing.
                if ended == Some(&Ended::Done) {
                    got.retain(|path, _| self.published[1].1.contains_key(path));
                }
                assert_same(&self.published[1].1, &got, &format!("{what}: the destination"));
            }
            Scenario::Remove | Scenario::Collect => assert!(!there("a")),
            Scenario::Verify | Scenario::Repair | Scenario::Prepare => {}
        }
    }

    /// A directory that is neither what it was nor what it should be is not saved, and what was built in it since
    /// does not spare it from the next restore.
    fn check_half(&self, store: &Store, what: &str) {
        let dest = self.base.join("dest");
        let now = scan(&dest);
        if now == *self.dest.as_ref().unwrap() || now == self.published[1].1 {
            return;
        }
        let refused = save(store, &dest, "half", &ByName);
        assert!(matches!(refused, Err(Error::HalfRestored { source: None, .. })), "{what}: {refused:?}");
        fs::write(dest.join(BUILT_SINCE), "by a job that went on").unwrap();
    }

    /// Of a directory on its way from tree A to tree B, in whatever state.
    fn check_dest(&self, ended: Option<&Ended>, what: &str) {
        let now = scan(&self.base.join("dest"));
        if ended == Some(&Ended::Missed) {
            assert_same(self.dest.as_ref().unwrap(), &now, &format!("{what}: a miss leaves the destination alone"));
        }
        let (a, b) = (&self.published[0].1, &self.published[1].1);
        let is_file = |node: Option<&Node>| matches!(node, Some(Node::File { .. }));
        let vouches = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b"v"));
        let same = |x: Option<&Node>, y: Option<&Node>| match (x, y) {
            (Some(Node::File { digest: x, mtime: t, .. }), Some(Node::File { digest: y, mtime: u, .. })) => {
                x == y && t == u
            }
            (x, y) => !is_file(x) && !is_file(y),
        };
        let bytes = |x: Option<&Node>, y: Option<&Node>| match (x, y) {
            (Some(Node::File { digest: x, .. }), Some(Node::File { digest: y, .. })) => x == y,
            _ => false,
        };
        let others = || a.keys().chain(b.keys()).filter(|path| !vouches(path) && !same(a.get(*path), b.get(*path)));
        for path in a.keys().chain(b.keys()).filter(|path| vouches(path) && !same(a.get(*path), b.get(*path))) {
            let name = String::from_utf8_lossy(path);
            if bytes(now.get(path), b.get(path)) {
                let behind =
                    others().filter(|other| b.contains_key(*other)).find(|other| !same(now.get(*other), b.get(*other)));
                assert_eq!(
                    behind.map(|p| String::from_utf8_lossy(p)),
                    None,
                    "{what}: {name} vouches for what is not there yet"
                );
            }
            // What only stood in A may be the user's own where nothing tells otherwise: then it stays.
            let stays = self.scenario == Scenario::RestoreOver && !b.contains_key(path);
            if bytes(now.get(path), a.get(path)) && !stays {
                let ahead = others().find(|other| !same(now.get(*other), a.get(*other)));
                assert_eq!(
                    ahead.map(|p| String::from_utf8_lossy(p)),
                    None,
                    "{what}: {name} vouches for what is gone already"
                );
            }
        }
    }
}
