//! `config.yaml`: reading, overriding from the environment, checking.
//!
//! Four steps, each able to say exactly what is wrong: the text is read into a tree of what is written; variables
//! such as `LIPSYNC_SERVER__WORKER_COUNT=8` replace single values in it; it is read into the raw form, by the types of
//! the keys; and that is validated into [`Config`], the only form that the rest of the server sees. What is wrong is
//! left out of the tree and said, and the rest read again, so that everything is said at once. The file
//! `config.yaml` in the root of the repository is the documentation of every key, and a test loads it.
//!
//! Each section has a file of its own: its keys with types, defaults and ranges, what becomes of them, and which of
//! them may change while the server runs ([`Settings`]).

mod adapt;
mod address;
mod advice;
mod alerts;
mod capacity;
mod date;
mod engine;
mod environment;
mod excerpt;
mod file;
mod legacy;
mod legacy_file;
mod log_filter;
mod logging;
mod look_alikes;
pub(crate) mod memory;
mod model;
mod operations;
mod or_auto;
mod origin;
mod other_format;
mod output;
mod parts;
mod place;
mod recovery;
mod reload;
mod scan;
mod scheduling;
mod schema;
mod section;
mod server;
mod session;
mod settings;
mod source;
mod spelling;
mod tenants;
mod text;
mod text_to_speech;
mod tls;
mod traces;
mod tree;
mod typed;
mod webhook;
mod workers;
mod written_path;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use lipsync_core::Foreign;
use serde::Deserialize as _;

use place::Part;
use schema::Schema;
use tree::Node;
use typed::{Fault, Problem, Reader};

pub use adapt::Adapt;
pub use alerts::{Alert, Alerts};
pub(crate) use date::parse_date;
pub use engine::{DeviceChoice, Engine};
pub use file::{Config, Source, keys};
pub use legacy::Legacy;
pub use logging::{CallLines, LogFormat, Logging};
pub use operations::Operations;
pub use origin::Origin;
pub use output::Output;
pub use reload::Reload;
pub use scan::Scan;
pub use section::Heat;
pub use server::{MaxAge, RequestLimits, ServerLimits};
pub use session::SessionLimits;
pub use settings::{Cold, Hot, Live, Settings};
pub use text_to_speech::{SpeechBody, TextToSpeech};
pub use tls::{Tls, TlsVersion};
pub use traces::Traces;
pub use webhook::Webhook;
pub use workers::WorkerCount;
pub(crate) use workers::n_cores;

/// What is said of one configuration at most.
const MAX_MISTAKES: usize = 20;

/// Why a configuration is refused. The text names file, place and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {message}", file = file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// It says something that cannot be understood, or makes no sense.
    #[error("{}", lines(mistakes))]
    Refused {
        /// What is wrong with it, at least one thing.
        mistakes: Vec<Mistake>,
        /// What is not wrong, but probably not meant.
        warnings: Vec<String>,
    },
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file with line and column, where it stands there, or the environment variable.
    pub place: String,
    /// The key's path, for example `server.worker_count`; empty where it is the file as a whole.
    pub key: String,
    /// What was expected, and what was found.
    pub message: String,
    /// The line of the file, without what may be secret; empty where there is none.
    pub excerpt: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", Foreign(&self.key))?;
        }
        f.write_str(&self.message)
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    let mut lines: Vec<_> = mistakes.iter().map(Mistake::to_string).collect();
    if mistakes.len() >= MAX_MISTAKES {
        lines.push("there may be more".to_owned());
    }
    lines.join("\n")
}

/// A value that the validation refuses: key path and message.
#[derive(Debug)]
struct BadValue {
    key: String,
    message: String,
}

impl BadValue {
    fn sentence(&self) -> String {
        format!("{}: {}", self.key, self.message)
    }
}

impl Config {
    /// Reads `file` and applies the process's environment.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::load_with(
            file,
            // What is not UTF-8 shows: it is refused where it means a key.
            std::env::vars_os().map(|(name, value)| {
                let text = |part: std::ffi::OsString| part.to_string_lossy().into_owned();
                (text(name), text(value))
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
        let text = Source::read(file)?;
        let variables: Vec<_> = variables
            .into_iter()
            // Others may be many, and are nobody's business.
            .filter(|(name, _)| environment::concerns(name))
            .collect();
        let source = Source {
            file: file.to_owned(),
            text: Arc::clone(&text),
            variables: variables.into(),
        };
        source.again(&text)
    }

    /// Makes the folder `cache_dir`, with those above it, if it is missing.
    ///
    /// # Errors
    /// [`ConfigError::Refused`], if it cannot be made.
    pub fn make_cache_dir(&self) -> Result<(), ConfigError> {
        let Some(folder) = &self.registry.cache_dir else {
            return Ok(());
        };
        std::fs::create_dir_all(folder).map_err(|error| {
            let file = self
                .source
                .as_ref()
                .map(|source| source.file.display().to_string());
            let mistake = Mistake {
                place: file.unwrap_or_default(),
                key: "cache_dir".to_owned(),
                message: format!("the folder {} cannot be made: {error}", folder.display()),
                excerpt: String::new(),
            };
            ConfigError::Refused {
                mistakes: vec![mistake],
                warnings: self.warnings.clone(),
            }
        })
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
        let text = source::prepare(text);
        let tree = source::read_tree(&text).map_err(|(place, message)| ConfigError::Refused {
            mistakes: vec![Mistake {
                place: format!("{}{place}", file.display()),
                key: String::new(),
                message,
                excerpt: excerpt::at(&text, &place),
            }],
            warnings: Vec::new(),
        })?;
        let mut reading = Reading {
            text: &text,
            file,
            tree,
            schema: Schema::learn(),
            mistakes: Vec::new(),
            warnings: Vec::new(),
        };
        reading.refuse_duplicates();
        reading.adopt();
        reading.apply(variables);
        reading.finish()
    }
}

impl Source {
    /// What the file says now.
    ///
    /// # Errors
    /// [`ConfigError::Read`].
    pub fn read(file: &Path) -> Result<Arc<str>, ConfigError> {
        let text = source::read(file).map_err(|message| ConfigError::Read {
            file: file.to_owned(),
            message,
        })?;
        Ok(text.into())
    }

    /// What this text means in this file.
    ///
    /// # Errors
    /// [`ConfigError::Refused`].
    pub fn again(&self, text: &Arc<str>) -> Result<Config, ConfigError> {
        let config = Config::parse(text, &self.file, self.variables.iter().cloned())?;
        let source = Self {
            text: Arc::clone(text),
            ..self.clone()
        };
        Ok(Config {
            source: Some(source),
            ..config
        })
    }
}

/// A configuration while it is read.
struct Reading<'a> {
    text: &'a str,
    file: &'a Path,
    tree: Node,
    schema: Schema,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl Reading<'_> {
    fn refuse_duplicates(&mut self) {
        for path in self.tree.duplicates() {
            self.refuse(&path, Part::Key, "this is a duplicate: keep one".into());
        }
    }

    fn adopt(&mut self) {
        let file = self.file.display();
        let said = legacy_file::adopt(&mut self.tree, &self.schema);
        let said = said.into_iter().map(|said| format!("{file}: {said}"));
        self.warnings.extend(said);
    }

    fn apply(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        let mut variables: Vec<_> = variables.into_iter().collect();
        // So that what is said does not depend on chance.
        variables.sort();
        for (variable, value) in variables {
            match environment::apply(&mut self.tree, &self.schema, &variable, &value) {
                Ok(None) => {}
                Ok(Some(warning)) => {
                    let place = of_variable(&variable);
                    self.warnings.push(format!("{place}: {warning}"));
                }
                Err(message) => self.mistakes.push(Mistake {
                    place: of_variable(&variable),
                    key: String::new(),
                    message,
                    excerpt: String::new(),
                }),
            }
        }
    }

    /// Reads what is there, and again without what is wrong, until nothing is.
    fn finish(mut self) -> Result<Config, ConfigError> {
        while self.mistakes.len() < MAX_MISTAKES {
            let raw = match file::RawConfig::deserialize(Reader::new(&self.tree)) {
                Ok(raw) => raw,
                Err(fault) => {
                    if self.refuse_fault(fault) {
                        continue;
                    }
                    break;
                }
            };
            let base = self.file.parent().unwrap_or_else(|| Path::new("."));
            match raw.check(base) {
                Ok(config) if self.mistakes.is_empty() => return Ok(self.complete(config)),
                Ok(_) => break,
                Err(bad) => {
                    if !self.refuse_value(bad) {
                        break;
                    }
                }
            }
        }
        Err(ConfigError::Refused {
            mistakes: self.mistakes,
            warnings: self.warnings,
        })
    }

    fn complete(mut self, config: Config) -> Config {
        if config.registry.models.is_empty() {
            let file = self.file.display();
            self.warnings.push(format!(
                "{file}: there are no models, so there is nothing to ask for"
            ));
        }
        for (one, other) in environment::alike(&self.tree) {
            self.warnings.push(format!(
                "{}: models.{one} and models.{other} differ by case alone, so no environment variable can set their keys",
                self.file.display()
            ));
        }
        let file = self.file.display();
        let of_values = config.warnings.iter();
        let of_values = of_values.map(|warning| format!("{file}: {warning}"));
        self.warnings.extend(of_values);
        Config {
            warnings: self.warnings,
            ..config
        }
    }

    /// Says what is wrong with an entry, and leaves it out. Whether it was there.
    fn refuse(&mut self, path: &[usize], part: Part, mut message: String) -> bool {
        let along = self.tree.along(path);
        let keys: Vec<_> = along.iter().map(|entry| entry.key.as_str()).collect();
        let key = keys.join(".");
        let variable = along
            .iter()
            .rev()
            .find_map(|entry| entry.variable.as_deref());
        let (place, excerpt) = match variable {
            Some(variable) => (of_variable(variable), String::new()),
            None => {
                let place = place::locate(self.text, path, part);
                let excerpt = excerpt::at(self.text, &place);
                if let Some(said) = look_alikes::in_text(excerpt::line(self.text, &place)) {
                    message = format!("{message}; {said}");
                }
                (format!("{}{place}", self.file.display()), excerpt)
            }
        };
        // A model with a hole in it would be wrong in other ways then.
        let n_parts = match keys.as_slice() {
            ["models", ..] => 2,
            // So would a tenant's key.
            ["tenants", _, "keys", ..] => 4,
            _ => path.len(),
        };
        let whole = path.len().min(n_parts);
        self.mistakes.push(Mistake {
            place,
            key,
            message,
            excerpt,
        });
        self.tree.skip(&path[..whole])
    }

    fn refuse_fault(&mut self, fault: Fault) -> bool {
        let path = fault.path.unwrap_or_default();
        let message = match fault.problem {
            Problem::Said(message) => message,
            Problem::UnknownKey { key, known } => {
                let section = &path[..path.len().saturating_sub(1)];
                let section = self.tree.along(section);
                let section: Vec<_> = section.iter().map(|entry| entry.key.as_str()).collect();
                advice::unknown_key(&self.schema, &section, &key, known)
            }
        };
        self.refuse(&path, fault.part, message)
    }

    fn refuse_value(&mut self, bad: BadValue) -> bool {
        match self.tree.path_of(&bad.key) {
            Some(path) => self.refuse(&path, Part::Key, bad.message),
            // A default that does not go with what is there.
            None => {
                self.mistakes.push(Mistake {
                    place: self.file.display().to_string(),
                    key: bad.key,
                    message: bad.message,
                    excerpt: String::new(),
                });
                false
            }
        }
    }
}

fn of_variable(name: &str) -> String {
    format!("environment variable {}", Foreign(name))
}

#[cfg(test)]
mod tests;
