//! What every room says of its decisions, as lines that a person reads in order.
//!
//! The rooms say it through `tracing`: `info` is a decision, one line each; `debug` is a file or a unit; `warn` is said
//! always. Where nobody asked for it, nothing is computed or written.

use super::{Color, actions, lines};
use crate::cli::Global;
use crate::report::one_line;
use std::fmt::{Debug, Write as _};
use std::io::IsTerminal;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Starts the log: `-v` shows decisions, `-vv` each file and unit; `LARDER_LOG` takes tracing's filter syntax.
pub(crate) fn start_log(global: &Global) {
    // Whoever turns on the debug log of a workflow changes no command line.
    let verbose = if actions::is_debugging() { global.verbose.max(2) } else { global.verbose };
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let asked = std::env::var("LARDER_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = match asked.as_deref().map(|filter| (filter, EnvFilter::builder().parse(filter))) {
        None => EnvFilter::new(level),
        Some((_, Ok(filter))) => filter,
        Some((filter, Err(error))) => {
            lines::mark("warning", &format!("LARDER_LOG={} is no filter: {error}", one_line(filter)));
            EnvFilter::new(level)
        }
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(Plain { dimmed: use_color(global) });
    // Only a second call could fail, and there is one.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Whether anybody asked for decisions.
pub(super) fn is_asked() -> bool {
    tracing::enabled!(Level::INFO)
}

/// Whether stderr gets colour.
fn use_color(global: &Global) -> bool {
    match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    }
}

/// Writes events as plain lines.
struct Plain {
    dimmed: bool,
}

impl<S: Subscriber> Layer<S> for Plain {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let text = one_line(&format!("{}{}", said.message, said.fields));
        match *event.metadata().level() {
            Level::ERROR => lines::mark("error", &text),
            Level::WARN => lines::mark("warning", &text),
            Level::INFO => lines::detail(&text, self.dimmed),
            Level::DEBUG => lines::detail(&format!("  {text}"), self.dimmed),
            Level::TRACE => lines::detail(&format!("    {text}"), self.dimmed),
        }
    }
}

/// The words of an event.
#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, "; {name}: {value:?}"),
        };
    }
}
