//! The log on standard error: what `tracing` says, what panics say, and what the log says of itself.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    panic::{self, PanicHookInfo},
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use lipsync_core::Foreign;
use tokio::sync::watch;
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, filter::ParseError, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use crate::config::{Hot, LogFormat, Logging};

use super::{
    Output,
    limit::{Limit, LimitLayer, Said, hash_of},
    record::record,
    writer::Voice,
};

/// The process's log. Clones are the same log.
#[derive(Debug, Clone)]
pub struct Log {
    output: Output,
    own: Arc<Own>,
}

/// What the log needs for lines of its own.
#[derive(Debug, Default)]
struct Own {
    limit: Arc<Limit>,
    /// Text until the configuration is known.
    format: OnceLock<LogFormat>,
    /// What is logged, once the log has subscribed.
    filter: OnceLock<reload::Handle<EnvFilter, Registry>>,
}

impl Log {
    /// Takes standard error, and from now on the messages of panics.
    #[must_use]
    pub fn start() -> Self {
        let own = Arc::<Own>::default();
        let log = Self {
            output: Output::start("log", io::stderr(), Arc::clone(&own)),
            own,
        };
        let of_panics = log.clone();
        panic::set_hook(Box::new(move |panic| of_panics.write_panic(panic)));
        log
    }

    /// Takes what `tracing` says, as it is configured.
    ///
    /// # Errors
    /// A `logging.level` that is none.
    pub fn subscribe(&self, logging: &Logging) -> Result<(), ParseError> {
        // Not its lossy sister, which prints.
        let filter = EnvFilter::builder().parse(&logging.level)?;
        let (filter, handle) = reload::Layer::new(filter);
        // Nobody has set them before.
        let _ = self.own.format.set(logging.format);
        let _ = self.own.filter.set(handle);
        let lines = fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(self.output.clone())
            // It would print.
            .log_internal_errors(false);
        let lines = match logging.format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        Registry::default()
            .with(filter)
            .with(LimitLayer(Arc::clone(&self.own.limit)))
            .with(lines)
            .init();
        Ok(())
    }

    /// Logs what another `logging.level` asks for from now on.
    ///
    /// # Errors
    /// A level that is none: what was logged before is logged on.
    pub fn set_level(&self, level: &str) -> Result<(), ParseError> {
        let filter = EnvFilter::builder().parse(level)?;
        // Without a subscription there is nothing to change, and with the process's end nobody to tell.
        if let Some(handle) = self.own.filter.get() {
            let _ = handle.reload(filter);
        }
        Ok(())
    }

    /// Keeps the level in step with the settings, as long as they live.
    pub async fn follow(self, mut hot: watch::Receiver<Arc<Hot>>) {
        let mut level = hot.borrow_and_update().log_level.clone();
        while hot.changed().await.is_ok() {
            let new = hot.borrow_and_update().log_level.clone();
            if new == level {
                continue;
            }
            // Checked when the configuration was read.
            if let Err(error) = self.set_level(&new) {
                tracing::error!(%error, "logging.level could not be changed");
                continue;
            }
            tracing::info!(from = level, to = new, "logging.level has changed");
            level = new;
        }
    }

    /// Writes a line for people, whatever the configured level and format are.
    pub fn write(&self, lines: &str) {
        self.output.write(lines);
    }

    /// Has the rest written, and waits for that, at most for `limit`.
    pub fn close(&self, limit: Duration) {
        self.output.close(limit);
    }

    /// The message of a panic, in one line that is never waited for. The standard library's own would be
    /// lost or block where standard error is.
    fn write_panic(&self, panic: &PanicHookInfo<'_>) {
        let location = panic.location().map(ToString::to_string);
        let location = location.unwrap_or_default();
        let thread = thread::current();
        let thread = thread.name().unwrap_or("<unnamed>");
        let text = message(panic.payload());
        let message = format!(
            "thread {thread:?} panicked at {location}: {}",
            Foreign(text)
        );
        let of = (Level::ERROR, "panic");
        let said = || Said {
            level: of.0,
            target: of.1.into(),
            message: message.clone(),
        };
        let place = hash_of(&location);
        if !self.own.limit.admit(place, 0, Instant::now(), said) {
            return;
        }
        // As RUST_BACKTRACE wants it.
        let trace = Backtrace::capture();
        let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
        let rest = trace.as_deref().map(|trace| ("backtrace", trace));
        let line = record(self.own.format(), of, &message, rest);
        self.output.write(&line);
    }
}

impl Own {
    fn format(&self) -> LogFormat {
        self.format.get().copied().unwrap_or(LogFormat::Text)
    }
}

impl Voice for Arc<Own> {
    fn dropped(&self, n_lines: u64) -> Option<String> {
        let message = format!("{n_lines} log lines were dropped: the log could not be written");
        let of = (Level::WARN, module_path!());
        Some(record(self.format(), of, &message, None))
    }

    fn tick(&self, is_end: bool) -> Vec<String> {
        let left_out = self.limit.take_left_out(Instant::now(), is_end);
        let line = |of: &super::limit::LeftOut| {
            let place = (of.like.level, &*of.like.target);
            record(self.format(), place, &of.to_string(), None)
        };
        left_out.iter().map(line).collect()
    }
}

fn message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
}
