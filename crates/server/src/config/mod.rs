//! `config.yaml`: reading, overriding from the environment, checking.
//!
//! Three steps, each able to say exactly what is wrong: the text is read into the raw form, which
//! refuses unknown keys with line and column; variables such as
//! `LIPSYNC_SERVER__WORKER_COUNT=8` replace single keys; and the result is validated into
//! [`Config`], the only form that the rest of the server sees. The file `config.yaml` in the root of
//! the repository is the documentation of every key, and a test loads it.

mod environment;
mod numbers;
mod raw;
mod validated;

use std::path::{Path, PathBuf};

use serde::Deserialize as _;

pub use validated::{
    Config, DeviceChoice, Engine, LogFormat, Logging, Operations, Output, ServerLimits,
    SessionLimits,
};

/// Why a configuration is refused. The text names file, place and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: cannot read the configuration: {source}", file = file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not YAML, an unknown or a duplicate key, or a wrong type.
    #[error("{file}{place}: {message}", file = file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// `:line:column`, where known.
        place: String,
        /// What was found, and what was expected.
        message: String,
    },
    /// An environment variable cannot be applied.
    #[error("environment variable {variable}: {message}")]
    Environment {
        /// Its name.
        variable: String,
        /// What is wrong with it.
        message: String,
    },
    /// A value that is well-formed but makes no sense.
    #[error("{file}{place}: {key}: {message}", file = file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// `:line:column` of the key, where it stands in the file.
        place: String,
        /// The key's path, for example `server.worker_count`.
        key: String,
        /// What was expected, and what was found.
        message: String,
    },
}

/// A value that the validation refuses: key path and message.
#[derive(Debug)]
struct BadValue {
    key: String,
    message: String,
}

impl Config {
    /// Reads `file` and applies the process's environment.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::load_with(
            file,
            std::env::vars_os().filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.into_string().ok()?))
            }),
        )
    }

    /// Reads `file` and applies the given variables.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load_with(
        file: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        Self::parse(&text, file, variables)
    }

    /// As [`Config::load_with`], for a text that came from `file`: relative paths count from there.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(
        text: &str,
        file: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        // Some editors begin every file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let syntax = |error: &serde_yaml::Error| syntax_error(file, error);
        // Once into the raw form, for its exact messages, and once into a tree, which also refuses
        // duplicate model ids and can be overridden.
        let is_empty = text
            .lines()
            .all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'));
        let mut tree = serde_yaml::Value::Mapping(serde_yaml::Mapping::new());
        if !is_empty {
            serde_yaml::from_str::<raw::RawConfig>(text).map_err(|e| syntax(&e))?;
            tree = serde_yaml::from_str(text).map_err(|e| syntax(&e))?;
        }
        for (variable, value) in variables {
            environment::apply(&mut tree, &variable, &value)?;
        }
        let raw = raw::RawConfig::deserialize(tree).map_err(|e| syntax(&e))?;
        let base = file.parent().unwrap_or_else(|| Path::new("."));
        validated::validate(raw, base).map_err(|bad| ConfigError::Value {
            file: file.to_owned(),
            place: place_of_key(text, &bad.key),
            key: bad.key,
            message: bad.message,
        })
    }
}

fn syntax_error(file: &Path, error: &serde_yaml::Error) -> ConfigError {
    let place = error
        .location()
        .map_or_else(String::new, |at| format!(":{}:{}", at.line(), at.column()));
    let mut message = error.to_string();
    // The place stands in front already.
    if let Some(cut) = message.find(" at line ") {
        message.truncate(cut);
    }
    ConfigError::Syntax {
        file: file.to_owned(),
        place,
        message,
    }
}

/// Line and column of a key path in block-style YAML, as `:line:column`; empty where it does not
/// stand there (a default, an override, or flow style).
fn place_of_key(text: &str, key: &str) -> String {
    let mut wanted = key.split('.').peekable();
    let mut indent_above: Option<usize> = None;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if indent_above.is_some_and(|above| indent <= above) {
            break;
        }
        let Some(&part) = wanted.peek() else { break };
        let name = trimmed
            .split(':')
            .next()
            .unwrap_or("")
            .trim()
            .trim_matches(['"', '\'']);
        if name != part || (indent_above.is_none() && indent != 0) {
            continue;
        }
        wanted.next();
        if wanted.peek().is_none() {
            return format!(":{}:{}", number + 1, indent + 1);
        }
        indent_above = Some(indent);
    }
    String::new()
}

#[cfg(test)]
mod tests;
