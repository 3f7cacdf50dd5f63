//! The file as a whole: as it is written, and as the server uses it, complete, in range, paths resolved.
//!
//! Each section is a file beside this one, with all that is to be said of its keys.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use lipsync_registry::{ModelConfig, ModelSource, RegistryConfig};
use lipsync_worker_pool::{Recovery, Scheduling};
use serde::Deserialize;

use crate::tenants::Tenants;

use super::{
    BadValue,
    adapt::{Adapt, RawAdapt},
    alerts::{Alerts, RawAlerts},
    capacity::{Elsewhere, RawCapacity},
    engine::{Engine, RawEngine},
    legacy::RawLegacy,
    logging::{Logging, RawLogging},
    memory::{self, MemoryLimit},
    model::{RawModel, shown},
    operations::{Operations, RawOperations},
    output::{Output, RawOutput},
    recovery::RawRecovery,
    reload::{RawReload, Reload},
    scan::Scan,
    scheduling::RawScheduling,
    section::Heat,
    server::{RawServer, RequestLimits, ServerLimits},
    session::{RawSession, SessionLimits},
    tenants::{self, RawTenant},
    text::{Text, null_as_default},
    tls::{RawOperationsTls, RawServerTls, Tls},
    traces::{RawTraces, Traces},
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
    legacy: RawLegacy,
    #[serde(deserialize_with = "null_as_default")]
    capacity: RawCapacity,
    #[serde(deserialize_with = "null_as_default")]
    engine: RawEngine,
    #[serde(deserialize_with = "null_as_default")]
    scheduling: RawScheduling,
    #[serde(deserialize_with = "null_as_default")]
    recovery: RawRecovery,
    #[serde(deserialize_with = "null_as_default")]
    output: RawOutput,
    #[serde(deserialize_with = "null_as_default")]
    session: RawSession,
    #[serde(deserialize_with = "null_as_default")]
    logging: RawLogging,
    #[serde(deserialize_with = "null_as_default")]
    reload: RawReload,
    #[serde(deserialize_with = "null_as_default")]
    alerts: RawAlerts,
    #[serde(deserialize_with = "null_as_default")]
    adapt: RawAdapt,
    #[serde(deserialize_with = "null_as_default")]
    traces: RawTraces,
    models_root: Option<Text>,
    scan_models_root: Option<bool>,
    cache_dir: Option<Text>,
    strict: Option<bool>,
    follow_links: Option<bool>,
    #[serde(deserialize_with = "null_as_default")]
    models: BTreeMap<String, RawModel>,
    #[serde(deserialize_with = "null_as_default")]
    tenants: BTreeMap<String, RawTenant>,
}

/// A complete configuration.
#[derive(Debug)]
pub struct Config {
    /// Sockets, sizes and times of the server.
    pub server: ServerLimits,
    /// How the gRPC port is encrypted, if it is.
    pub tls: Option<Tls>,
    /// Sizes and times of requests, and of the end.
    pub requests: RequestLimits,
    /// The page and the probes; `None` = off.
    pub operations: Option<Operations>,
    /// What runs the networks.
    pub engine: Engine,
    /// What keeps slow networks from having every worker.
    pub scheduling: Scheduling,
    /// What is tried before something fails.
    pub recovery: Recovery,
    /// How frames are coded when a request does not say.
    pub output: Output,
    /// Bounds of streams.
    pub session: SessionLimits,
    /// What is logged.
    pub logging: Logging,
    /// How a changed configuration comes into force.
    pub reload: Reload,
    /// When figures are worth a line in the log.
    pub alerts: Alerts,
    /// What the server changes by itself.
    pub adapt: Adapt,
    /// Where spans of calls are sent; `None` = nowhere.
    pub traces: Option<Traces>,
    /// Models and their budgets.
    pub registry: RegistryConfig,
    /// Where the paths of models start.
    pub models_root: PathBuf,
    /// Who may call.
    pub tenants: Arc<Tenants>,
    /// Where models are looked for that the file does not name.
    pub scan: Option<Scan>,
    /// What holds for each key outside of models, in some form: to tell which keys differ.
    pub values: BTreeMap<&'static str, String>,
    /// Where it was read; `None` of a text.
    pub source: Option<Source>,
    /// What is not wrong, but probably not meant, a sentence each.
    pub warnings: Vec<String>,
    /// Whether a model that is not there, or cannot be preloaded, ends the start.
    pub strict: bool,
    /// What the configuration names and is not there, a sentence each.
    pub missing: Vec<String>,
}

/// Where a configuration comes from, and what was there.
#[derive(Clone)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// What it said.
    pub text: Arc<str>,
    /// The variables that replace values of the file.
    pub variables: Arc<[(String, String)]>,
}

/// Without the text and the variables: there may be secrets in them.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// The keys outside of sections, and when they take effect.
const TOP_KEYS: &[(&str, Heat)] = &[
    ("models_root", Heat::Hot),
    ("scan_models_root", Heat::Hot),
    ("cache_dir", Heat::Hot),
    ("strict", Heat::Cold),
    ("follow_links", Heat::Hot),
];

/// Every key by its path, `<id>` standing for a model's, and when it takes effect.
pub fn keys() -> impl Iterator<Item = (&'static str, Heat)> {
    let sections = [
        TOP_KEYS,
        RawServer::KEYS,
        RawServerTls::KEYS,
        RawOperations::KEYS,
        RawOperationsTls::KEYS,
        RawLegacy::KEYS,
        RawCapacity::KEYS,
        RawEngine::KEYS,
        RawScheduling::KEYS,
        RawRecovery::KEYS,
        RawOutput::KEYS,
        RawSession::KEYS,
        RawLogging::KEYS,
        RawReload::KEYS,
        RawAlerts::KEYS,
        RawAdapt::KEYS,
        RawTraces::KEYS,
        RawModel::KEYS,
        RawTenant::KEYS,
    ];
    sections.into_iter().flatten().copied()
}

impl RawConfig {
    /// See [`Config::values`].
    fn values(&self) -> BTreeMap<&'static str, String> {
        let top = [
            ("models_root", format!("{:?}", self.models_root)),
            ("scan_models_root", format!("{:?}", self.scan_models_root)),
            ("cache_dir", format!("{:?}", self.cache_dir)),
            ("strict", format!("{:?}", self.strict.unwrap_or(false))),
            ("follow_links", format!("{:?}", self.follow_links)),
            ("tenants", format!("{:?}", self.tenants)),
        ];
        let sections = [
            self.server.values(),
            self.server.tls.values(),
            self.operations.values(),
            self.operations.tls.values(),
            self.legacy.values(),
            self.capacity.values(),
            self.engine.values(),
            self.output.values(),
            self.session.values(),
            self.logging.values(),
            self.reload.values(),
            self.alerts.values(),
            self.adapt.values(),
            self.traces.values(),
            self.scheduling.values(),
            self.recovery.values(),
        ];
        top.into_iter()
            .chain(sections.into_iter().flatten())
            .collect()
    }

    /// Checks all of it. Relative paths count from `base`.
    pub(super) fn check(self, base: &Path) -> Result<Config, BadValue> {
        let root = self.models_root.as_deref().unwrap_or(".");
        let root = resolve("models_root", root, base)?;
        let values = self.values();
        let is_set = |key: Option<bool>| key.unwrap_or(false);
        let (strict, follow_links) = (is_set(self.strict), is_set(self.follow_links));
        let (mut models, missing) = check_models(self.models, follow_links, &root, strict)?;
        let scan =
            is_set(self.scan_models_root).then(|| scan_of(root.clone(), follow_links, &models));
        models.extend(scan.iter().flat_map(Scan::find));
        let output = self.output.check()?;
        let memory = MemoryLimit::of_process();
        let engine = self.engine.check(memory)?;
        let on_gpu = engine.device.is_gpu();
        let registry = self.capacity.check(Elsewhere {
            models,
            precision: self.engine.default_precision(),
            jpeg_quality: output.jpeg_quality,
            cache_dir: cache_dir(self.cache_dir.as_deref(), base)?,
            memory,
            on_gpu,
        })?;
        let mut warnings = Vec::new();
        let said = (self.legacy.check(), memory);
        let (server, requests) = self.server.check(said, !on_gpu, &mut warnings)?;
        let tls = self.server.tls.check(base)?;
        let operations = self.operations.check(server.address, base)?;
        let session = self.session.check(base)?;
        let mut budgets = self.capacity.budgets(&registry, on_gpu);
        budgets.extend(self.server.budgets(&server));
        budgets.extend(self.engine.budget(&engine));
        warnings.extend(memory::warnings(&budgets, memory));
        let limits = (&server, &requests, &session);
        let page_tls = operations.as_ref().and_then(|page| page.tls.as_ref());
        let ports = [tls.as_ref(), page_tls];
        let tenants = tenants_of(self.tenants, &registry, (limits, ports), &mut warnings)?;
        Ok(Config {
            server,
            tls,
            requests,
            operations,
            engine,
            scheduling: self.scheduling.check()?,
            recovery: self.recovery.check()?,
            output,
            session,
            logging: self.logging.check()?,
            reload: self.reload.check()?,
            alerts: self.alerts.check()?,
            adapt: self.adapt.check()?,
            traces: self.traces.check()?,
            registry,
            models_root: root,
            tenants: Arc::new(tenants),
            scan,
            values,
            source: None,
            warnings,
            strict,
            missing: missing.iter().map(BadValue::sentence).collect(),
        })
    }
}

/// The models, and what is not there; nothing may be missing if `strict`.
fn check_models(
    raw: BTreeMap<String, RawModel>,
    follow_links: bool,
    root: &Path,
    strict: bool,
) -> Result<(Vec<ModelConfig>, Vec<BadValue>), BadValue> {
    let mut models = Vec::with_capacity(raw.len());
    let mut missing = Vec::new();
    for (id, mut model) in raw {
        model.follow_links.get_or_insert(follow_links);
        models.push(model.check(&id, (root, &mut missing))?);
    }
    if strict && !missing.is_empty() {
        return Err(missing.swap_remove(0));
    }
    Ok((models, missing))
}

fn tenants_of(
    raw: BTreeMap<String, RawTenant>,
    registry: &RegistryConfig,
    ((server, requests, session), ports): (AllLimits<'_>, [Option<&Tls>; 2]),
    warnings: &mut Vec<String>,
) -> Result<Tenants, BadValue> {
    let mut ports = ports.into_iter().flatten();
    let elsewhere = tenants::Elsewhere {
        models: &registry.models,
        server,
        requests,
        session,
        asks_for_certificates: ports.any(|port| port.client_ca.is_some()),
        now: SystemTime::now(),
    };
    tenants::check(raw, &elsewhere, warnings)
}

type AllLimits<'a> = (&'a ServerLimits, &'a RequestLimits, &'a SessionLimits);

fn scan_of(root: PathBuf, follow_links: bool, models: &[ModelConfig]) -> Scan {
    let folder = |model: &ModelConfig| match &model.source {
        ModelSource::Folder(folder) => Some(folder.clone()),
        ModelSource::Parts { .. } => None,
    };
    Scan {
        root,
        follow_links,
        ids: models.iter().map(|model| model.id.clone()).collect(),
        folders: models.iter().filter_map(folder).collect(),
    }
}

fn cache_dir(raw: Option<&str>, base: &Path) -> Result<Option<PathBuf>, BadValue> {
    const KEY: &str = "cache_dir";
    let folder = raw.map(|path| resolve(KEY, path, base)).transpose()?;
    // One that is missing is made when something is going to be written; see `Config::make_cache_dir`.
    let Some(folder) = folder
        .as_ref()
        .filter(|folder| !folder.is_dir() && folder.exists())
    else {
        return Ok(folder);
    };
    Err(BadValue {
        key: KEY.into(),
        message: format!("{} is not a folder", shown(folder)),
    })
}
