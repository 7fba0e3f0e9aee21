//! From figures to shapes: bars above and below a line, and curves, in a plane of 1000 by 100.
//!
//! The plane is stretched to whatever room the page has; so all text stands beside it, as text of the page, and is
//! as large on a phone as anywhere.

use super::text::date;

/// The width of the plane; its height is 100.
const WIDTH: f64 = 1000.0;
/// The part of a column that its bar leaves free.
const GAP: f64 = 0.22;
/// So many dates stand below a chart at most.
const DATES: usize = 7;

/// A picture.
#[derive(Debug, Default)]
pub(crate) struct Chart {
    /// Unique on the page.
    pub(crate) id: &'static str,
    /// What it is.
    pub(crate) title: String,
    /// What it shows, in a sentence, for who cannot see it.
    pub(crate) desc: String,
    pub(crate) bars: Vec<Bar>,
    pub(crate) curves: Vec<Curve>,
    /// One an interval of the scale.
    pub(crate) grid: Vec<Tick>,
    /// Lines of their own, such as watermarks.
    pub(crate) marks: Vec<Tick>,
    pub(crate) dates: Vec<Tick>,
    /// One a column, over its whole height: what it says when it is pointed at.
    pub(crate) columns: Vec<Bar>,
}

/// A rectangle.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) width: String,
    pub(crate) height: String,
    /// The class that gives it its look.
    pub(crate) look: &'static str,
    pub(crate) title: String,
}

/// A line through points; with an area below it.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) line: String,
    pub(crate) area: String,
    pub(crate) look: &'static str,
}

/// A place on an axis.
#[derive(Debug)]
pub(crate) struct Tick {
    /// In percent of the axis, from the top or the left.
    pub(crate) at: String,
    pub(crate) text: String,
    /// `zero` for the base line, `minor` for what a narrow page leaves out.
    pub(crate) look: &'static str,
}

/// One day of a chart of bars.
pub(crate) struct Column {
    pub(crate) title: String,
    /// From the line upwards: looks and values.
    pub(crate) up: Vec<(&'static str, u64)>,
    /// And downwards.
    pub(crate) down: Vec<(&'static str, u64)>,
}

/// What numbers mean, for the steps of their scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds.
    Time,
    /// 1, 2, 5, 10…, also of bytes.
    Plain,
}

fn coordinate(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The least round number that is not less than a quarter of `most`.
fn step(most: u64, unit: Unit) -> u64 {
    const SECOND: u64 = 1000;
    const TIMES: [u64; 12] = [
        SECOND,
        5 * SECOND,
        15 * SECOND,
        60 * SECOND,
        120 * SECOND,
        300 * SECOND,
        600 * SECOND,
        1800 * SECOND,
        3600 * SECOND,
        2 * 3600 * SECOND,
        5 * 3600 * SECOND,
        10 * 3600 * SECOND,
    ];
    let quarter = most.div_ceil(4).max(1);
    if unit == Unit::Time
        && let Some(step) = TIMES.into_iter().find(|step| *step >= quarter)
    {
        return step;
    }
    // Hours of more than ten are counted like all else.
    let one = if unit == Unit::Time { 3600 * SECOND } else { 1 };
    let mut power = one;
    loop {
        for digit in [1, 2, 5] {
            let step = power.saturating_mul(digit);
            if step >= quarter {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

/// The scale of a picture with a line in it.
struct Scale {
    step: u64,
    /// Whole steps above the line.
    above: u64,
    /// Steps below it, no more than are needed.
    below: f64,
}

impl Scale {
    fn of(up: u64, down: u64, unit: Unit) -> Self {
        let step = step(up.max(down), unit);
        Self { step, above: up.div_ceil(step).max(1), below: down as f64 / step as f64 }
    }

    /// From the top, of 100.
    fn y(&self, value: f64) -> f64 {
        let above = self.above as f64;
        (above - value / self.step as f64) / (above + self.below) * 100.0
    }

    fn grid(&self, spelt: &dyn Fn(u64) -> String) -> Vec<Tick> {
        let tick = |steps: u64, sign: f64| {
            let value = steps.saturating_mul(self.step);
            let look = if steps == 0 { "zero" } else { "" };
            // Round numbers need no decimals, and nothing is nothing in any unit.
            let text = if steps == 0 { "0".to_owned() } else { spelt(value).replace(".0 ", " ") };
            Tick { at: coordinate(self.y(sign * value as f64)), text, look }
        };
        let below = self.below.floor() as u64;
        (0..=self.above).rev().map(|steps| tick(steps, 1.0)).chain((1..=below).map(|steps| tick(steps, -1.0))).collect()
    }
}

fn dates(days: &[&str]) -> Vec<Tick> {
    let every = days.len().div_ceil(DATES).max(1);
    // The last day always has one.
    let named = days.iter().enumerate().rev().step_by(every);
    let tick = |(nth, (at, day)): (usize, (usize, &&str))| Tick {
        at: coordinate((at as f64 + 0.5) / days.len() as f64 * 100.0),
        text: date(day),
        look: if nth % 3 == 0 { "" } else { "minor" },
    };
    let mut ticks: Vec<Tick> = named.enumerate().map(tick).collect();
    ticks.reverse();
    ticks
}

/// A bar a day, above and below a line.
pub(crate) fn bars(
    id: &'static str,
    days: &[&str],
    columns: &[Column],
    unit: Unit,
    spelt: &dyn Fn(u64) -> String,
) -> Chart {
    let sum = |parts: &[(&str, u64)]| parts.iter().fold(0, |sum: u64, (_, value)| sum.saturating_add(*value));
    let most = |side: &dyn Fn(&Column) -> u64| columns.iter().map(side).max().unwrap_or(0);
    let scale = Scale::of(most(&|column| sum(&column.up)), most(&|column| sum(&column.down)), unit);
    let width = WIDTH / columns.len().max(1) as f64;
    let mut chart = Chart { id, grid: scale.grid(spelt), dates: dates(days), ..Chart::default() };
    for (at, column) in columns.iter().enumerate() {
        let x = at as f64 * width;
        let mut bar = |from: u64, to: u64, sign: f64, look: &'static str| {
            let (a, b) = (scale.y(sign * from as f64), scale.y(sign * to as f64));
            chart.bars.push(Bar {
                x: coordinate(x + width * GAP / 2.0),
                y: coordinate(a.min(b)),
                width: coordinate(width * (1.0 - GAP)),
                height: coordinate((a - b).abs()),
                look,
                title: String::new(),
            });
        };
        for (parts, sign) in [(&column.up, 1.0), (&column.down, -1.0)] {
            let mut from: u64 = 0;
            for (look, value) in parts.iter().filter(|(_, value)| *value > 0) {
                let to = from.saturating_add(*value);
                bar(from, to, sign, look);
                from = to;
            }
        }
        chart.columns.push(column_of(x, width, column.title.clone()));
    }
    chart
}

fn column_of(x: f64, width: f64, title: String) -> Bar {
    let (x, width) = (coordinate(x), coordinate(width));
    Bar { x, y: "0".into(), width, height: "100".into(), look: "column", title }
}

/// A curve through the days that have a value.
pub(crate) fn curve(
    id: &'static str,
    days: &[&str],
    values: &[Option<f64>],
    most: Option<u64>,
    look: &'static str,
    spelt: &dyn Fn(u64) -> String,
) -> Chart {
    let highest = values.iter().flatten().copied().fold(0.0, f64::max);
    let mut scale = Scale::of(highest.ceil() as u64, 0, Unit::Plain);
    if let Some(most) = most {
        scale = Scale { step: most / 4, above: 4, below: 0.0 };
    }
    let width = WIDTH / days.len().max(1) as f64;
    let mut chart = Chart { id, grid: scale.grid(spelt), dates: dates(days), ..Chart::default() };
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let x = at as f64 * width;
        let said = value.map_or("nothing recorded".to_owned(), |value| spelt(value.round() as u64));
        chart.columns.push(column_of(x, width, format!("{}: {said}", date(days.get(at).copied().unwrap_or_default()))));
        points.extend(value.map(|value| (x + width / 2.0, scale.y(value))));
    }
    // A single point is drawn as a short line.
    if let [(x, y)] = points.as_slice() {
        let (x, y) = (*x, *y);
        points = vec![(x - width / 2.0, y), (x + width / 2.0, y)];
    }
    if let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) {
        let spell = |(x, y): &(f64, f64)| format!("{},{}", coordinate(*x), coordinate(*y));
        let line = points.iter().map(spell).collect::<Vec<_>>().join(" ");
        let area = format!("{},100 {line} {},100", coordinate(first.0), coordinate(last.0));
        chart.curves.push(Curve { line, area, look });
    }
    chart
}

impl Chart {
    /// Adds a line at this percent of a scale of 100.
    pub(crate) fn mark(&mut self, percent: u8, text: String, look: &'static str) {
        let at = coordinate(100.0 - f64::from(percent.min(100)));
        self.marks.push(Tick { at, text, look });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_four_of_them_reach_the_most() {
        assert_eq!([0, 1, 3, 4, 10, 100, 1000].map(|most| step(most, Unit::Plain)), [1, 1, 1, 1, 5, 50, 500]);
        let hour = 3_600_000;
        let times = [1, 3000, 200_000, hour, 10 * hour, 100 * hour].map(|most| step(most, Unit::Time));
        assert_eq!(times, [1000, 1000, 60_000, 1_800_000, 5 * hour, 50 * hour]);
        for most in [u64::MAX, u64::MAX / 2] {
            assert!(step(most, Unit::Time) >= most / 4 && step(most, Unit::Plain) >= most / 4);
        }
    }

    #[test]
    fn bars_stand_on_the_line_and_hang_from_it() {
        let column = |up, down| Column { title: String::new(), up: vec![("a", up), ("b", 1)], down: vec![("c", down)] };
        let chart =
            bars("x", &["2026-11-01", "2026-11-02"], &[column(2, 3), column(0, 0)], Unit::Plain, &|n| n.to_string());
        let shapes: Vec<_> = chart.bars.iter().map(|bar| (bar.look, bar.y.as_str(), bar.height.as_str())).collect();
        assert_eq!(shapes, [("a", "16.67", "33.33"), ("b", "0", "16.67"), ("c", "50", "50"), ("b", "33.33", "16.67")]);
        let grid: Vec<_> = chart.grid.iter().map(|tick| (tick.at.as_str(), tick.text.as_str())).collect();
        assert_eq!(
            grid,
            [("0", "3"), ("16.67", "2"), ("33.33", "1"), ("50", "0"), ("66.67", "1"), ("83.33", "2"), ("100", "3")]
        );
        assert_eq!(chart.columns.len(), 2);
    }

    #[test]
    fn nothing_is_a_picture_too() {
        let chart = bars("x", &[], &[], Unit::Time, &|n| n.to_string());
        assert!(chart.bars.is_empty() && !chart.grid.is_empty());
        let chart = curve("x", &["2026-11-01"], &[None], None, "size", &|n| n.to_string());
        assert!(chart.curves.is_empty());
        let chart = curve("x", &["2026-11-01"], &[Some(5.0)], Some(100), "size", &|n| n.to_string());
        assert_eq!(chart.curves[0].line, "0,95 1000,95");
    }
}
