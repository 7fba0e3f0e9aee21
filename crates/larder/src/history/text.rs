//! The figures in words: for a terminal, and in Markdown.
//!
//! Names come from outside. On a terminal control characters are shown escaped; in Markdown whatever could mean
//! something is escaped, so that a job's name is never markup.

use super::figures::{Lineage, NeverReused, Report, Totals};
use crate::amount::count;
use crate::report::one_line;
use bytesize::ByteSize;
use std::fmt::Write as _;

/// So many lineages and units are shown where there is little room.
const SHOWN: usize = 10;

/// A time of so many milliseconds, as people say it.
pub(crate) fn duration(ms: u64) -> String {
    let (seconds, minutes, hours) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{seconds}.{} s", ms % 1000 / 100),
        60_000..3_600_000 => match seconds % 60 {
            0 => format!("{minutes} min"),
            rest => format!("{minutes} min {rest} s"),
        },
        _ if hours >= 100 => format!("{} h", number(hours)),
        _ => match minutes % 60 {
            0 => format!("{hours} h"),
            rest => format!("{hours} h {rest} min"),
        },
    }
}

/// A number with its thousands apart.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes, as people say them.
pub(crate) fn bytes(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}

/// A date of the figures as people say it: `23 Nov`.
pub(crate) fn date(rfc3339: &str) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = rfc3339.get(..10).unwrap_or_default().split('-').skip(1).map(str::parse::<usize>);
    match (parts.next(), parts.next()) {
        (Some(Ok(month)), Some(Ok(day))) => {
            format!("{day} {}", MONTHS.get(month.wrapping_sub(1)).copied().unwrap_or_default())
        }
        _ => rfc3339.to_owned(),
    }
}

/// Whole percent of restores that found something.
pub(crate) fn found_percent(totals: &Totals) -> u64 {
    let found = u128::from(totals.hits.saturating_add(totals.partials));
    let all = u128::from(totals.restores());
    u64::try_from((found * 100).checked_div(all).unwrap_or(0)).unwrap_or(100)
}

/// Who a lineage is, in a few words.
pub(crate) fn lineage_name(lineage: &Lineage) -> String {
    match (lineage.repository.as_str(), lineage.job.as_str()) {
        _ if lineage.what == super::CARGO_HOME => {
            let of = if lineage.repository.is_empty() { String::new() } else { format!(" of {}", lineage.repository) };
            format!("CARGO_HOME{of}")
        }
        ("", "") => "(unknown)".to_owned(),
        ("", job) => job.to_owned(),
        (repository, "") => repository.to_owned(),
        (repository, job) => format!("{repository} / {job}"),
    }
}

/// Found so often: `310 hits, 80 partial, 22 misses`.
fn found(totals: &Totals) -> String {
    let Totals { hits, partials, misses, .. } = totals;
    format!("{} hits, {} partial, {} misses", number(*hits), number(*partials), number(*misses))
}

/// For a terminal.
pub(crate) fn terminal(report: &Report) -> String {
    let totals = &report.totals;
    let mut out = format!("{} to {}\n", date(&report.since), date(&report.until));
    let mut line = |name: &str, text: String| writeln!(out, "{name:<10}{text}").expect("memory takes it");
    if report.is_empty() {
        line("nothing", "was recorded yet: `larder run -- cargo build` is a beginning".into());
    } else {
        line("spared", format!("{} of compiling", duration(totals.spared_ms)));
        line("compiled", format!("{} in {} units", duration(totals.built_ms), number(totals.built_units)));
        line("larder", format!("{} for all restores and saves", duration(totals.larder_ms)));
        line("restores", format!("{}: {}", number(totals.restores()), found(totals)));
        let failures =
            if totals.failures > 0 { format!(", {} failed", number(totals.failures)) } else { String::new() };
        line("saves", format!("{}, {} added{failures}", number(totals.saves), bytes(totals.added_bytes)));
        if totals.freed_bytes > 0 || totals.evictions > 0 {
            line("evicted", format!("{}, {} freed", count(totals.evictions, "snapshot"), bytes(totals.freed_bytes)));
        }
    }
    if let Some(stored) = report.store.stored_bytes {
        let disk = report.store.disk_percent.map(|percent| {
            format!(
                ", the disk {percent:.1} % full (marks {} and {} %)",
                report.store.high_percent, report.store.low_percent
            )
        });
        line("store", format!("{}{}", bytes(stored), disk.unwrap_or_default()));
    }
    if !report.lineages.is_empty() {
        out.push_str("\nspared       added       restores  lineage\n");
        for lineage in report.lineages.iter().take(SHOWN) {
            let Totals { spared_ms, added_bytes, .. } = lineage.totals;
            let (spared, added) = (duration(spared_ms), bytes(added_bytes));
            let restores = number(lineage.totals.restores());
            let name = one_line(&lineage_name(lineage));
            writeln!(out, "{spared:<13}{added:<12}{restores:<10}{name}").expect("memory takes it");
        }
        out.push_str(&more(report.lineages.len()));
    }
    if !report.never_reused.is_empty() {
        out.push_str("\ncompiled anew before every save\n");
        for unit in report.never_reused.iter().take(SHOWN) {
            let NeverReused { unit, repository, job, built, total_ms } = unit;
            let name = one_line(&format!("{unit} ({repository} / {job})"));
            writeln!(out, "{:<13}{built:>4} times  {name}", duration(*total_ms)).expect("memory takes it");
        }
        out.push_str(&more(report.never_reused.len()));
    }
    if report.skipped_lines > 0 {
        let lines = number(report.skipped_lines);
        writeln!(out, "\n{lines} lines of the history could not be understood").expect("memory takes it");
    }
    out
}

fn more(all: usize) -> String {
    if all > SHOWN { format!("and {} more: --format json has all\n", all - SHOWN) } else { String::new() }
}

/// For the summary of a CI step.
pub(crate) fn markdown(report: &Report) -> String {
    let totals = &report.totals;
    if report.is_empty() {
        return "## larder\n\nNothing was recorded yet.\n".to_owned();
    }
    let mut out = format!(
        "## larder spared {} of compiling\n\nFrom {} to {}, larder itself took {}.\n\n",
        duration(totals.spared_ms),
        date(&report.since),
        date(&report.until),
        duration(totals.larder_ms)
    );
    let mut rows = vec![
        ("Restores".to_owned(), format!("{} ({} % found something)", number(totals.restores()), found_percent(totals))),
        ("Found".to_owned(), found(totals)),
        (
            "Compiled all the same".to_owned(),
            format!("{} in {} units", duration(totals.built_ms), number(totals.built_units)),
        ),
        ("Saves".to_owned(), format!("{}, {} added", number(totals.saves), bytes(totals.added_bytes))),
    ];
    if totals.failures > 0 {
        rows.push(("Failed".to_owned(), number(totals.failures)));
    }
    if totals.freed_bytes > 0 || totals.evictions > 0 {
        rows.push(("Evicted".to_owned(), format!("{}, {} freed", number(totals.evictions), bytes(totals.freed_bytes))));
    }
    if let (Some(stored), Some(percent)) = (report.store.stored_bytes, report.store.disk_percent) {
        rows.push(("Store".to_owned(), format!("{}, the disk {percent:.1} % full", bytes(stored))));
    }
    out.push_str("| | |\n|---|---|\n");
    rows.iter().for_each(|(name, text)| out.push_str(&format!("| {name} | {text} |\n")));
    if !report.lineages.is_empty() {
        out.push_str("\n| Lineage | Spared | Added | Restores |\n|---|--:|--:|--:|\n");
        for lineage in report.lineages.iter().take(SHOWN) {
            let (name, totals) = (escaped(&lineage_name(lineage)), &lineage.totals);
            let (spared, added) = (duration(totals.spared_ms), bytes(totals.added_bytes));
            out.push_str(&format!("| {name} | {spared} | {added} | {} |\n", number(totals.restores())));
        }
    }
    if !report.never_reused.is_empty() {
        out.push_str("\n| Compiled anew before every save | Lineage | Times | Cost |\n|---|---|--:|--:|\n");
        for unit in report.never_reused.iter().take(SHOWN) {
            let name = escaped(&unit.unit);
            let lineage = escaped(&format!("{} / {}", unit.repository, unit.job));
            out.push_str(&format!("| {name} | {lineage} | {} | {} |\n", unit.built, duration(unit.total_ms)));
        }
    }
    out
}

/// A name that is nothing but text in Markdown: no link, no mention, no cell, no tag.
pub(crate) fn escaped(name: &str) -> String {
    let mut out = String::new();
    for c in one_line(name).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // GitHub makes names after it mentions, whatever stands before it.
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            ':' => out.push_str("&#58;"),
            '-' | '/' | '.' | ',' | ' ' => out.push(c),
            c if c.is_ascii_punctuation() => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_are_as_people_say_them() {
        let said: Vec<String> =
            [0, 999, 1000, 61_500, 60_000, 3_600_000, 5_000_000, 359_999_999, 360_000_000, 5_000_000_000_000]
                .map(duration)
                .into();
        let expected = [
            "0 ms",
            "999 ms",
            "1.0 s",
            "1 min 1 s",
            "1 min",
            "1 h",
            "1 h 23 min",
            "99 h 59 min",
            "100 h",
            "1,388,888 h",
        ];
        assert_eq!(said, expected);
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((date("2026-11-03T00:00:00Z").as_str(), date("x").as_str()), ("3 Nov", "x"));
        let totals = Totals { hits: 2, misses: 1, ..Totals::default() };
        assert_eq!((found_percent(&totals), found_percent(&Totals::default())), (66, 0));
    }

    #[test]
    fn names_are_never_markup() {
        assert_eq!(escaped("a|b`c*_d[e](f)!"), "a\\|b\\`c\\*\\_d\\[e\\]\\(f\\)\\!");
        assert_eq!(escaped("<b>&\n@root #1 https://x"), "&lt;b&gt;&amp;\\\\n&#64;root &#35;1 https&#58;//x");
    }
}
