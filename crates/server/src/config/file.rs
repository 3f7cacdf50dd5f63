//! The file as a whole: as it is written, and as the server uses it, complete, in range, paths resolved.
//!
//! Each section is a file beside this one, with all that is to be said of its keys.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lipsync_registry::RegistryConfig;
use lipsync_worker_pool::Scheduling;
use serde::Deserialize;

use super::{
    BadValue,
    capacity::{Elsewhere, RawCapacity},
    engine::{Engine, RawEngine},
    logging::{Logging, RawLogging},
    model::{RawModel, shown},
    operations::{Operations, RawOperations},
    output::{Output, RawOutput},
    scheduling::RawScheduling,
    section::Heat,
    server::{RawServer, RequestLimits, ServerLimits},
    session::{RawSession, SessionLimits},
    text::{Text, null_as_default},
    written_path::resolve,
};

/// The whole file, as it is written: every key optional, no unknown ones.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    #[serde(deserialize_with = "null_as_default")]
    server: RawServer,
    #[serde(deserialize_with = "null_as_default")]
    operations: RawOperations,
    #[serde(deserialize_with = "null_as_default")]
    capacity: RawCapacity,
    #[serde(deserialize_with = "null_as_default")]
    engine: RawEngine,
    #[serde(deserialize_with = "null_as_default")]
    scheduling: RawScheduling,
    #[serde(deserialize_with = "null_as_default")]
    output: RawOutput,
    #[serde(deserialize_with = "null_as_default")]
    session: RawSession,
    #[serde(deserialize_with = "null_as_default")]
    logging: RawLogging,
    models_root: Option<Text>,
    cache_dir: Option<Text>,
    strict: Option<bool>,
    follow_links: Option<bool>,
    #[serde(deserialize_with = "null_as_default")]
    models: BTreeMap<String, RawModel>,
}

/// A complete configuration.
#[derive(Debug)]
pub struct Config {
    /// Sockets, sizes and times of the server.
    pub server: ServerLimits,
    /// Sizes and times of requests, and of the end.
    pub requests: RequestLimits,
    /// The page and the probes; `None` = off.
    pub operations: Option<Operations>,
    /// What runs the networks.
    pub engine: Engine,
    /// What keeps slow networks from having every worker.
    pub scheduling: Scheduling,
    /// How frames are coded when a request does not say.
    pub output: Output,
    /// Bounds of streams.
    pub session: SessionLimits,
    /// What is logged.
    pub logging: Logging,
    /// Models and their budgets.
    pub registry: RegistryConfig,
    /// What is not wrong, but probably not meant, a sentence each.
    pub warnings: Vec<String>,
    /// Whether a model that is not there, or cannot be preloaded, ends the start.
    pub strict: bool,
    /// What the configuration names and is not there, a sentence each.
    pub missing: Vec<String>,
}

/// The keys outside of sections, and when they take effect.
const TOP_KEYS: &[(&str, Heat)] = &[
    ("models_root", Heat::Hot),
    ("cache_dir", Heat::Hot),
    ("strict", Heat::Cold),
    ("follow_links", Heat::Hot),
];

/// Every key by its path, `<id>` standing for a model's, and when it takes effect.
pub fn keys() -> impl Iterator<Item = (&'static str, Heat)> {
    let sections = [
        TOP_KEYS,
        RawServer::KEYS,
        RawOperations::KEYS,
        RawCapacity::KEYS,
        RawEngine::KEYS,
        RawScheduling::KEYS,
        RawOutput::KEYS,
        RawSession::KEYS,
        RawLogging::KEYS,
        RawModel::KEYS,
    ];
    sections.into_iter().flatten().copied()
}

impl RawConfig {
    /// Checks all of it. Relative paths count from `base`.
    pub(super) fn check(self, base: &Path) -> Result<Config, BadValue> {
        let root = self.models_root.as_deref().unwrap_or(".");
        let root = resolve("models_root", root, base)?;
        let strict = self.strict.unwrap_or(false);
        let follow_links = self.follow_links.unwrap_or(false);
        let mut models = Vec::with_capacity(self.models.len());
        let mut missing = Vec::new();
        for (id, mut model) in self.models {
            model.follow_links.get_or_insert(follow_links);
            models.push(model.check(&id, (&root, &mut missing))?);
        }
        if strict && !missing.is_empty() {
            return Err(missing.swap_remove(0));
        }
        let output = self.output.check()?;
        let registry = self.capacity.check(Elsewhere {
            models,
            precision: self.engine.default_precision(),
            jpeg_quality: output.jpeg_quality,
            cache_dir: cache_dir(self.cache_dir.as_deref(), base)?,
        })?;
        let (server, requests) = self.server.check()?;
        let operations = self.operations.check(server.address)?;
        Ok(Config {
            server,
            requests,
            operations,
            engine: self.engine.check()?,
            scheduling: self.scheduling.check()?,
            output,
            session: self.session.check()?,
            logging: self.logging.check()?,
            registry,
            // Of the reading, not of the values.
            warnings: Vec::new(),
            strict,
            missing: missing.iter().map(BadValue::sentence).collect(),
        })
    }
}

fn cache_dir(raw: Option<&str>, base: &Path) -> Result<Option<PathBuf>, BadValue> {
    const KEY: &str = "cache_dir";
    let folder = raw.map(|path| resolve(KEY, path, base)).transpose()?;
    let Some(folder) = folder.as_ref().filter(|folder| !folder.is_dir()) else {
        return Ok(folder);
    };
    Err(BadValue {
        key: KEY.into(),
        message: format!("{} is not a folder", shown(folder)),
    })
}
