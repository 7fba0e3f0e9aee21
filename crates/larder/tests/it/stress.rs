//! Jobs, collections, pins and deaths at once, on a small disk that is always nearly full.
//!
//! Eight jobs restore, build and save without end, each in a workspace of its own, in steps or by `larder run`; beside
//! them somebody collects, guards, pins and unpins; any larder may be killed at any moment; and now and then others fill the
//! disk to its last megabyte while no build writes. Every byte of a tree follows from its key and the number of its build,
//! so that whoever reads one knows what must be in it.
//!
//! `LARDER_STRESS=MINUTES` lets it go on for longer, `LARDER_STRESS_SEED=N` takes another course.

use crate::support::volume::Volume;
use crate::support::{Args, Said, Sandbox, args, said, skip};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime};

const JOBS: u64 = 8;
const KEYS: u64 = 24;
const MEGABYTES: u64 = 300;
const PINS: usize = 3;
/// What others leave of the disk when they fill it, in bytes.
const LEFT: u64 = 1 << 20;
/// The file that builds lock while they write, and others while they fill the disk.
const BUILDS: &str = "builds";
/// Warnings that there may be: no room before the first byte, a collection that cannot reach what it was asked for, or
/// was kept waiting for too long.
const TOLD: [&str; 5] =
    ["larder gc --need", "larder guard --dry-run", "would have to go", "over its budget", "not everything was"];
/// In the environment of a build: its workspace, key and number.
const BUILD: &str = "LARDER_TEST_BUILD";

/// Numbers that look like chance and come again with the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

fn mixed(numbers: &[u64]) -> u64 {
    numbers.iter().fold(7, |sum, number| Chance(sum ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d)).next())
}

/// A file of a tree: everything about it follows from its seed.
struct Node {
    name: String,
    seed: u64,
    len: usize,
    mode: u32,
}

impl Node {
    fn bytes(&self) -> Vec<u8> {
        let mut chance = Chance(self.seed);
        let mut bytes: Vec<u8> = (0..self.len.div_ceil(8)).flat_map(|_| chance.next().to_le_bytes()).collect();
        bytes.truncate(self.len);
        bytes
    }

    fn mtime(&self) -> SystemTime {
        let (secs, nanos) = (1_500_000_000 + self.seed % 100_000_000, (self.seed >> 32) % 1_000_000_000);
        SystemTime::UNIX_EPOCH + Duration::new(secs, u32::try_from(nanos).unwrap())
    }

    /// As compilers do: what stood there goes, and a new file comes.
    fn write(&self, dir: &Path, bytes: &[u8]) {
        let path = dir.join(&self.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Err(error) = fs::remove_file(&path) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
        fs::write(&path, bytes).unwrap_or_else(|e| panic!("a job has no room for {}: {e}", path.display()));
        fs::set_permissions(&path, Permissions::from_mode(self.mode)).unwrap();
        File::open(&path).unwrap().set_modified(self.mtime()).unwrap();
    }
}

/// What a build of this key and number leaves: libraries of others, which stay the same, and its own.
fn nodes(key: u64, number: u64) -> Vec<Node> {
    let hash = format!("{:016x}", mixed(&[key]));
    let node = |name: String, parts: &[u64], len: usize, mode: u32| {
        let seed = mixed(&[parts, &[key]].concat());
        Node { name, seed, len, mode }
    };
    let mut nodes = vec![
        node(".rustc_info.json".into(), &[1], 900, 0o644),
        node("CACHEDIR.TAG".into(), &[2], 177, 0o644),
        node(format!("debug/deps/app-{hash}"), &[3, number], 1_500_000, 0o755),
        node("debug/log.txt".into(), &[4, number], 20_000, 0o640),
    ];
    for n in 0..5 {
        nodes.push(node(format!("debug/deps/libdep{n}-{hash}.rlib"), &[5, n], 600_000, 0o644));
        nodes.push(node(format!("debug/.fingerprint/dep{n}-{hash}/lib-dep{n}"), &[6, n], 16, 0o644));
    }
    for n in 0..2 {
        nodes.push(node(format!("debug/deps/libown{n}-{hash}.rlib"), &[7, n, number], 500_000, 0o644));
        nodes.push(node(format!("debug/deps/own{n}-{hash}.d"), &[8, n, number], 300, 0o644));
        nodes.push(node(format!("debug/.fingerprint/own{n}-{hash}/lib-own{n}"), &[9, n, number], 16, 0o644));
    }
    nodes
}

const MARK: &str = "debug/build.txt";

fn mark(key: u64, number: u64) -> Node {
    Node { name: MARK.into(), seed: mixed(&[10, key, number]), len: 0, mode: 0o644 }
}

fn mark_of(target: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(target.join(MARK)).ok()?;
    let (key, number) = text.trim().split_once(' ')?;
    Some((key.parse().ok()?, number.parse().ok()?))
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => files_below(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

/// The build whose tree this is, whole and with nothing else in it.
#[track_caller]
fn is_whole(target: &Path) -> (u64, u64) {
    let (key, number) = mark_of(target).unwrap_or_else(|| panic!("{} says nothing of its build", target.display()));
    let mut found = Vec::new();
    files_below(target, &mut found);
    let mut wrong = String::new();
    let mut nodes = nodes(key, number);
    nodes.push(mark(key, number));
    for node in &nodes {
        let path = target.join(&node.name);
        let Ok(meta) = fs::symlink_metadata(&path) else {
            writeln!(wrong, "{} is not there", node.name).unwrap();
            continue;
        };
        if node.name != MARK && fs::read(&path).unwrap() != node.bytes() {
            writeln!(wrong, "{} holds something else", node.name).unwrap();
        }
        if meta.modified().unwrap() != node.mtime() || meta.mode() & 0o7777 != node.mode {
            writeln!(wrong, "{} has another time or mode", node.name).unwrap();
        }
    }
    if found.len() != nodes.len() {
        writeln!(wrong, "{} files instead of {}", found.len(), nodes.len()).unwrap();
    }
    assert!(wrong.is_empty(), "{}, build {number} of {key}:\n{wrong}", target.display());
    (key, number)
}

/// Builds: rewrites what differs from the build that is there, or everything.
fn build(target: &Path, key: u64, number: u64) {
    let sandbox = target.parent().and_then(Path::parent).unwrap();
    let room = File::create(sandbox.join(BUILDS)).unwrap();
    room.lock_shared().unwrap();
    let before = mark_of(target).filter(|(other, _)| *other == key);
    if before.is_none() && target.exists() {
        fs::remove_dir_all(target).unwrap();
    }
    let old: BTreeMap<String, u64> = match before {
        Some((key, number)) => nodes(key, number).into_iter().map(|node| (node.name, node.seed)).collect(),
        None => BTreeMap::new(),
    };
    for node in nodes(key, number) {
        if old.get(&node.name) != Some(&node.seed) {
            node.write(target, &node.bytes());
        }
    }
    mark(key, number).write(target, format!("{key} {number}\n").as_bytes());
}

/// The command of `larder run`. As a test of its own it does nothing.
#[test]
fn a_build() {
    let Some(order) = std::env::var_os(BUILD) else { return };
    let order = order.into_string().unwrap();
    let [dir, key, number] = order.split('\n').collect::<Vec<_>>()[..] else { panic!("{order:?}") };
    let (dir, key, number) = (Path::new(dir), key.parse().unwrap(), number.parse().unwrap());
    // Whoever kills us waits until we are gone.
    let busy = File::create(dir.join("busy")).unwrap();
    busy.lock().unwrap();
    let target = dir.join("target");
    if target.exists() {
        let found = is_whole(&target);
        fs::write(dir.join("found"), format!("{} {}", found.0, found.1)).unwrap();
        assert_eq!(is_whole(&target), found);
    }
    build(&target, key, number);
    assert_eq!(is_whole(&target), (key, number));
}

/// What happened, in numbers.
#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    saves: AtomicU64,
    refused: AtomicU64,
    kills: AtomicU64,
    collections: AtomicU64,
    /// How often others filled the disk.
    fills: AtomicU64,
    fullest: AtomicU64,
}

/// Whether a command said that there is no room, and what helps.
fn is_refusal(said: &Said) -> bool {
    said.err.contains("no room on the file system") && TOLD[..2].iter().any(|told| said.err.contains(told))
}

fn free_bytes(dir: &Path) -> u64 {
    larder_fs::Dir::open(dir).and_then(|dir| larder_fs::Volume::space(&dir)).unwrap().available
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

struct Stress {
    sandbox: Sandbox,
    seed: u64,
    end: Instant,
    /// Somebody failed: all others stop.
    over: AtomicBool,
    builds: AtomicU64,
    counts: Counts,
    /// Held by whoever restores or saves: others take no room that was there when that began.
    moving: RwLock<()>,
    /// Pinned for certain.
    pinned: Mutex<Vec<String>>,
}

/// Ends everybody when a thread fails.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Stress {
    fn goes_on(&self) -> bool {
        Instant::now() < self.end && !self.over.load(Ordering::Relaxed)
    }

    fn larder(&self, words: Args) -> Command {
        let mut command = self.sandbox.larder(words);
        command.env("LARDER_GUARD", "1").args(["--format", "json"]);
        command
    }

    /// Runs larder to its end, or kills it and all that it started after some moments.
    fn run(&self, chance: &mut Chance, command: &mut Command, deadly: u64) -> Option<Said> {
        let what = format!("{command:?}");
        let words: Vec<_> = command.get_args().filter_map(|word| word.to_str()).collect();
        let moves = words.iter().any(|word| ["restore", "save", "run"].contains(word));
        let _moving = moves.then(|| self.moving.read().unwrap());
        let mut child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut left = chance.once_in(deadly).then(|| chance.below(60));
        while child.try_wait().unwrap().is_none() {
            if left == Some(0) {
                add(&self.counts.kills);
                // It may have ended just now.
                drop(said(Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())])));
                child.wait().unwrap();
                return None;
            }
            left = left.map(|left| left - 1);
            std::thread::sleep(Duration::from_millis(2));
        }
        let done: Said = child.wait_with_output().unwrap().into();
        for line in done.warnings() {
            assert!(TOLD.iter().any(|told| line.contains(told)), "{what}: {done}");
        }
        assert!(!done.err.contains("os error"), "{what}: {done}");
        Some(done)
    }

    /// One of the jobs.
    fn job(&self, number: u64) {
        let _alarm = Alarm(&self.over);
        let mut chance = Chance(mixed(&[self.seed, number]));
        let dir = self.sandbox.path(&format!("job-{number}"));
        fs::create_dir(&dir).unwrap();
        let target = dir.join("target");
        // Whether the target may be anything, because somebody died over it.
        let mut torn = false;
        while self.goes_on() {
            let (key, build) = (chance.below(KEYS), self.builds.fetch_add(1, Ordering::Relaxed));
            if chance.once_in(6) && target.exists() {
                fs::remove_dir_all(&target).unwrap();
                torn = false;
            }
            torn = match chance.once_in(3) {
                true => self.in_one(&mut chance, &dir, torn, key, build),
                false => self.in_steps(&mut chance, &target, torn, key, build),
            };
        }
    }

    fn words(verb: &str, key: u64, target: &Path) -> Args {
        args([verb, "--key-only", "--key"]).with(format!("key-{key}")).with("--path").with(target)
    }

    /// The same; sometimes all is copied, which needs most room.
    fn words_by(chance: &mut Chance, verb: &str, key: u64, target: &Path) -> Args {
        let copied = ["--link-mode", "copy"];
        Self::words(verb, key, target).and(&copied[..if chance.once_in(3) { 2 } else { 0 }])
    }

    /// `larder restore`, a build, `larder save`; whether the target is torn.
    fn in_steps(&self, chance: &mut Chance, target: &Path, torn: bool, key: u64, number: u64) -> bool {
        let words = Self::words_by(chance, "restore", key, target).with("--exact");
        let Some(restored) = self.run(chance, &mut self.larder(words), 8) else { return true };
        let restored = restored.ok();
        if restored.json()["outcome"] == "hit" {
            add(&self.counts.hits);
            assert_eq!(is_whole(target).0, key, "{restored}");
        } else {
            add(if is_refusal(&restored) { &self.counts.refused } else { &self.counts.misses });
            if torn && target.exists() {
                fs::remove_dir_all(target).unwrap();
            }
        }
        // Whatever is collected meanwhile: what was restored stays.
        for _ in 0..chance.below(3) {
            if target.exists() {
                is_whole(target);
            }
        }
        build(target, key, number);
        assert_eq!(is_whole(target), (key, number));
        let words = Self::words_by(chance, "save", key, target);
        if let Some(saved) = self.run(chance, &mut self.larder(words), 8) {
            if saved.code == Some(0) {
                add(&self.counts.saves);
            } else {
                assert!(is_refusal(&saved), "{saved}");
                add(&self.counts.refused);
            }
        }
        assert_eq!(is_whole(target), (key, number));
        false
    }

    /// The same by `larder run`.
    fn in_one(&self, chance: &mut Chance, dir: &Path, torn: bool, key: u64, number: u64) -> bool {
        let target = dir.join("target");
        if torn && target.exists() {
            fs::remove_dir_all(&target).unwrap();
        }
        let found = dir.join("found");
        if found.exists() {
            fs::remove_file(&found).unwrap();
        }
        let own = std::env::current_exe().unwrap();
        let words = Self::words_by(chance, "run", key, &target).with("--exact").with("--");
        let mut command = self.sandbox.larder(words.with(own).and(["--exact", "stress::a_build", "--nocapture"]));
        command.env("LARDER_GUARD", "1").env(BUILD, format!("{}\n{key}\n{number}", dir.display()));
        let done = self.run(chance, &mut command, 8);
        let busy = File::create(dir.join("busy")).unwrap();
        busy.lock().unwrap();
        let Some(done) = done else { return true };
        let done = done.ok();
        let summary = done.summaries().last().copied().unwrap_or_default();
        if summary.contains("hit ") {
            add(&self.counts.hits);
            let found = fs::read_to_string(&found).unwrap();
            assert!(found.starts_with(&format!("{key} ")), "{found}: {done}");
        } else {
            add(&self.counts.misses);
        }
        let saved = summary.contains("; saved ");
        add(if saved { &self.counts.saves } else { &self.counts.refused });
        assert!(saved || is_refusal(&done), "{done}");
        assert_eq!(is_whole(&target), (key, number));
        false
    }

    fn listed(&self) -> Vec<Value> {
        let listed = said(&mut self.larder(args(["ls"]))).ok().json();
        listed["snapshots"].as_array().unwrap().clone()
    }

    fn assert_pinned(&self) {
        let pinned = self.pinned.lock().unwrap().clone();
        let there = self.listed();
        for id in pinned {
            assert!(there.iter().any(|one| one["snapshot"] == *id), "{id} was pinned, and is gone");
        }
    }

    /// Whoever keeps the store.
    fn keeper(&self) {
        let _alarm = Alarm(&self.over);
        let mut chance = Chance(mixed(&[self.seed, 1000]));
        while self.goes_on() {
            match chance.below(8) {
                0 | 1 => self.collect(&mut chance, args(["gc"]), &[0]),
                2 => self.collect(&mut chance, args(["gc", "--need", "90MB"]), &[0, 1]),
                3 => self.collect(&mut chance, args(["gc", "--budget", "150MB"]), &[0]),
                4 | 5 => self.collect(&mut chance, args(["guard"]), &[0, 1]),
                6 => self.pin(&mut chance),
                _ => self.unpin(&mut chance),
            }
            self.assert_pinned();
        }
    }

    /// Others, who fill the disk for a moment.
    fn others(&self) {
        let _alarm = Alarm(&self.over);
        let mut chance = Chance(mixed(&[self.seed, 2000]));
        let mut next = Instant::now();
        while self.goes_on() {
            if Instant::now() < next {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            next = Instant::now() + Duration::from_millis(1000 + chance.below(4000));
            let nobody_moves = self.moving.write().unwrap();
            let room = File::create(self.sandbox.path(BUILDS)).unwrap();
            room.lock().unwrap();
            self.fill();
            drop(nobody_moves);
            // What begins now meets a full disk, and so does a collection.
            self.collect(&mut chance, args(["gc"]), &[0]);
            let end = Instant::now() + Duration::from_millis(chance.below(500));
            while Instant::now() < end && self.goes_on() {
                std::thread::sleep(Duration::from_millis(2));
            }
            self.empty();
        }
    }

    fn fill(&self) {
        add(&self.counts.fills);
        let mut hoard = File::create(self.sandbox.path("hoard")).unwrap();
        let bytes = vec![7; 1 << 17];
        // Whoever restores writes too: then it may be full already.
        while free_bytes(&self.sandbox.root) > LEFT && hoard.write_all(&bytes).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.sandbox.path("hoard")).unwrap();
    }

    fn collect(&self, chance: &mut Chance, words: Args, codes: &[i32]) {
        let Some(done) = self.run(chance, &mut self.larder(words), 5) else { return };
        assert!(codes.contains(&done.code.unwrap_or(-1)), "{done}");
        add(&self.counts.collections);
        if let Some(used) = done.json()["disks"][0]["used_percent"].as_u64() {
            self.counts.fullest.fetch_max(used, Ordering::Relaxed);
        }
    }

    fn pin(&self, chance: &mut Chance) {
        let all = self.listed();
        if all.is_empty() || self.pinned.lock().unwrap().len() >= PINS {
            return;
        }
        let at = usize::try_from(chance.below(all.len() as u64)).unwrap();
        let id = all[at]["snapshot"].as_str().unwrap().to_owned();
        if self.pinned.lock().unwrap().contains(&id) {
            return;
        }
        match self.run(chance, &mut self.larder(args(["pin"]).with(&id)), 5) {
            Some(done) if done.code == Some(0) => self.pinned.lock().unwrap().push(id),
            // It was evicted meanwhile.
            Some(done) => assert!(done.code == Some(2) || done.err.contains("removed just now"), "{done}"),
            // Nobody knows.
            None => drop(said(&mut self.larder(args(["unpin"]).with(id)))),
        }
    }

    fn unpin(&self, chance: &mut Chance) {
        let Some(id) = self.pinned.lock().unwrap().pop() else { return };
        if self.run(chance, &mut self.larder(args(["unpin"]).with(&id)), 5).is_none() {
            drop(said(&mut self.larder(args(["unpin"]).with(&id))));
        }
    }

    /// Everybody is gone.
    fn afterwards(&self) {
        self.sandbox.said(["verify"]).ok();
        self.assert_pinned();
        for number in 0..JOBS {
            fs::remove_dir_all(self.sandbox.path(&format!("job-{number}"))).unwrap();
        }
        let largest = self.listed().iter().map(|one| one["bytes"].as_u64().unwrap()).max().unwrap();
        let stored = |object: &Value| object["stored"].as_u64().unwrap();
        // A save for which there is no room is refused before its first byte.
        let tree = self.sandbox.path("last/target");
        build(&tree, KEYS, 1);
        self.fill();
        let words = Self::words("save", KEYS, &tree).and(["--link-mode", "copy"]);
        let refused = self.sandbox.said(words).ends(1);
        assert!(is_refusal(&refused), "{refused}");
        assert!(free_bytes(&self.sandbox.root) > LEFT / 2, "something was written");
        self.empty();
        fs::remove_dir_all(&tree).unwrap();
        let before = stored(&self.sandbox.json(["gc", "--dry-run"]));
        let budget = before / 2;
        let words = args(["gc", "--budget"]).with(format!("{budget}B"));
        said(self.larder(words).env("LARDER_LEASE", "0s")).ok();
        let after = stored(&self.sandbox.json(["gc", "--dry-run"]));
        assert!(after <= budget + largest, "{after} of {before} bytes are left for a budget of {budget}");
        self.assert_pinned();
        self.sandbox.said(["verify"]).ok();
        // Every one of them, the newest of each key first.
        let place = self.sandbox.path("place");
        let all = self.listed();
        assert!(!all.is_empty(), "half of all snapshots were to stay");
        for (n, one) in all.iter().enumerate() {
            let key = one["key"].as_str().unwrap();
            let target = place.join(n.to_string());
            let restored = self.sandbox.transfer("restore", &target, key, &[]);
            assert_eq!((&restored["outcome"], &restored["snapshot"]), (&"hit".into(), &one["snapshot"]), "{restored}");
            assert_eq!(format!("key-{}", is_whole(&target).0), key);
            self.sandbox.said(args(["rm", "--force"]).with(one["snapshot"].as_str().unwrap())).ok();
            fs::remove_dir_all(&target).unwrap();
        }
        let left = said(self.larder(args(["gc"])).env("LARDER_LEASE", "0s")).ok();
        let left = stored(&left.json());
        assert!(left < largest, "an empty store takes {left} bytes");
    }
}

#[test]
fn nothing_is_lost_on_a_disk_that_is_always_nearly_full() {
    let volume = match Volume::make("ext4", MEGABYTES, &["-m", "0"]) {
        Ok(volume) => volume,
        Err(why) => return skip(&why),
    };
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let time = number("LARDER_STRESS").map_or(Duration::from_secs(30), |minutes| Duration::from_secs(minutes * 60));
    let stress = Stress {
        sandbox: Sandbox::within(&volume.path),
        seed: number("LARDER_STRESS_SEED").unwrap_or(1),
        end: Instant::now() + time,
        over: AtomicBool::new(false),
        builds: AtomicU64::new(0),
        counts: Counts::default(),
        moving: RwLock::default(),
        pinned: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for job in 0..JOBS {
            let stress = &stress;
            scope.spawn(move || stress.job(job));
        }
        scope.spawn(|| stress.keeper());
        scope.spawn(|| stress.others());
    });
    eprintln!("{:?}", stress.counts);
    stress.afterwards();
    let told = fs::read_dir(stress.sandbox.store.join("events")).unwrap();
    let told: String = told.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(told.contains("\"evict\"") && stress.counts.fullest.load(Ordering::Relaxed) >= 70, "{:?}", stress.counts);
    let some = |count: &AtomicU64| count.load(Ordering::Relaxed) > 0;
    let Counts { hits, misses, saves, kills, collections, fills, .. } = &stress.counts;
    assert!([hits, misses, saves, kills, collections, fills].into_iter().all(some), "{:?}", stress.counts);
}
