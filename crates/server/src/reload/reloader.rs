//! The one place where a configuration comes into force.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lipsync_core::sync::lock;
use lipsync_registry::{Changes, ConfigRefused, Registry};
use lipsync_serving::{admission::Admission, telemetry::Book};
use tokio::{sync::Semaphore, time::sleep};

use crate::{
    config::{Config, Heat, Hot, Live, Source, keys},
    tls::Port,
};

use super::{
    figures::Figures,
    good,
    report::{self, Cause, Refusal, ReloadStats, Report},
    trial::{History, Trial, Verdict},
};

/// After a reload that a request asked for, the next one has to wait for this many times as long as it took...
const REST: u32 = 4;
/// ... but no longer than this.
const MAX_REST: Duration = Duration::from_millis(500);

/// Puts other configurations in force. Clones are the same.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

struct Inner {
    /// `None`: the configuration did not come from a file, and there is nothing to read again.
    source: Option<Source>,
    /// What the keys were when the server started, which is what holds for cold ones.
    at_start: BTreeMap<&'static str, String>,
    live: Live<Hot>,
    registry: Registry,
    admission: Arc<Admission>,
    /// Those that are encrypted.
    ports: Vec<Arc<Port>>,
    /// How calls end, which decides over a configuration on trial.
    book: Arc<Book>,
    /// For the one reload that may run.
    running: Semaphore,
    turn: tokio::sync::Mutex<Turn>,
    stats: Mutex<ReloadStats>,
}

/// What only the one reload at a time may touch.
struct Turn {
    current: Version,
    /// The last one that was not taken back, and not on trial.
    good: Version,
    /// The text that was looked at last, good or bad.
    seen: Option<Arc<str>>,
    trial: Option<Trial>,
    history: History,
}

impl Turn {
    /// The present one is good, and its text is kept.
    async fn accept(&mut self) {
        self.good = self.current.clone();
        self.good.keep().await;
    }
}

/// A configuration, as far as it may change.
#[derive(Clone)]
struct Version {
    hot: Arc<Hot>,
    values: BTreeMap<&'static str, String>,
    source: Option<Source>,
}

impl Version {
    /// Keeps its text, if it has one and there is a place for it.
    async fn keep(&self) {
        if let (Some(folder), Some(source)) = (&self.hot.registry.cache_dir, &self.source) {
            good::keep(folder.clone(), source.clone()).await;
        }
    }
}

impl Reloader {
    /// For a server of this configuration.
    pub(crate) fn new(
        config: &Config,
        live: Live<Hot>,
        (registry, admission, book): (Registry, Arc<Admission>, Arc<Book>),
        ports: Vec<Arc<Port>>,
    ) -> Self {
        let version = Version {
            hot: live.get(),
            values: config.values.clone(),
            source: config.source.clone(),
        };
        let turn = Turn {
            good: version.clone(),
            seen: config
                .source
                .as_ref()
                .map(|source| Arc::clone(&source.text)),
            current: version,
            trial: None,
            history: History::default(),
        };
        Self(Arc::new(Inner {
            source: config.source.clone(),
            at_start: config.values.clone(),
            live,
            registry,
            admission,
            ports,
            book,
            running: Semaphore::new(1),
            turn: tokio::sync::Mutex::new(turn),
            stats: Mutex::default(),
        }))
    }

    /// Where the configuration came from, if it was a file.
    pub(super) fn source(&self) -> Option<&Source> {
        self.0.source.as_ref()
    }

    /// What holds now.
    pub(super) fn hot(&self) -> Arc<Hot> {
        self.0.live.get()
    }

    /// What has been reloaded so far.
    #[must_use]
    pub fn stats(&self) -> ReloadStats {
        lock(&self.0.stats).clone()
    }

    /// Reads the file again and puts it in force. It goes on to its end even if nobody waits for it any more.
    ///
    /// # Errors
    /// See [`Refusal`]; everything is as before then.
    pub async fn reload(&self, cause: Cause) -> Result<Report, Refusal> {
        let this = self.clone();
        let reloading = tokio::spawn(async move { this.reload_now(cause).await });
        // A panic in it has been logged, and nothing was half done: see the order in `put`.
        reloading.await.unwrap_or(Err(Refusal::Busy))
    }

    async fn reload_now(&self, cause: Cause) -> Result<Report, Refusal> {
        let inner = &self.0;
        let Some(source) = inner.source.clone() else {
            return Err(Refusal::NoFile);
        };
        if inner.admission.is_draining() {
            return Err(Refusal::Stopping);
        }
        // Of requests, none waits: there may be many.
        let running = match cause {
            Cause::Request => inner.running.try_acquire().ok(),
            Cause::Signal | Cause::File => inner.running.acquire().await.ok(),
        };
        let Some(_running) = running else {
            return Err(Refusal::Busy);
        };
        let begun = Instant::now();
        let report = self.read_and_put(cause, source).await;
        if cause == Cause::Request {
            // Whoever asks without end has a fifth of one core at most.
            sleep((begun.elapsed() * REST).min(MAX_REST)).await;
        }
        report
    }

    async fn read_and_put(&self, cause: Cause, source: Source) -> Result<Report, Refusal> {
        let inner = &self.0;
        let mut turn = inner.turn.lock().await;
        let read = tokio::task::spawn_blocking(move || read_again(&source));
        let read = read.await.unwrap_or_else(|_| Err((None, Refusal::Busy)));
        let config = match read {
            Ok(config) => config,
            Err((text, refusal)) => {
                let is_known = text.is_some() && text == turn.seen;
                turn.seen = text;
                if !(is_known && cause == Cause::File) {
                    self.refused(cause, &refusal);
                }
                return Err(refusal);
            }
        };
        let text = config
            .source
            .as_ref()
            .map(|source| Arc::clone(&source.text));
        if cause == Cause::File && text == turn.seen {
            return Ok(Report::default());
        }
        turn.seen = text;
        let mut put = self.put(&mut turn, config).await;
        if let Ok(report) = &mut put {
            report.warnings.extend(self.read_certificates().await);
        }
        match &put {
            Ok(report) => self.succeeded(cause, report),
            Err(refusal) => self.refused(cause, refusal),
        }
        put
    }

    /// Reads the certificates again, and says which of them cannot be used: the old ones stay.
    async fn read_certificates(&self) -> Vec<String> {
        let ports = self.0.ports.clone();
        let read = move || {
            let failed = ports.iter().filter_map(|port| port.reload().err());
            failed.map(|error| error.to_string()).collect()
        };
        // A panic has been logged.
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_default()
    }

    /// Looks for models under `models_root` again, if the configuration wants that.
    pub(crate) async fn rescan(&self) {
        let mut turn = self.0.turn.lock().await;
        let mut hot = Hot::clone(&turn.current.hot);
        let Some(scan) = hot.scan.clone() else { return };
        let Ok(found) = tokio::task::spawn_blocking(move || scan.find()).await else {
            return;
        };
        if let Some(scan) = &hot.scan {
            hot.registry.models.retain(|model| scan.names(&model.id));
        }
        hot.registry.models.extend(found);
        match self.apply(hot).await {
            Ok(changes) => {
                turn.current.hot = self.0.live.get();
                if turn.trial.is_none() {
                    turn.good = turn.current.clone();
                }
                if !changes.is_empty() {
                    report::log_models(&changes);
                }
            }
            Err(error) => tracing::error!(%error, "models_root cannot be taken as it is"),
        }
    }

    /// Puts all of a configuration that may change in force.
    async fn put(&self, turn: &mut Turn, config: Config) -> Result<Report, Refusal> {
        let inner = &self.0;
        let settings = config.settings();
        let mut changed = differing(&turn.current.values, &config.values, Heat::Hot);
        let needs_restart = differing(&inner.at_start, &config.values, Heat::Cold);
        let before = Arc::clone(&turn.current.hot);
        let models = self.apply(settings.hot).await.map_err(Refusal::from)?;
        turn.current = Version {
            hot: inner.live.get(),
            values: config.values,
            source: config.source,
        };
        if before.tenants != turn.current.hot.tenants {
            changed.push("tenants");
            changed.sort_unstable();
        }
        let is_news = *before != *turn.current.hot;
        // A call whose key is refused has not failed by the server's fault, so that access cannot be tried.
        if before.with_access_of(&turn.current.hot) != *turn.current.hot {
            self.begin_trial(turn);
        } else if is_news && turn.trial.is_none() {
            turn.accept().await;
        }
        Ok(Report {
            is_news,
            changed,
            needs_restart,
            models,
            warnings: [config.warnings, config.missing].concat(),
        })
    }

    /// The registry first: it alone can refuse, and then nothing else has changed.
    async fn apply(&self, hot: Hot) -> Result<Changes, ConfigRefused> {
        let inner = &self.0;
        let (registry, config) = (inner.registry.clone(), hot.registry.clone());
        // Gives back the memory of whole models.
        let changing = tokio::task::spawn_blocking(move || registry.reconfigure(config));
        let changes = match changing.await {
            Ok(changes) => changes?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        inner.admission.set_max_sessions(hot.session.max_sessions);
        inner.live.set(hot);
        if !changes.is_empty() {
            let registry = inner.registry.clone();
            // Nobody waits for it: a file system may not answer.
            drop(tokio::task::spawn_blocking(move || registry.look_over()));
        }
        Ok(changes)
    }

    fn begin_trial(&self, turn: &mut Turn) {
        let rules = turn.current.hot.reload;
        let (now, figures) = (Instant::now(), Figures::of(&self.0.book));
        // What is compared with is the last good one, however many have been tried since.
        let before = match turn.trial.take() {
            Some(trial) => trial.before(),
            None => turn.history.rates(figures),
        };
        if rules.window.is_zero() {
            turn.good = turn.current.clone();
        } else {
            turn.trial = Some(Trial::begin(rules, before, now, figures));
        }
        lock(&self.0.stats).on_trial = turn.trial.is_some();
    }

    /// Looks at how calls have ended, and ends the trial when that is clear. Called every second.
    pub(crate) async fn judge(&self, now: Instant) {
        let mut turn = self.0.turn.lock().await;
        let figures = Figures::of(&self.0.book);
        let verdict = turn.trial.as_ref().map(|trial| trial.judge(now, figures));
        match verdict {
            None => turn.history.note(now, figures),
            Some(Verdict::Open) => {}
            Some(Verdict::Good) => {
                turn.trial = None;
                turn.history = History::default();
                lock(&self.0.stats).on_trial = false;
                turn.accept().await;
                tracing::info!("the new configuration has stood its trial");
            }
            Some(Verdict::Bad(reason)) => self.roll_back(&mut turn, &reason.to_string()).await,
        }
    }

    /// Keeps the configuration of the start as the last good one, where there is a place for it.
    pub(crate) async fn keep_first(&self) {
        let good = self.0.turn.lock().await.good.clone();
        good.keep().await;
    }

    async fn roll_back(&self, turn: &mut Turn, reason: &str) {
        turn.trial = None;
        turn.history = History::default();
        // What was taken from somebody does not return because something else was wrong.
        let good = turn.good.hot.with_access_of(&turn.current.hot);
        let rolled_back = self.apply(good).await;
        let mut stats = lock(&self.0.stats);
        stats.on_trial = false;
        match rolled_back {
            Ok(_) => {
                turn.good.hot = self.0.live.get();
                turn.current = turn.good.clone();
                stats.rolled_back += 1;
                stats.needs_restart = differing(&self.0.at_start, &turn.good.values, Heat::Cold);
                let text = format!("rolled back to the last good configuration: {reason}");
                tracing::error!("{text}");
                stats.last_error = Some(text);
            }
            // It was taken once.
            Err(error) => {
                tracing::error!(%error, reason, "the configuration cannot be rolled back")
            }
        }
    }

    fn succeeded(&self, cause: Cause, report: &Report) {
        report.log(cause);
        let mut stats = lock(&self.0.stats);
        stats.needs_restart.clone_from(&report.needs_restart);
        stats.last_error = None;
        if report.is_news {
            stats.applied += 1;
            stats.last_applied = Some(std::time::SystemTime::now());
        }
    }

    fn refused(&self, cause: Cause, refusal: &Refusal) {
        let text = refusal.to_string();
        tracing::error!(%cause, "the configuration is refused, the old one stays: {text}");
        let mut stats = lock(&self.0.stats);
        stats.refused += 1;
        stats.last_error = Some(text);
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader")
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

/// What was found in a file that is refused, and why it is.
type Refused = (Option<Arc<str>>, Refusal);

fn read_again(source: &Source) -> Result<Config, Refused> {
    let text = Source::read(&source.file).map_err(|error| (None, Refusal::from(error)))?;
    // A file that is being written is empty for a moment. And nobody who comments everything out means that all models
    // should go; whoever does can write `models: {}`.
    if says_nothing(&text) {
        let refusal = Refusal::Empty {
            file: source.file.clone(),
        };
        return Err((Some(text), refusal));
    }
    let read = source.again(&text);
    read.and_then(|config| config.make_cache_dir().map(|()| config))
        .map_err(|error| (Some(text), Refusal::from(error)))
}

/// Whether a text has no key.
fn says_nothing(text: &str) -> bool {
    let is_nothing = |line: &str| {
        let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        line.starts_with('#') || matches!(line, "" | "---" | "..." | "{}" | "~" | "null")
    };
    text.lines().all(is_nothing)
}

/// The keys of a heat that differ, in the order of the alphabet.
fn differing(
    before: &BTreeMap<&'static str, String>,
    after: &BTreeMap<&'static str, String>,
    heat: Heat,
) -> Vec<&'static str> {
    let mut keys: Vec<_> = keys()
        .filter(|&(key, of)| of == heat && before.get(key) != after.get(key))
        .map(|(key, _)| key)
        .collect();
    keys.sort_unstable();
    keys
}
