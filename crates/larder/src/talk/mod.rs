//! What is said on stderr while work goes on: a bar on a terminal, a line a phase elsewhere, warnings always, and
//! decisions where somebody asked for them.
//!
//! | module | its one idea |
//! |---|---|
//! | `log` | what the rooms say of their decisions, as plain lines |
//! | `lines` | the one stderr: details are folded in GitHub Actions |
//! | `actions` | what GitHub's runner obeys, and how everything else is kept from it |

pub(crate) mod actions;
mod lines;
mod log;

use crate::cli::{Color, Global};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_store::{Events, Phase};
pub(crate) use lines::{begin_group, chapter, end_details, end_group, to_stderr};
pub(crate) use log::start_log;
use std::io::IsTerminal;
use std::sync::Mutex;

/// Says why larder ends without having done its work.
pub(crate) fn failed(line: &str) {
    match actions::is_on() {
        true => lines::mark("error", line),
        false => to_stderr(line),
    }
}

/// Says in GitHub Actions what a person should act on, though nothing went wrong; elsewhere it is a detail.
pub(crate) fn advise(line: &str) {
    match actions::is_on() {
        true => lines::mark("warning", line),
        false => tracing::info!("{line}"),
    }
}

/// Speaks for a command.
pub(crate) struct Talk {
    quiet: bool,
    phases: bool,
    bar: Mutex<Option<ProgressBar>>,
    terminal: bool,
}

impl Talk {
    pub(crate) fn new(global: &Global) -> Self {
        // Some runners give a step a terminal; its log shows every picture of a bar.
        let terminal = std::io::stderr().is_terminal() && !actions::is_on();
        Self {
            quiet: global.quiet,
            phases: !global.quiet && (terminal || global.verbose > 0 || global.format == crate::cli::Format::Text),
            bar: Mutex::new(None),
            terminal,
        }
    }

    /// Ends whatever is drawn.
    pub(crate) fn finish(&self) {
        if let Some(bar) = self.bar.lock().expect("no thread panics while drawing").take() {
            bar.finish_and_clear();
        }
        end_details();
    }

    /// A line for the person who waits.
    pub(crate) fn say(&self, line: &str) {
        self.finish();
        if !self.quiet {
            to_stderr(line);
        }
    }
}

impl Talk {
    /// Says that larder does nothing by somebody's wish. In a workflow that is easily forgotten.
    pub(crate) fn switched_off(&self, line: &str) {
        match actions::is_on() {
            true => advise(line),
            false => self.say(line),
        }
    }
}

impl Events for Talk {
    fn phase(&self, phase: Phase, total: u64) {
        if !self.phases {
            return;
        }
        if !self.terminal {
            let line = match total {
                0 => phase.name().to_owned(),
                total => format!("{} ({total})", phase.name()),
            };
            // Between details a line would end their fold, for each phase anew.
            return if actions::is_on() && log::is_asked() { lines::detail(&line, false) } else { to_stderr(&line) };
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = if total > 0 { "larder: {msg} {wide_bar} {pos}/{len}" } else { "larder: {msg} {spinner}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(phase.name());
        if let Some(old) = self.bar.lock().expect("no thread panics while drawing").replace(bar) {
            old.finish_and_clear();
        }
    }

    fn advance(&self, steps: u64) {
        if self.terminal
            && let Some(bar) = self.bar.lock().expect("no thread panics while drawing").as_ref()
        {
            bar.inc(steps);
        }
    }

    fn warn(&self, message: &str) {
        self.finish();
        lines::mark("warning", message);
    }
}
