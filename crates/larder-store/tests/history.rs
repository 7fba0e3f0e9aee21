//! History is told by many processes at once, survives what others do to it, and is in nobody's way.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[macro_use]
mod support;

use larder_fs::fault::{Fault, arm, arm_for, disarm};
use larder_store::{Event, EventKind, EventOutcome, LONGEST_EVENT, Store};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use support::{alone, another_process, fast, open, put, save_opaque, small_tree};

const CHILD: &str = "LARDER_TEST_TELLER";
/// 2026-11-23, 00:00 UTC.
const NOW: u64 = 1_795_392_000_000;
const DAY: u64 = 86_400_000;
const PROCESSES: u64 = 16;
const EACH: u64 = 200;

fn event(number: u64) -> Event {
    Event {
        outcome: Some(EventOutcome::Hit),
        job: format!("job \"{number}\"\n"),
        key: "k".repeat(usize::try_from(number % 3000).unwrap()),
        ms: number,
        ..Event::new(EventKind::Restore, NOW + number)
    }
}

fn month(store: &Path) -> std::path::PathBuf {
    store.join("events/2026-11.jsonl")
}

/// One of many tellers; as a test of its own it does nothing.
#[test]
fn child() {
    let Some(order) = std::env::var_os(CHILD) else { return };
    let order = order.into_string().unwrap();
    let (number, store) = order.split_once(' ').unwrap();
    let (number, store): (u64, _) = (number.parse().unwrap(), open(Path::new(store)));
    for told in 0..EACH {
        assert!(store.record(&event(number * EACH + told)));
    }
}

#[test]
fn sixteen_processes_tell_at_once_and_no_line_is_lost_or_torn() {
    let base = fast();
    let tellers: Vec<_> = (0..PROCESSES)
        .map(|number| {
            let order = format!("{number} {}", base.path().display());
            another_process("child", CHILD, &order).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut teller in tellers {
        assert!(teller.wait().unwrap().success());
    }
    let history = open(base.path()).history(0).unwrap();
    assert_eq!(history.skipped, 0);
    let told: Vec<u64> = history.events.iter().map(|event| event.ms).collect();
    assert_eq!(told, (0..PROCESSES * EACH).collect::<Vec<_>>());
    for line in fs::read(month(base.path())).unwrap().split(|byte| *byte == b'\n') {
        assert!(line.len() < LONGEST_EVENT && (line.is_empty() || line.starts_with(b"{") && line.ends_with(b"}")));
    }
}

#[test]
fn an_event_comes_back_with_the_room_on_the_disk() {
    let base = fast();
    let store = open(base.path());
    assert!(!base.path().join("events").exists(), "nothing is made before there is something to tell");
    assert_eq!(store.history(0).unwrap(), Default::default());
    assert!(store.record(&event(7)));
    let history = store.history(0).unwrap();
    let disk = history.events[0].disk.unwrap();
    assert!(disk.total > 0 && disk.available <= disk.total);
    assert_eq!(history.events[0], Event { disk: Some(disk), job: "job \"7\" ".into(), ..event(7) });
    assert_eq!(store.history(NOW + 8).unwrap().events, []);
    assert_eq!(store.history(NOW + 40 * DAY).unwrap().events, []);
}

#[test]
fn torn_foreign_and_hostile_lines_are_counted_and_cost_themselves_alone() {
    let base = fast();
    let store = open(base.path());
    assert!(store.record(&event(1)));
    let mut file = fs::File::options().append(true).open(month(base.path())).unwrap();
    // What a full disk left of an event: no line feed follows.
    file.write_all(b"\n{\"v\":1,\"at_ms\":17953").unwrap();
    assert!(store.record(&event(2)));
    let deep = "[".repeat(100_000);
    let hostile = [
        "not json",
        "{}",
        "{\"v\":1}extra",
        "[1,2]",
        "null",
        "\"text\"",
        "{\"v\":2,\"at_ms\":1795392000000,\"kind\":\"restore\"}",
        "{\"v\":1,\"at_ms\":-5}",
        "{\"v\":1,\"at_ms\":1e400}",
        "{\"v\":1,\"at_ms\":99999999999999999999999}",
        "{\"v\":1,\"at_ms\":1795392000000,\"ms\":\"soon\"}",
        "{\"v\":1,\"at_ms\":1795392000000,\"link_modes\":[1]}",
        "{\"v\":1,\"at_ms\":1795392000000,\"built\":{\"slowest\":[{\"unit\":{}}]}}",
        &deep,
    ];
    for line in hostile {
        writeln!(file, "{line}").unwrap();
    }
    file.write_all(b"\xff\xfe\0\0\n").unwrap();
    // One line of 64 MiB, and one that is as long as an event may be.
    for length in [64 << 20, LONGEST_EVENT, LONGEST_EVENT - 1, LONGEST_EVENT + 1] {
        file.write_all(&vec![b'x'; length]).unwrap();
        file.write_all(b"\n").unwrap();
    }
    // A newer larder's fields and words.
    file.write_all(b"{\"v\":1,\"at_ms\":1795392000003,\"kind\":\"brew\",\"outcome\":\"tea\",\"cups\":2}\n").unwrap();
    assert!(store.record(&event(4)));
    let history = store.history(0).unwrap();
    let told: Vec<(EventKind, u64)> = history.events.iter().map(|event| (event.kind, event.ms)).collect();
    let restore = |ms| (EventKind::Restore, ms);
    assert_eq!(told, [restore(1), restore(2), (EventKind::Other, 0), restore(4)]);
    assert_eq!(history.events[2].outcome, Some(EventOutcome::Other));
    assert_eq!(history.skipped, 1 + hostile.len() as u64 + 1 + 4);
}

#[test]
fn what_is_no_file_is_passed_over_and_never_waited_for() {
    let base = fast();
    let store = open(base.path());
    assert!(store.record(&event(1)));
    let events = base.path().join("events");
    fs::create_dir(events.join("2026-10.jsonl")).unwrap();
    symlink("/etc/passwd", events.join("2026-09.jsonl")).unwrap();
    assert!(Command::new("mkfifo").arg(events.join("2026-08.jsonl")).status().unwrap().success());
    fs::write(events.join("notes.txt"), "mine").unwrap();
    let history = store.history(0).unwrap();
    assert_eq!((history.events.len(), history.skipped), (1, 3));
    // Nor is anything told to such.
    for days in [80, 110] {
        assert!(!store.record(&Event { at_ms: NOW - days * DAY, ..event(1) }));
    }
    assert!(!fs::read_to_string("/etc/passwd").unwrap().contains("job"));
    fs::remove_dir_all(&events).unwrap();
    symlink(base.path().join("tmp"), &events).unwrap();
    assert!(!store.record(&event(1)), "a link may lead anywhere");
    fs::remove_file(&events).unwrap();
    fs::write(&events, "in the way").unwrap();
    assert!(!store.record(&event(1)));
    assert!(store.history(0).is_err());
}

#[test]
fn old_months_are_dropped_whole() {
    let base = fast();
    let store = open(base.path());
    assert_eq!(store.drop_history(12, NOW, false).unwrap(), [""; 0]);
    for days in [0, 22, 23, 300, 370, 800] {
        assert!(store.record(&Event { at_ms: NOW - days * DAY, ..event(0) }));
    }
    fs::write(base.path().join("events/1999-01.jsonl.bak"), "mine").unwrap();
    let names = ["2024-09.jsonl", "2025-11.jsonl", "2026-01.jsonl", "2026-10.jsonl", "2026-11.jsonl"];
    let months = |store: &Store| {
        let mut names: Vec<String> = fs::read_dir(store.path().join("events"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with("bak"))
            .collect();
        names.sort();
        names
    };
    assert_eq!(months(&store), names);
    assert_eq!(store.drop_history(12, NOW, true).unwrap(), names[..1]);
    assert_eq!(months(&store), names);
    assert_eq!(store.drop_history(12, NOW, false).unwrap(), names[..1]);
    assert_eq!(store.drop_history(10, NOW, false).unwrap(), names[1..2]);
    assert_eq!(store.drop_history(0, NOW, false).unwrap(), names[2..4]);
    assert_eq!(months(&store), names[4..]);
    assert_eq!(store.drop_history(0, NOW, false).unwrap(), [""; 0]);
    assert!(base.path().join("events/1999-01.jsonl.bak").exists());
}

#[test]
fn whatever_fails_is_not_told_and_nothing_else() {
    alone("whatever_fails_is_not_told_and_nothing_else", || {
        let mut failed = 0;
        for nth in 0..20 {
            for fault in [Fault::Errno(5), Fault::Errno(28), Fault::Errno(13), Fault::ErrnoFromHere(28)] {
                let base = fast();
                let store = open(base.path());
                arm(nth, fault);
                let told = store.record(&event(1));
                let hit = disarm();
                assert_eq!(told, hit.is_none(), "operation {nth}, {hit:?}");
                failed += u32::from(hit.is_some());
                assert!(store.record(&event(2)), "the next one is told");
                let history = store.history(0).unwrap();
                assert_eq!((history.events.len(), history.skipped), (1 + usize::from(told), 0));
            }
        }
        assert!(failed >= 4 * 4, "{failed} faults are too few to be true");
        let base = fast();
        let store = open(base.path());
        assert!(store.record(&event(1)));
        arm_for("open", 5);
        let read = store.history(0);
        disarm();
        assert!(read.is_err());
    });
}

/// The store of a larder that knew nothing of events, and such a larder on a store of today.
#[test]
fn a_store_may_have_events_or_not() {
    let base = fast();
    small_tree(&base.path().join("tree"), 0);
    let path = base.path().join("store");
    let store = open(&path);
    save_opaque(&store, &base.path().join("tree"), "k");
    assert!(store.record(&event(1)));
    // Whoever lost FORMAT finds only rooms of its own.
    fs::remove_file(path.join("FORMAT")).unwrap();
    assert_eq!(open(&path).history(0).unwrap().events.len(), 1);
    fs::remove_dir_all(path.join("events")).unwrap();
    assert_eq!(open(&path).history(0).unwrap().events.len(), 0);
    assert!(store.verify(&()).unwrap().is_clean());
}

#[test]
fn what_a_save_adds_is_what_the_store_grows_by() {
    let base = fast();
    let tree = base.path().join("tree");
    small_tree(&tree, 0);
    put(&tree.join("large"), &support::noise(3, 300_000), 0o644, (1_600_000_000, 1));
    let store = open(&base.path().join("store"));
    let before = store.stored_bytes().unwrap();
    assert_eq!(before, 0);
    let first = save_opaque(&store, &tree, "k");
    assert!(first.added >= 300_000, "{first:?}");
    assert_eq!(store.stored_bytes().unwrap(), first.added);
    let second = save_opaque(&store, &tree, "k");
    assert!(second.added < 100_000, "{second:?}");
    assert_eq!(store.stored_bytes().unwrap(), first.added + second.added);
    let snapshot = fs::metadata(second.path.unwrap()).unwrap().size();
    assert_eq!(second.added, snapshot, "nothing but its own file");
}
