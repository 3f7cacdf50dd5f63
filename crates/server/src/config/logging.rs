//! `logging`: what is logged.

use serde::Deserialize;

use super::{BadValue, log_filter::parse_filter, section::section, text::Text};

section! {
    /// `logging`, as it is written.
    RawLogging in "logging";
    hot level: Text = "info";
    cold format: RawLogFormat = RawLogFormat::Text;
    hot calls: RawCallLines = RawCallLines::All;
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawLogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawCallLines {
    All,
    Errors,
    None,
}

/// `logging`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// A filter as `tracing-subscriber` reads it.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
    /// Which finished calls and sessions get a line.
    pub calls: CallLines,
}

/// `logging.calls`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CallLines {
    /// All of them.
    #[default]
    All,
    /// Those that did not end well.
    Errors,
    /// No call.
    None,
}

/// `logging.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl RawLogging {
    pub(super) fn check(&self) -> Result<Logging, BadValue> {
        let level = parse_filter("logging.level", self.level())?;
        let format = match self.format() {
            RawLogFormat::Text => LogFormat::Text,
            RawLogFormat::Json => LogFormat::Json,
        };
        let calls = match self.calls() {
            RawCallLines::All => CallLines::All,
            RawCallLines::Errors => CallLines::Errors,
            RawCallLines::None => CallLines::None,
        };
        Ok(Logging {
            level,
            format,
            calls,
        })
    }
}
