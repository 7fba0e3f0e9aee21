//! What is said on stderr while work goes on: a bar on a terminal, a line a phase elsewhere, warnings always.

use crate::cli::{Color, Global};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_store::{Events, Phase};
use std::io::{IsTerminal, Write as _};
use std::sync::Mutex;

/// Starts the log: `-v` shows steps, `-vv` every decision; `LARDER_LOG` takes tracing's filter syntax.
pub(crate) fn start_log(global: &Global) {
    let level = match global.verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = std::env::var("LARDER_LOG").ok().filter(|filter| !filter.is_empty()).unwrap_or_else(|| level.into());
    let filter = tracing_subscriber::EnvFilter::new(filter);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(use_color(global))
        .without_time()
        .log_internal_errors(false)
        .finish();
    // Only a second call could fail, and there is one.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Whether stderr gets colour.
fn use_color(global: &Global) -> bool {
    match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    }
}

/// Says one line. Where nobody listens any more, the work goes on.
pub(crate) fn to_stderr(line: &str) {
    drop(writeln!(std::io::stderr(), "larder: {line}"));
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
        let terminal = std::io::stderr().is_terminal();
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
    }

    /// A line for the person who waits.
    pub(crate) fn say(&self, line: &str) {
        self.finish();
        if !self.quiet {
            to_stderr(line);
        }
    }
}

impl Events for Talk {
    fn phase(&self, phase: Phase, total: u64) {
        if !self.phases {
            return;
        }
        if !self.terminal {
            match total {
                0 => to_stderr(phase.name()),
                total => to_stderr(&format!("{} ({total})", phase.name())),
            }
            return;
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
        to_stderr(&format!("warning: {message}"));
    }
}
