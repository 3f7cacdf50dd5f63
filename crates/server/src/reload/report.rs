//! What became of a reload: for the log, for `POST /reload` and for the statistics.

use std::{fmt, path::PathBuf, time::SystemTime};

use lipsync_core::ModelId;
use lipsync_registry::{Changes, ConfigRefused};

use crate::config::ConfigError;

/// Who asked for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// SIGHUP.
    Signal,
    /// `POST /reload`.
    Request,
    /// The file has changed.
    File,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signal => "SIGHUP",
            Self::Request => "POST /reload",
            Self::File => "the file has changed",
        })
    }
}

/// A configuration that is in force now.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Whether anything has changed that may change.
    pub is_news: bool,
    /// Hot keys outside of models that have changed; `tenants` for anything of them.
    pub changed: Vec<&'static str>,
    /// Cold keys that differ from those of the start: they take effect with the next one.
    pub needs_restart: Vec<&'static str>,
    /// What has changed about models.
    pub models: Changes,
    /// What is not wrong, but probably not meant, and what is missing; a sentence each.
    pub warnings: Vec<String>,
}

impl Report {
    pub(super) fn log(&self, cause: Cause) {
        if self.is_news {
            tracing::info!(%cause, changed = %list(&self.changed), "the configuration was reloaded");
        } else {
            tracing::info!(%cause, "the configuration was read again: nothing has changed that may");
        }
        if !self.models.is_empty() {
            log_models(&self.models);
        }
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        if !self.needs_restart.is_empty() {
            let keys = list(&self.needs_restart);
            tracing::warn!(%keys, "a changed key takes effect only after a restart");
        }
    }
}

/// Says which models came, changed and went.
pub(super) fn log_models(changes: &Changes) {
    let [added, changed, removed] =
        [&changes.added, &changes.changed, &changes.removed].map(|ids| ids_of(ids));
    tracing::info!(%added, %changed, %removed, "the models have changed");
}

fn ids_of(ids: &[ModelId]) -> String {
    let ids: Vec<_> = ids.iter().map(ModelId::as_str).collect();
    list(&ids)
}

fn list(words: &[&str]) -> String {
    if words.is_empty() {
        return "none".to_owned();
    }
    words.join(", ")
}

/// Why a reload has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The configuration did not come from a file.
    #[error("this server was started without a configuration file")]
    NoFile,
    /// One at a time.
    #[error("another reload is running")]
    Busy,
    /// The server drains.
    #[error("the server is stopping")]
    Stopping,
    /// There is no key in the file.
    #[error("{}: the file is empty, or has comments alone", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The file cannot be read, or says something wrong.
    #[error("{error}{}", shown(excerpt, *n_more))]
    Config {
        /// The first mistake, with file, line and column.
        error: String,
        /// The line that it is in; empty where there is none.
        excerpt: String,
        /// Mistakes besides.
        n_more: usize,
    },
    /// The registry does not take it.
    #[error("{0}")]
    Models(ConfigRefused),
}

fn shown(excerpt: &str, n_more: usize) -> String {
    let excerpt = if excerpt.is_empty() {
        String::new()
    } else {
        format!(" | {excerpt}")
    };
    match n_more {
        0 => excerpt,
        n => format!("{excerpt} (and {n} more; see lipsync-server check-config)"),
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        let (error, excerpt, n_more) = match error {
            ConfigError::Refused { mistakes, .. } if !mistakes.is_empty() => {
                let first = &mistakes[0];
                (first.to_string(), first.excerpt.clone(), mistakes.len() - 1)
            }
            other => (other.to_string(), String::new(), 0),
        };
        Self::Config {
            error,
            excerpt,
            n_more,
        }
    }
}

impl From<ConfigRefused> for Refusal {
    fn from(refused: ConfigRefused) -> Self {
        Self::Models(refused)
    }
}

/// What has been reloaded since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadStats {
    /// Configurations that were put in force.
    pub applied: u64,
    /// Configurations that were refused.
    pub refused: u64,
    /// Configurations that were taken back.
    pub rolled_back: u64,
    /// Whether the present one may still be taken back.
    pub on_trial: bool,
    /// When the present one was put in force; `None`: since the start.
    pub last_applied: Option<SystemTime>,
    /// Why the last one was refused or taken back, if it was.
    pub last_error: Option<String>,
    /// Keys of the file that take effect with the next start.
    pub needs_restart: Vec<&'static str>,
}
