//! What commands tell the history, and what `report` makes of it; its page in a real browser.

use crate::support::project::Project;
use crate::support::tree::plant;
use crate::support::{Sandbox, args, has, is_root, said, skip, wait_for};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_MS: u64 = 86_400_000;
const HOSTILE: &str = "\"><script>console.error('owned')</script><img src=http://127.0.0.1:9/x>|`@all`\n\u{1b}[31m& ü";

/// The lines of the history, as they stand.
fn told(sandbox: &Sandbox) -> Vec<Value> {
    let mut lines = Vec::new();
    let Ok(events) = fs::read_dir(sandbox.store.join("events")) else { return lines };
    for file in events {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        lines.extend(text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()));
    }
    lines
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Year and month of so many milliseconds since 1970, by the system's own calendar.
fn month(at_ms: u64) -> String {
    let at = format!("@{}", at_ms / 1000);
    crate::support::tool("date", &[&"-u", &"-d", &at, &"+%Y-%m"]).trim().to_owned()
}

/// Writes a history.
fn record(sandbox: &Sandbox, events: &[Value]) {
    said(&mut sandbox.larder(["save", "--key", "seed", "--path", "seed"])).ok();
    let folder = sandbox.store.join("events");
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    let mut months: std::collections::BTreeMap<u64, Vec<&Value>> = Default::default();
    for event in events {
        months.entry(event["at_ms"].as_u64().unwrap() / DAY_MS).or_default().push(event);
    }
    for (day, events) in months {
        let path = folder.join(format!("{}.jsonl", month(day * DAY_MS)));
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        events.iter().for_each(|event| text.push_str(&format!("\n{event}\n")));
        fs::write(path, text).unwrap();
    }
}

/// A month of a team's work: a few lineages, weekends, a bad day, an eviction.
fn month_of_work(hostile: bool) -> Vec<Value> {
    let now = now_ms();
    let jobs = [
        ("acme/node", "test", 1_500_000u64, 900_000_000u64),
        ("acme/node", "clippy", 420_000, 310_000_000),
        ("acme/consensus", "test", 880_000, 640_000_000),
        ("acme/protocol", "build", 260_000, 150_000_000),
        ("acme/protocol", "docs", 95_000, 40_000_000),
    ];
    let mut events = Vec::new();
    let mut seed: u64 = 7;
    let mut chance = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let total = 1_000_000_000_000u64;
    for day in 0..30u64 {
        let at = now - (29 - day) * DAY_MS;
        let weekend = (at / DAY_MS + 4).is_multiple_of(7) || (at / DAY_MS + 4) % 7 == 6;
        let runs = if weekend { 1 } else { 3 + chance(6) };
        for run in 0..runs {
            for (repository, job, price, bytes) in jobs {
                let (repository, job) = match hostile && job == "docs" {
                    true => (HOSTILE, HOSTILE),
                    false => (repository, job),
                };
                let (outcome, share) = match chance(20) {
                    _ if day == 12 && run < 2 => ("miss", 0),
                    0 => ("miss", 0),
                    1..=6 => ("partial", 60 + chance(30)),
                    _ => ("hit", 96 + chance(4)),
                };
                let used = 620 + day * 9 - if day > 20 { 110 } else { 0 };
                let disk = json!({"total": total, "available": total / 1000 * (1000 - used)});
                let who = json!({"v": 1, "at_ms": at - (runs - run) * 1_000_000, "host": "runner-1", "repository": repository,
                    "job": job, "what": "target", "disk": disk, "key": "k"});
                let with = |more: Value| {
                    let mut event = who.clone();
                    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                    event
                };
                events.push(with(
                    json!({"kind": "restore", "outcome": outcome, "ms": 80 + chance(120), "bytes": bytes * 4,
                    "files": 7000, "spared_ms": price * share / 100,
                    "link_modes": {"hardlink": 5200, "copy": 1500, "reflink": 300}}),
                ));
                let built = price * (100 - share) / 100;
                events.push(with(
                    json!({"kind": "save", "outcome": "saved", "ms": 150 + chance(90), "bytes": bytes * 4,
                    "added": bytes * (100 - share) / 300, "built": {"units": 3 + (100 - share), "ms": built,
                    "slowest": [{"unit": format!("{job}-suite test-integration"), "ms": built / 2},
                        {"unit": "openssl-sys run-build-script-build-script-main", "ms": 31_000 + chance(4000)}]}}),
                ));
            }
        }
        if day == 20 {
            let freed = 21_000_000_000u64;
            events.push(json!({"v": 1, "at_ms": at, "kind": "evict", "repository": "acme/node", "job": "clippy",
                "what": "target", "freed": freed, "reason": "over the high watermark"}));
        }
    }
    events
}

#[test]
fn runs_tell_who_did_what_and_what_it_spared() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("checkout"));
    let secret = "hunter2-do-not-tell";
    let run = || {
        let mut command =
            sandbox.larder(["run", "--workspace", "checkout", "--format", "json", "--", "cargo", "build"]);
        command.envs([
            ("GITHUB_REPOSITORY", "acme/node"),
            ("GITHUB_JOB", "test"),
            ("GITHUB_REF_NAME", "feature"),
            ("GITHUB_RUN_ID", "4711"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("USER", "runner"),
            ("GITHUB_TOKEN", secret),
            ("CARGO_REGISTRY_TOKEN", secret),
            ("DATABASE_URL", "postgres://root:hunter2-do-not-tell@db"),
        ]);
        said(&mut command).ok()
    };
    run();
    let first = told(&sandbox);
    let kinds = |events: &[Value]| {
        let kind =
            |event: &Value| (event["kind"].as_str().unwrap().to_owned(), event["outcome"].as_str().unwrap().to_owned());
        events.iter().map(kind).collect::<Vec<_>>()
    };
    let pair = |kind: &str, outcome: &str| (kind.to_owned(), outcome.to_owned());
    assert_eq!(kinds(&first), [pair("restore", "miss"), pair("save", "saved")]);
    for event in &first {
        assert_eq!(event["v"], 1);
        for (name, text) in [
            ("repository", "acme/node"),
            ("job", "test"),
            ("branch", "feature"),
            ("run", "4711.2"),
            ("user", "runner"),
            ("scope", "acme/node"),
            ("what", "target"),
        ] {
            assert_eq!(event[name], text, "{name}");
        }
        assert!(event["disk"]["total"].as_u64().unwrap() > 0 && !event["host"].as_str().unwrap().is_empty());
        assert!(now_ms() - event["at_ms"].as_u64().unwrap() < 120_000);
    }
    let built = &first[1]["built"];
    assert!(built["units"].as_u64().unwrap() >= 4 && built["ms"].as_u64().unwrap() > 0, "{built}");
    assert!(!built["slowest"].as_array().unwrap().is_empty());
    assert!(first[1]["added"].as_u64().unwrap() > 100_000);

    fs::remove_dir_all(&project.target).unwrap();
    let again = run();
    let object: Value = serde_json::from_str(again.out.lines().last().unwrap()).unwrap();
    let second = &told(&sandbox)[2..];
    assert_eq!(kinds(second), [pair("restore", "hit"), pair("save", "saved")]);
    assert_eq!(second[0]["spared_ms"], object["spared_ms"]);
    assert_eq!(second[0]["reused"], object["reused_units"]);
    assert_eq!(second[0]["spared_ms"], built["ms"], "all that was built was spared");
    assert_eq!(second[1]["built"], json!({"units": 0, "ms": 0}));

    // A dry run is no event, nor is a command that was switched off.
    said(&mut sandbox.larder(["restore", "--workspace", "checkout", "--dry-run"])).ok();
    said(&mut sandbox.larder(["save", "--workspace", "checkout", "--dry-run"])).ok();
    said(sandbox.larder(["save", "--workspace", "checkout"]).env("LARDER_DISABLE", "1")).ok();
    assert_eq!(told(&sandbox).len(), 4);

    let report = sandbox.json(["report"]);
    let totals = &report["totals"];
    assert_eq!((&totals["hits"], &totals["misses"], &totals["saves"]), (&json!(1), &json!(1), &json!(2)));
    assert_eq!(totals["spared_ms"], built["ms"]);
    assert_eq!(report["lineages"][0]["job"], "test");
    let sum: u64 = told(&sandbox).iter().map(|event| event["added"].as_u64().unwrap_or(0)).sum();
    assert_eq!(totals["added_bytes"], sum);
    assert_eq!(report["store"]["stored_bytes"], sum, "what was added is what is there");
    for file in fs::read_dir(sandbox.store.join("events")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains("hunter2") && !text.contains(sandbox.root.to_str().unwrap()), "{text}");
    }
}

#[test]
fn any_directory_has_a_history_and_removals_too() {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("place/tree");
    plant(&tree);
    sandbox.transfer("save", &tree, "k", &[]);
    sandbox.transfer("restore", &tree, "k", &["--job", "mine"]);
    sandbox.transfer("restore", &tree, "other", &[]);
    sandbox.json(["rm", "--key", "k", "--dry-run"]);
    sandbox.json(["rm", "--key", "k"]);
    let told = told(&sandbox);
    let kinds: Vec<&str> = told.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["save", "restore", "restore", "remove", "gc"]);
    assert!(told[..4].iter().all(|event| event["repository"] == "place" && event["what"] == "paths"), "{told:?}");
    assert_eq!((&told[1]["job"], &told[1]["key"], &told[2]["outcome"]), (&json!("mine"), &json!("k"), &json!("miss")));
    assert!(told[4]["freed"].as_u64().unwrap() > 0);
}

#[test]
fn what_cannot_be_told_fails_nothing() {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("tree");
    plant(&tree);
    sandbox.transfer("save", &tree, "k", &[]);
    fs::remove_dir_all(sandbox.store.join("events")).unwrap();
    fs::write(sandbox.store.join("events"), "in the way").unwrap();
    assert_eq!(sandbox.transfer("save", &tree, "k", &[])["outcome"], "saved");
    let quiet = said(&mut sandbox.larder(args(["restore", "--key-only", "--key", "k", "--path"]).with(&tree))).ok();
    assert!(quiet.warnings().is_empty() && !quiet.err.contains("event"), "{quiet}");
    let asked = said(&mut sandbox.larder(args(["-vv", "restore", "--key-only", "--key", "k", "--path"]).with(&tree)));
    assert!(asked.ok().err.contains("an event is not recorded"));
    assert!(said(&mut sandbox.larder(["verify"])).ok().warnings().is_empty());
}

#[test]
fn an_empty_history_has_a_friendly_answer() {
    let sandbox = Sandbox::new();
    assert!(said(&mut sandbox.larder(["report"])).ok().out.contains("nothing   was recorded yet"));
    assert!(said(&mut sandbox.larder(["report", "--markdown"])).ok().out.contains("Nothing was recorded yet."));
    assert_eq!(sandbox.json(["report"])["totals"]["hits"], 0);
    let page = sandbox.path("page.html");
    said(&mut sandbox.larder(args(["report", "--html"]).with(&page))).ok();
    assert!(fs::read_to_string(&page).unwrap().contains("The shelves are still empty"));
    assert!(!sandbox.store.exists(), "a report makes no store");
}

#[test]
fn files_that_are_none_are_never_replaced() {
    let sandbox = Sandbox::new();
    let page = sandbox.path("page.html");
    fs::write(&page, "old").unwrap();
    said(&mut sandbox.larder(args(["report", "--html"]).with(&page))).ok();
    assert!(fs::read_to_string(&page).unwrap().starts_with("<!doctype html>"));
    for wrong in ["/dev/null", "home", "."] {
        let said = said(&mut sandbox.larder(["report", "--html", wrong])).ends(2);
        assert!(said.err.contains("is no file") || said.err.contains("names no file"), "{said}");
    }
    said(&mut sandbox.larder(["report", "--html", "no/such/folder/page.html"])).ends(1);
    for wrong in [&["--since", "soon"][..], &["--markdown", "--format", "json"]] {
        said(sandbox.larder(["report"]).args(wrong)).ends(2);
    }
    let left: Vec<_> = fs::read_dir(&sandbox.root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn hostile_names_are_only_text() {
    let sandbox = Sandbox::new();
    plant(&sandbox.path("seed"));
    record(&sandbox, &month_of_work(true));
    let terminal = said(&mut sandbox.larder(["report"])).ok().out;
    assert!(!terminal.contains('\u{1b}') && terminal.contains("<script>"), "{terminal}");
    let markdown = said(&mut sandbox.larder(["report", "--markdown"])).ok().out;
    for raw in ["<script", "<img", "@all", "|`", "\u{1b}"] {
        assert!(!markdown.contains(raw), "{raw}: {markdown}");
    }
    assert!(
        markdown
            .lines()
            .filter(|line| line.contains("script"))
            .all(|line| line.starts_with("| ") && line.ends_with(" |"))
    );
    assert!(markdown.contains("## larder spared ") && markdown.contains("| acme/node / test |"), "{markdown}");
    let report = sandbox.json(["report"]);
    assert!(report["lineages"].as_array().unwrap().iter().any(|lineage| lineage["job"] == HOSTILE));
}

/// Relative luminance of `#rrggbb`, and the contrast of two, as WCAG 2 defines them.
fn contrast(a: &str, b: &str) -> f64 {
    let luminance = |colour: &str| {
        let part = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn text_and_shapes_stand_out_in_the_light_and_in_the_dark() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/report.html")).unwrap();
    let palettes: Vec<&str> = page.split(":root {").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
    assert_eq!(palettes.len(), 2);
    for palette in palettes {
        let colour = |name: &str| palette.split(&format!("--{name}: ")).nth(1).unwrap().get(..7).unwrap();
        for ground in ["card", "paper"] {
            for text in ["ink", "soft", "good"] {
                let contrast = contrast(colour(text), colour(ground));
                assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.2}");
            }
        }
        assert!(contrast(colour("ink"), colour("grid")) >= 4.5);
        for (mark, least) in [("cost", 4.5), ("amber", 4.5), ("blue", 3.0)] {
            let contrast = contrast(colour(mark), colour("card"));
            assert!(contrast >= least, "{mark}: {contrast:.2}");
        }
    }
}

/// A real browser without a window, and a place for what it writes.
struct Browser<'a> {
    program: &'static str,
    sandbox: &'a Sandbox,
}

/// What a browser saw of a page.
struct Visit {
    dom: String,
    /// What scripts or the browser itself wrote to the console.
    console: Vec<String>,
    /// Addresses that it asked the network for.
    requests: Vec<String>,
    screenshot: Vec<u8>,
}

impl<'a> Browser<'a> {
    const PROGRAMS: [&'static str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

    fn find(sandbox: &'a Sandbox) -> Option<Self> {
        let program = Self::PROGRAMS.into_iter().find(|program| has(program))?;
        Some(Self { program, sandbox })
    }

    fn start(&self, page: &Path, name: &str, options: &[&str]) -> (PathBuf, PathBuf) {
        let path = |ending: &str| self.sandbox.path(&format!("{name}.{ending}"));
        let (out, err) = (path("out"), path("err"));
        let mut command: Command = self.sandbox.command(self.program);
        command.args(["--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-dev-shm-usage"]);
        if is_root() {
            command.arg("--no-sandbox");
        }
        command.arg(format!("--user-data-dir={}", path("profile").display()));
        command.args(options).arg(format!("file://{}", page.display()));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let ended = wait_for(command.spawn().unwrap());
        assert_eq!(ended.code, Some(0), "{}", fs::read_to_string(err).unwrap());
        (out, err)
    }

    fn visit(&self, page: &Path, name: &str, scheme: Scheme, size: (u32, u32)) -> Visit {
        let path = |ending: &str| self.sandbox.path(&format!("{name}.{ending}"));
        let log = format!("--log-net-log={}", path("net").display());
        // By the engine's own numbers: 0 is dark, 1 light.
        let scheme = format!("--blink-settings=preferredColorScheme={}", scheme as u8);
        let (out, err) = self.start(page, name, &["--dump-dom", "--enable-logging=stderr", &log, &scheme]);
        let window = format!("--window-size={},{}", size.0, size.1);
        let shot = format!("--screenshot={}", path("png").display());
        self.start(page, &format!("{name}-shot"), &[&shot, &window, &scheme]);
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let addresses = |text: &str| {
            let found = text.split("\"url\":\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
            found.filter(|address| !address.starts_with("file:")).collect()
        };
        Visit {
            dom: text(&out),
            console: text(&err).lines().filter(|line| line.contains(":CONSOLE:")).map(str::to_owned).collect(),
            requests: addresses(&text(&path("net"))),
            screenshot: fs::read(path("png")).unwrap(),
        }
    }
}

#[derive(Clone, Copy)]
enum Scheme {
    Dark = 0,
    Light = 1,
}

/// Every number of the page, with the JSON pointer that it stands under.
fn numbers(dom: &str) -> Vec<(String, String, String)> {
    let quoted = |text: &str| text.split('"').next().unwrap().to_owned();
    let mut all = Vec::new();
    for row in dom.split("data-row=\"").skip(1) {
        for number in row.split("data-n=\"").skip(1) {
            let value = number.split("value=\"").nth(1).unwrap();
            all.push((quoted(row), quoted(number), quoted(value)));
        }
    }
    all
}

#[test]
fn the_page_in_a_real_browser_shows_what_the_object_says() {
    let sandbox = Sandbox::new();
    let Some(browser) = Browser::find(&sandbox) else {
        return skip("there is no Chromium to look at a page with");
    };
    // What sees nothing wrong with a page that is wrong would see nothing wrong with ours.
    let bad = sandbox.path("bad.html");
    fs::write(&bad, "<script>console.error('owned')</script><img src='http://127.0.0.1:9/x'>").unwrap();
    let bad = browser.visit(&bad, "bad", Scheme::Light, (300, 200));
    assert!(bad.console.iter().any(|line| line.contains("owned")), "{:?}", bad.console);
    assert!(bad.requests.iter().any(|address| address.contains("127.0.0.1:9")), "{:?}", bad.requests);

    plant(&sandbox.path("seed"));
    let page = sandbox.path("page.html");
    for (name, events) in [("empty", Vec::new()), ("full", month_of_work(true))] {
        record(&sandbox, &events);
        let said = said(&mut sandbox.larder(args(["report", "--format", "json", "--html"]).with(&page))).ok();
        let report = said.json();
        let light = browser.visit(&page, &format!("{name}-light"), Scheme::Light, (1280, 2600));
        let dark = browser.visit(&page, &format!("{name}-dark"), Scheme::Dark, (1280, 2600));
        let phone = browser.visit(&page, &format!("{name}-phone"), Scheme::Light, (390, 3600));
        for visit in [&light, &dark, &phone] {
            assert_eq!(visit.console, [""; 0], "{name}");
            assert_eq!(visit.requests, [""; 0], "{name}");
            assert!(visit.screenshot.starts_with(b"\x89PNG") && visit.screenshot.len() > 4000);
            assert!(!visit.dom.contains("<script") && !visit.dom.contains("<img"), "{name}");
        }
        assert!(light.screenshot != dark.screenshot && light.screenshot != phone.screenshot, "{name}");
        let shown = numbers(&light.dom);
        for (row, number, value) in &shown {
            let object = report.pointer(row).unwrap_or_else(|| panic!("{name}: no {row}"));
            assert_eq!(&object[number].to_string(), value, "{name}: {number} of {row}");
        }
        if name == "empty" {
            assert!(light.dom.contains("The shelves are still empty"));
            continue;
        }
        let all = |array: &str| report[array].as_array().unwrap().len();
        let rows = |prefix: &str| {
            let rows = shown.iter().filter(|(row, ..)| row.starts_with(prefix)).map(|(row, ..)| row);
            rows.collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!((rows("/days/"), all("days")), (31, 31));
        assert_eq!((rows("/lineages/"), all("lineages")), (5, 5));
        assert_eq!(rows("/never_reused/"), all("never_reused"));
        assert!(all("never_reused") >= 5);
        for number in ["spared_ms", "built_ms", "hits", "partials", "misses", "larder_ms", "added_bytes", "freed_bytes"]
        {
            assert!(shown.iter().any(|(row, shown, _)| row == "/totals" && shown == number), "{number}");
        }
        for figure in ["spared", "found", "stored", "disk"] {
            assert!(light.dom.contains(&format!("id=\"{figure}-desc\"")), "{figure}");
        }
        // Every picture has a name, or is said to be none.
        for picture in light.dom.split("<svg").skip(1) {
            let tag = picture.split('>').next().unwrap();
            let named = tag.contains("aria-labelledby=") || tag.contains("aria-label=");
            assert!(tag.contains("aria-hidden") || tag.contains("role=\"img\"") && named, "<svg{tag}>");
        }
    }
    if let Some(folder) = std::env::var_os("LARDER_TEST_PICTURES") {
        for entry in fs::read_dir(&sandbox.root).unwrap().map(Result::unwrap) {
            if entry.path().extension().is_some_and(|ending| ending == "png" || ending == "html") {
                fs::copy(entry.path(), Path::new(&folder).join(entry.file_name())).unwrap();
            }
        }
    }
}
