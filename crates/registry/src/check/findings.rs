//! A list of findings, in which equal ones are one.

use std::{fmt, path::Path};

use lipsync_core::Foreign;

use super::short_name;
use crate::RegistryError;

/// Files named in one finding; of the others only the number.
const MAX_NAMED: usize = 4;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The server refuses the model, or shows another frame.
    Error,
    /// It serves, and the picture or the speech is probably wrong.
    Warning,
    /// Good to know.
    Note,
}

/// One finding about some files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was found, with a way out where there is one.
    pub text: String,
    /// Names of the first files that it is about; none where it is about the model.
    pub files: Vec<String>,
    /// How many files it is about.
    pub n_files: usize,
}

/// Findings, in the order in which they were first made.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    /// Adds a finding about the whole model.
    pub fn add(&mut self, severity: Severity, text: impl Into<String>) {
        self.entry(severity, text.into());
    }

    /// Adds a finding about a file. Files with the same finding become one entry.
    pub fn add_file(&mut self, severity: Severity, file: &Path, text: impl Into<String>) {
        let entry = self.entry(severity, text.into());
        entry.n_files += 1;
        if entry.files.len() < MAX_NAMED {
            entry.files.push(Foreign(&short_name(file)).to_string());
        }
    }

    /// Adds what loading would say.
    pub(crate) fn add_error(&mut self, error: &RegistryError) {
        self.add(Severity::Error, error.detail());
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// How many there are of one severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let same = self.list.iter().filter(|f| f.severity == severity);
        same.count()
    }

    /// Appends those of another list.
    pub fn extend(&mut self, others: Findings) {
        self.list.extend(others.list);
    }

    fn entry(&mut self, severity: Severity, text: String) -> &mut Finding {
        let same = |f: &Finding| f.severity == severity && f.text == text;
        let index = self.list.iter().position(same).unwrap_or_else(|| {
            self.list.push(Finding {
                severity,
                text,
                files: Vec::new(),
                n_files: 0,
            });
            self.list.len() - 1
        });
        &mut self.list[index]
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity)?;
        if !self.files.is_empty() {
            write!(f, "{}", self.files.join(", "))?;
            let n_more = self.n_files - self.files.len();
            if n_more > 0 {
                write!(f, " and {n_more} more")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.text)
    }
}
