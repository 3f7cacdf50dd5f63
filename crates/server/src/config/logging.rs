//! `logging`: what is logged.

use serde::Deserialize;

use super::{BadValue, log_filter::parse_filter, section::section, text::Text};

section! {
    /// `logging`, as it is written.
    RawLogging in "logging";
    hot level: Text = "info";
    cold format: RawLogFormat = RawLogFormat::Text;
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawLogFormat {
    Text,
    Json,
}

/// `logging`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// A filter as `tracing-subscriber` reads it.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
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
        Ok(Logging { level, format })
    }
}
