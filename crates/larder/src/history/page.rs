//! One HTML page with pictures, whole in itself: no script, nothing to load, and a policy in it that permits neither.
//!
//! Every number stands in a `data` element with its exact value, below an element that says by a JSON pointer which
//! part of the report's object it is from: the page can be checked against that object, and is, in a real browser.
//! All text from outside goes through the template's escaping.

use super::charts::{Chart, Column, Unit, bars, curve};
use super::figures::{Day, Lineage, Report, Totals};
use super::text::{bytes, date, duration, found_percent, lineage_name, number};
use crate::report::one_line;
use askama::Template;
use std::fmt;

/// So many lineages have a row.
const LINEAGES: usize = 30;

/// A number of the report: exact, and as people say it.
pub(super) struct Num {
    name: &'static str,
    value: String,
    text: String,
}

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<data data-n=\"{}\" value=\"{}\">{}</data>", self.name, self.value, self.text)
    }
}

/// Digits, units and names of fields: nothing in it comes from outside.
impl askama::filters::HtmlSafe for Num {}

/// A segment of a bar that is a whole.
struct Part {
    name: String,
    look: &'static str,
    x: String,
    width: String,
    text: String,
}

struct DayRow {
    pointer: String,
    day: String,
    nums: Vec<Num>,
}

struct LineageRow {
    pointer: String,
    name: String,
    /// Widths of its bars, of 100.
    earned: String,
    cost: String,
    found: Vec<Part>,
    found_text: String,
    nums: LineageNums,
    last: String,
}

struct LineageNums {
    spared: Num,
    added: Num,
    newest: Num,
    hits: Num,
    partials: Num,
    misses: Num,
}

struct UnitRow {
    pointer: String,
    unit: String,
    lineage: String,
    width: String,
    built: Num,
    total: Num,
}

/// How full the jar is: of 100, from the bottom.
struct Jar {
    percent: u64,
    y: String,
    height: String,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    is_empty: bool,
    period: String,
    host: &'a str,
    jar: Jar,
    spared: Num,
    built: Num,
    built_units: Num,
    larder: Num,
    hits: Num,
    partials: Num,
    misses: Num,
    failures: Num,
    added: Num,
    freed: Num,
    evicted: String,
    saved: String,
    restored: Num,
    restores: String,
    store: Vec<(&'static str, Num)>,
    charts: Vec<(Chart, Vec<(&'static str, &'static str)>)>,
    store_charts: Vec<Chart>,
    days: Vec<DayRow>,
    lineages: Vec<LineageRow>,
    lineages_left_out: usize,
    units: Vec<UnitRow>,
    modes: Vec<Part>,
}

fn num(name: &'static str, value: u64, text: String) -> Num {
    Num { name, value: value.to_string(), text }
}

fn count(name: &'static str, value: u64) -> Num {
    num(name, value, number(value))
}

fn time(name: &'static str, value: u64) -> Num {
    num(name, value, duration(value))
}

fn size(name: &'static str, value: u64) -> Num {
    num(name, value, bytes(value))
}

/// A part of a whole, of 100.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

fn width(share: f64) -> String {
    format!("{share:.2}")
}

/// The parts of a whole, side by side; those that are nothing are left out.
fn parts(all: Vec<(String, &'static str, u64, String)>) -> Vec<Part> {
    let whole = all.iter().fold(0u64, |sum, (_, _, value, _)| sum.saturating_add(*value));
    let mut x = 0.0;
    let mut out = Vec::new();
    for (name, look, value, text) in all.into_iter().filter(|(_, _, value, _)| *value > 0) {
        let share = share(value, whole);
        out.push(Part { name, look, x: width(x), width: width(share), text });
        x += share;
    }
    out
}

fn found_parts(totals: &Totals) -> Vec<Part> {
    let part = |name: &str, look, value| (name.to_owned(), look, value, number(value));
    parts(vec![
        part("hits", "hit", totals.hits),
        part("partial", "partial", totals.partials),
        part("misses", "miss", totals.misses),
    ])
}

fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

fn day_charts(report: &Report, days: &[&str]) -> Vec<(Chart, Vec<(&'static str, &'static str)>)> {
    let spared = |day: &Day| Column {
        title: format!(
            "{}: {} spared, {} compiled",
            date(&day.day),
            duration(day.totals.spared_ms),
            duration(day.totals.built_ms)
        ),
        up: vec![("good", day.totals.spared_ms)],
        down: vec![("cost", day.totals.built_ms)],
    };
    let found = |day: &Day| {
        let Totals { hits, partials, misses, .. } = &day.totals;
        Column {
            title: format!("{}: {}, {partials} partial, {misses} missed", date(&day.day), plural(*hits, "hit", "hits")),
            up: vec![("good", *hits), ("partial", *partials)],
            down: vec![("cost", *misses)],
        }
    };
    let columns = |of: &dyn Fn(&Day) -> Column| report.days.iter().map(of).collect::<Vec<_>>();
    let totals = &report.totals;
    let mut time = bars("spared", days, &columns(&spared), Unit::Time, &duration);
    time.title = "Compiling spared each day".into();
    let best = report.days.iter().max_by_key(|day| day.totals.spared_ms);
    time.desc = format!(
        "Bars above the line: {} spared by restores. Below it: {} compiled all the same. The best day was {}, with {}.",
        duration(totals.spared_ms),
        duration(totals.built_ms),
        best.map(|day| date(&day.day)).unwrap_or_default(),
        duration(best.map_or(0, |day| day.totals.spared_ms)),
    );
    let mut hits = bars("found", days, &columns(&found), Unit::Plain, &number);
    hits.title = "Hits and misses each day".into();
    hits.desc = format!(
        "Bars above the line: {} and, striped, {} partial. Below it: {}.",
        plural(totals.hits, "hit", "hits"),
        number(totals.partials),
        plural(totals.misses, "miss", "misses")
    );
    vec![
        (time, vec![("good", "spared, above the line"), ("cost", "compiled all the same, below")]),
        (
            hits,
            vec![
                ("good", "hit: the exact key"),
                ("partial", "partial: the nearest (striped)"),
                ("cost", "miss: nothing, below the line"),
            ],
        ),
    ]
}

fn store_charts(report: &Report, days: &[&str]) -> Vec<Chart> {
    let stored: Vec<Option<f64>> = report.days.iter().map(|day| day.stored_bytes.map(|bytes| bytes as f64)).collect();
    let full: Vec<Option<f64>> = report.days.iter().map(|day| day.disk_percent).collect();
    let mut charts = Vec::new();
    if let Some(now) = report.store.stored_bytes.filter(|_| stored.iter().any(Option::is_some)) {
        let mut chart = curve("stored", days, &stored, None, "size", &bytes);
        chart.title = "Size of the store".into();
        let then = report.days.iter().find_map(|day| day.stored_bytes).unwrap_or(now);
        chart.desc = format!("Blobs and snapshots: {} when recording began, {} now.", bytes(then), bytes(now));
        charts.push(chart);
    }
    if full.iter().any(Option::is_some) {
        let mut chart = curve("disk", days, &full, Some(100), "disk", &|percent| format!("{percent} %"));
        let (high, low) = (report.store.high_percent, report.store.low_percent);
        chart.title = "How full its disk is".into();
        let most = full.iter().flatten().copied().fold(0.0, f64::max);
        chart.desc = format!(
            "In percent; at most {most:.1} %. Above the high watermark of {high} % larder evicts, down to the low one of {low} %."
        );
        chart.mark(high, format!("high {high} %"), "high");
        chart.mark(low, format!("low {low} %"), "low");
        charts.push(chart);
    }
    charts
}

fn day_row((at, day): (usize, &Day)) -> DayRow {
    let totals = &day.totals;
    DayRow {
        pointer: format!("/days/{at}"),
        day: date(&day.day),
        nums: vec![
            time("spared_ms", totals.spared_ms),
            time("built_ms", totals.built_ms),
            count("hits", totals.hits),
            count("partials", totals.partials),
            count("misses", totals.misses),
            count("saves", totals.saves),
            size("added_bytes", totals.added_bytes),
            size("freed_bytes", totals.freed_bytes),
            match day.stored_bytes {
                Some(stored) => size("stored_bytes", stored),
                None => Num { name: "stored_bytes", value: "null".into(), text: "–".into() },
            },
            percent("disk_percent", day.disk_percent),
        ],
    }
}

fn percent(name: &'static str, percent: Option<f64>) -> Num {
    match percent {
        Some(percent) => Num { name, value: format!("{percent:?}"), text: format!("{percent:.1} %") },
        None => Num { name, value: "null".into(), text: "–".into() },
    }
}

fn lineage_rows(all: &[Lineage]) -> Vec<LineageRow> {
    let earned = all.iter().map(|lineage| lineage.totals.spared_ms).max().unwrap_or(0);
    let cost = all.iter().map(|lineage| lineage.totals.added_bytes).max().unwrap_or(0);
    let row = |(at, lineage): (usize, &Lineage)| {
        let totals = &lineage.totals;
        LineageRow {
            pointer: format!("/lineages/{at}"),
            name: one_line(&lineage_name(lineage)),
            earned: width(share(totals.spared_ms, earned)),
            cost: width(share(totals.added_bytes, cost)),
            found: found_parts(totals),
            found_text: format!("{} hits, {} partial, {} misses", totals.hits, totals.partials, totals.misses),
            nums: LineageNums {
                spared: time("spared_ms", totals.spared_ms),
                added: size("added_bytes", totals.added_bytes),
                newest: size("newest_bytes", lineage.newest_bytes),
                hits: count("hits", totals.hits),
                partials: count("partials", totals.partials),
                misses: count("misses", totals.misses),
            },
            last: date(&lineage.last),
        }
    };
    all.iter().take(LINEAGES).enumerate().map(row).collect()
}

/// The page about the store of this host.
pub(crate) fn render(report: &Report, host: &str) -> anyhow::Result<String> {
    let totals = &report.totals;
    let days: Vec<&str> = report.days.iter().map(|day| day.day.as_str()).collect();
    let found = found_percent(totals);
    // The jar's belly is 76 high and ends at 92.
    let level = found as f64 * 0.76;
    let dearest = report.never_reused.first().map_or(0, |unit| unit.total_ms);
    let unit = |(at, unit): (usize, &super::figures::NeverReused)| UnitRow {
        pointer: format!("/never_reused/{at}"),
        unit: one_line(&unit.unit),
        lineage: match unit.job.as_str() {
            "" => one_line(&unit.repository),
            job => one_line(&format!("{} / {job}", unit.repository)),
        },
        width: width(share(unit.total_ms, dearest)),
        built: count("built", unit.built),
        total: time("total_ms", unit.total_ms),
    };
    const LOOKS: [&str; 5] = ["mode0", "mode1", "mode2", "mode3", "mode4"];
    let mut modes: Vec<(&String, &u64)> = report.link_modes.iter().collect();
    modes.sort_by_key(|(_, files)| std::cmp::Reverse(**files));
    let mode = |(at, (mode, files)): (usize, (&String, &u64))| {
        (one_line(mode), LOOKS[at.min(LOOKS.len() - 1)], *files, plural(*files, "file", "files"))
    };
    let page = Page {
        is_empty: report.is_empty(),
        period: format!("{} to {}", date(&report.since), date(&report.until)),
        host,
        jar: Jar { percent: found, y: width(92.0 - level), height: width(level) },
        spared: time("spared_ms", totals.spared_ms),
        built: time("built_ms", totals.built_ms),
        built_units: count("built_units", totals.built_units),
        larder: time("larder_ms", totals.larder_ms),
        hits: count("hits", totals.hits),
        partials: count("partials", totals.partials),
        misses: count("misses", totals.misses),
        failures: count("failures", totals.failures),
        added: size("added_bytes", totals.added_bytes),
        freed: size("freed_bytes", totals.freed_bytes),
        restored: size("restored_bytes", totals.restored_bytes),
        evicted: plural(totals.evictions, "snapshot", "snapshots"),
        saved: plural(totals.saves, "save", "saves"),
        restores: plural(totals.restores(), "restore", "restores"),
        store: [
            ("stored", report.store.stored_bytes.map(|stored| size("stored_bytes", stored))),
            ("of the disk in use", report.store.disk_percent.map(|used| percent("disk_percent", Some(used)))),
            ("left on it", report.store.available_bytes.map(|left| size("available_bytes", left))),
        ]
        .into_iter()
        .filter_map(|(what, num)| Some((what, num?)))
        .collect(),
        charts: day_charts(report, &days),
        store_charts: store_charts(report, &days),
        days: report.days.iter().enumerate().map(day_row).collect(),
        lineages: lineage_rows(&report.lineages),
        lineages_left_out: report.lineages.len().saturating_sub(LINEAGES),
        units: report.never_reused.iter().enumerate().map(unit).collect(),
        modes: parts(modes.into_iter().enumerate().map(mode).collect()),
        report,
    };
    Ok(page.render()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::figures::NeverReused;

    #[test]
    fn every_text_from_outside_is_escaped() {
        let hostile = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'&\u{202e}{{x}}";
        let report = Report {
            totals: Totals { hits: 1, ..Totals::default() },
            lineages: vec![Lineage {
                repository: hostile.into(),
                job: hostile.into(),
                what: hostile.into(),
                last: hostile.into(),
                ..Lineage::default()
            }],
            never_reused: vec![NeverReused {
                unit: hostile.into(),
                repository: hostile.into(),
                job: hostile.into(),
                built: 2,
                total_ms: 1,
            }],
            link_modes: [(hostile.to_owned(), 3)].into(),
            ..Report::default()
        };
        let page = render(&report, hostile).unwrap();
        for tag in ["<script", "<img", "onerror=alert(2)>'", "'&\u{202e}"] {
            assert!(!page.contains(tag), "{tag}");
        }
        assert!(page.contains("&lt;script&gt;") || page.contains("&#60;script&#62;"));
    }

    #[test]
    fn the_page_names_nothing_to_load() {
        let report = Report { totals: Totals { hits: 1, ..Totals::default() }, ..Report::default() };
        let page = render(&report, "host").unwrap();
        assert!(page.contains("default-src 'none'"));
        // A pattern of its own.
        let page = page.replace("url(#", "");
        for word in ["http:", "https:", "src=", "url(", "@import", "<script", "<link", "<iframe", "javascript:"] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
