//! The lines on stderr, from whatever says them. In GitHub Actions details are folded, and a fold ends before anything
//! that is not one.

use super::actions;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard};

/// GitHub shows ten marks of a kind for each step, and no word about the rest; the command may have some to make.
const MARKS: u32 = 7;

/// What was last said in GitHub Actions. There is one stderr, so there is one of this.
struct Fold {
    open: bool,
    title: &'static str,
    marks: u32,
}

static FOLD: Mutex<Fold> = Mutex::new(Fold { open: false, title: "larder, step by step", marks: 0 });

fn fold() -> MutexGuard<'static, Fold> {
    FOLD.lock().expect("no thread panics while it speaks")
}

impl Fold {
    fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            write(actions::END_GROUP);
        }
    }
}

/// Where nobody listens any more, the work goes on.
fn write(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// Says one line for the person who waits.
pub(crate) fn to_stderr(line: &str) {
    let line = format!("larder: {line}");
    if !actions::is_on() {
        return write(&line);
    }
    let mut fold = fold();
    fold.end();
    write(&actions::inert(&line));
}

/// Says something that a person should act on: in GitHub Actions a mark on the step.
pub(super) fn mark(kind: &str, line: &str) {
    if !actions::is_on() {
        return to_stderr(&format!("{kind}: {line}"));
    }
    let mut fold = fold();
    fold.end();
    fold.marks += 1;
    match fold.marks <= MARKS {
        true => write(&actions::annotation(kind, line)),
        false => write(&actions::inert(&format!("larder: {kind}: {line}"))),
    }
}

/// Says a detail, which was asked for.
pub(super) fn detail(line: &str, dimmed: bool) {
    if !actions::is_on() {
        return match dimmed {
            true => write(&format!("\u{1b}[2mlarder: {line}\u{1b}[0m")),
            false => write(&format!("larder: {line}")),
        };
    }
    let mut fold = fold();
    if !fold.open {
        fold.open = true;
        write(&actions::group(fold.title));
    }
    write(&actions::inert(&format!("larder: {line}")));
}

/// Begins a chapter: the details that follow are folded under this title.
pub(crate) fn chapter(title: &'static str) {
    if actions::is_on() {
        let mut fold = fold();
        fold.end();
        fold.title = title;
    }
}

/// Ends the details said so far: something else will be on stderr.
pub(crate) fn end_details() {
    if actions::is_on() {
        fold().end();
    }
}

/// In GitHub Actions folds all that follows under a title, until [`end_group`].
pub(crate) fn begin_group(title: &str) {
    if actions::is_on() {
        write(&actions::group(title));
    }
}

/// Ends it.
pub(crate) fn end_group() {
    if actions::is_on() {
        write(actions::END_GROUP);
    }
}
