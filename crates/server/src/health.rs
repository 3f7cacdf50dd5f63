//! `grpc.health.v1.Health`, measured.
//!
//! Written here because the stock service answers `Watch` on an unknown name with an error where
//! the protocol asks for `SERVICE_UNKNOWN`, and reports "serving" before we are.

use std::{pin::Pin, sync::Arc};

use futures_util::stream::unfold;
use lipsync_core::ModelId;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};

use lipsync_registry::Registry;
use lipsync_serving::{phase::Phase, rights::Rights};
use lipsync_worker_pool::{BreakerState, LostDevice, WorkerPool};

use crate::{request_layer::Arrival, wire::status};

/// The services whose health equals the server's; `""` is the server itself, and `readiness` what orchestrators call
/// that.
const SERVICES: [&str; 5] = [
    "",
    "readiness",
    "lipsync.v1.LipSync",
    "lipsync.v1.ModelAdmin",
    "lipsync.v1.ServerAdmin",
];
/// Serving as long as the process lives, can answer, and has not lost a device.
const LIVENESS: &str = "liveness";
/// `model/<id>`: serving when it can be loaded, and does not keep failing.
const MODEL_PREFIX: &str = "model/";

/// The health service.
#[derive(Clone)]
pub struct HealthService {
    phase: watch::Receiver<Phase>,
    lost: watch::Receiver<Option<LostDevice>>,
    registry: Registry,
    workers: Arc<WorkerPool>,
}

impl HealthService {
    /// A service that follows `phase`, which must change after `lost` does.
    #[must_use]
    pub fn new(
        phase: watch::Receiver<Phase>,
        lost: watch::Receiver<Option<LostDevice>>,
        registry: Registry,
        workers: Arc<WorkerPool>,
    ) -> Self {
        Self {
            phase,
            lost,
            registry,
            workers,
        }
    }

    /// Whether a model's requests are refused because its network keeps failing.
    fn keeps_failing(&self, id: &ModelId) -> bool {
        let model = self.registry.resident(id);
        let health = model.map(|model| self.workers.health(model.generator()));
        health.is_some_and(|health| health.breaker == BreakerState::Open)
    }

    /// Of a model that is not the caller's, nobody knows, as of one that does not exist.
    fn status(&self, rights: &Rights, service: &str, phase: Phase) -> ServingStatus {
        let serving = match service {
            LIVENESS => self.lost.borrow().is_none(),
            name if SERVICES.contains(&name) => phase == Phase::Serving,
            name => {
                let model = name
                    .strip_prefix(MODEL_PREFIX)
                    .and_then(|id| ModelId::new(id).ok())
                    .filter(|id| rights.may_see(id));
                let failed = model.as_ref().map(|id| self.registry.watch_failed(id));
                match (model, failed) {
                    (Some(id), Some(Ok(failed))) => {
                        phase == Phase::Serving && !*failed.borrow() && !self.keeps_failing(&id)
                    }
                    _ => return ServingStatus::ServiceUnknown,
                }
            }
        };
        if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }
}

/// Why a status may be another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Phase,
    Model,
}

/// Each time a model has failed, was healed, or was added, changed or removed.
fn model_events(registry: Registry, id: ModelId) -> impl Stream<Item = Event> {
    let models = registry.watch_models();
    let failed = registry.watch_failed(&id).ok();
    unfold((models, failed), move |(mut models, mut failed)| {
        let (registry, id) = (registry.clone(), id.clone());
        async move {
            let change = async {
                match &mut failed {
                    // Of a model that is removed, the list tells.
                    Some(failed) => failed.changed().await.is_ok(),
                    None => false,
                }
            };
            tokio::select! {
                changed = models.changed() => {
                    changed.ok()?;
                    failed = registry.watch_failed(&id).ok();
                }
                true = change => {}
            }
            Some((Event::Model, (models, failed)))
        }
    })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

fn rights<T>(request: &Request<T>) -> Arc<Rights> {
    Arrival::of(request.extensions()).headers.caller.rights
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let phase = *self.phase.borrow();
        let rights = rights(&request);
        match self.status(&rights, &request.get_ref().service, phase) {
            ServingStatus::ServiceUnknown => Err(status::unknown_service()),
            status => Ok(Response::new(response(status))),
        }
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let rights = rights(&request);
        let service = request.into_inner().service;
        let this = self.clone();
        let id = service.strip_prefix(MODEL_PREFIX);
        let id = id.and_then(|id| ModelId::new(id).ok());
        let id = id.filter(|id| rights.may_see(id));
        // The first answer comes with the phase.
        let phases = WatchStream::new(self.phase.clone()).map(|_| Event::Phase);
        // What is no model changes with the phase alone.
        let events: Pin<Box<dyn Stream<Item = Event> + Send>> = match id {
            Some(id) => {
                let healths = WatchStream::from_changes(self.workers.watch_health());
                let models = model_events(self.registry.clone(), id);
                let models = models.merge(healths.map(|_| Event::Model));
                Box::pin(phases.merge(models))
            }
            None => Box::pin(phases),
        };
        let mut last = None;
        let states = events.filter_map(move |event| {
            let phase = *this.phase.borrow();
            let status = this.status(&rights, &service, phase);
            let is_news = last.replace(status) != Some(status);
            (is_news || event == Event::Phase).then(|| Ok(response(status)))
        });
        Ok(Response::new(Box::pin(states)))
    }
}
