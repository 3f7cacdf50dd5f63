//! What of a configuration holds until the server ends, and what may change while it runs.

use std::sync::Arc;

use lipsync_registry::RegistryConfig;
use lipsync_worker_pool::{Recovery, Scheduling};
use tokio::sync::watch;

use crate::tenants::Tenants;

use super::{
    Adapt, Alerts, CallLines, Config, Engine, LogFormat, Operations, Output, Reload, RequestLimits,
    Scan, ServerLimits, SessionLimits, Tls, Traces,
};

/// All settings, by when they take effect. Which key is which is said where it is declared
/// ([`keys`](super::keys)).
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// A change needs a new start.
    pub cold: Cold,
    /// A change holds from the next request, session, load or tick on.
    pub hot: Hot,
}

/// Settings that hold from the start of the server to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Cold {
    /// Sockets, and what all clients share.
    pub server: ServerLimits,
    /// How the gRPC port is encrypted, if it is: which files, not what is in them.
    pub tls: Option<Tls>,
    /// The page and the probes; `None` = off.
    pub operations: Option<Operations>,
    /// What runs the networks.
    pub engine: Engine,
    /// What keeps slow networks from having every worker.
    pub scheduling: Scheduling,
    /// What is tried before something fails.
    pub recovery: Recovery,
    /// Where spans of calls are sent; `None` = nowhere.
    pub traces: Option<Traces>,
    /// How lines of the log look.
    pub log_format: LogFormat,
    /// Whether a model that is not there, or cannot be preloaded, ends the start.
    pub strict: bool,
}

/// Settings that may change while the server runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Hot {
    /// Sizes and times of requests, and of the end.
    pub requests: RequestLimits,
    /// How frames are coded when a request does not say.
    pub output: Output,
    /// Bounds of streams.
    pub session: SessionLimits,
    /// What is logged, as `tracing-subscriber` reads it.
    pub log_level: String,
    /// Which finished calls and sessions get a line.
    pub call_lines: CallLines,
    /// When figures are worth a line in the log.
    pub alerts: Alerts,
    /// What the server changes by itself.
    pub adapt: Adapt,
    /// How the next configuration comes into force.
    pub reload: Reload,
    /// Where models are looked for that the file does not name.
    pub scan: Option<Scan>,
    /// Models and their budgets, for [`Registry::reconfigure`](lipsync_registry::Registry::reconfigure).
    pub registry: RegistryConfig,
    /// Who may call.
    pub tenants: Arc<Tenants>,
}

impl Hot {
    /// The same, but who may call and reach what is as `newer` says.
    #[must_use]
    pub fn with_access_of(&self, newer: &Self) -> Self {
        Self {
            tenants: Arc::new(self.tenants.with_access_of(&newer.tenants)),
            ..self.clone()
        }
    }
}

impl Config {
    /// Its settings, by when they take effect.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            cold: Cold {
                server: self.server.clone(),
                tls: self.tls.clone(),
                operations: self.operations.clone(),
                engine: self.engine.clone(),
                scheduling: self.scheduling.clone(),
                recovery: self.recovery,
                traces: self.traces.clone(),
                log_format: self.logging.format,
                strict: self.strict,
            },
            hot: Hot {
                requests: self.requests,
                output: self.output,
                session: self.session.clone(),
                log_level: self.logging.level.clone(),
                call_lines: self.logging.calls,
                alerts: self.alerts.clone(),
                adapt: self.adapt,
                reload: self.reload,
                scan: self.scan.clone(),
                registry: self.registry.clone(),
                tenants: Arc::clone(&self.tenants),
            },
        }
    }
}

/// Settings that are read where they are needed, each time anew. Clones are the same settings.
///
/// Whoever needs several values that belong together keeps what [`get`](Self::get) gives, which never changes.
#[derive(Debug, Clone)]
pub struct Live<T>(watch::Sender<Arc<T>>);

impl<T: PartialEq> Live<T> {
    /// Settings to begin with.
    #[must_use]
    pub fn new(settings: impl Into<Arc<T>>) -> Self {
        Self(watch::Sender::new(settings.into()))
    }

    /// What holds now.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }

    /// What holds now and whenever that changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<T>> {
        self.0.subscribe()
    }

    /// Lets other settings hold from now on; whether they are others.
    pub fn set(&self, settings: impl Into<Arc<T>>) -> bool {
        let settings = settings.into();
        self.0.send_if_modified(|current| {
            let is_news = **current != *settings;
            if is_news {
                *current = settings;
            }
            is_news
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_later_is_what_was_set_last() {
        let live = Live::new(1);
        let (reader, mut watching) = (live.clone(), live.watch());
        let before = reader.get();
        assert!(!live.set(1), "the same is no news");
        assert!(!watching.has_changed().unwrap());
        assert!(live.set(2));
        assert!(watching.has_changed().unwrap());
        assert_eq!((*before, *reader.get()), (1, 2));
        assert_eq!(**watching.borrow_and_update(), 2);
    }
}
