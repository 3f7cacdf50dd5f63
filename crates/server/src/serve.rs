//! Starting, draining and stopping a server.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync::{
    inference::grpc_inference_service_server::GrpcInferenceServiceServer,
    v1::{
        lip_sync_server::LipSyncServer, model_admin_server::ModelAdminServer,
        server_admin_server::ServerAdminServer,
    },
};
use lipsync_engine::{Device, EngineError};
use lipsync_registry::{NetworkLoader, Registry};
use lipsync_serving::{
    admission::Admission, cpu_pool::CpuPool, phase::Phase, pipeline::Pipeline, telemetry::Book,
};
use lipsync_worker_pool::{LostDevice, PoolConfig, PoolError, Recovery, WorkerPool};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::MissedTickBehavior};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tower::Layer as _;

use crate::{
    busy::BusyShare,
    config::{self, Config, Live},
    core_state::Shared,
    devices::of_workers,
    gpus::{GpuProbe, Gpus},
    health::HealthService,
    heap_keeper,
    listen::listen,
    open_inference::InferenceService,
    operations::{Listening, Operations},
    reload::{self, Reloader},
    request_layer::RequestLayer,
    seam::WarmLoader,
    service::{LipSyncService, ModelAdminService, ServerAdminService},
    telemetry::{EdgeFigures, Past, RefusalLog, keep_sampling},
    tls::{self, Port, TlsError},
    transport,
};

/// What a graceful close of the connections may take once nothing runs any more. A connection that
/// never spoke would hold it up for ever.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);
/// What a first look at all models may take before the server is ready.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// How often the registry does its housekeeping.
const TEND_INTERVAL: Duration = Duration::from_secs(5);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The same for the page and the probes.
    #[error(
        "cannot listen on {address} for the page and the probes: {source}; \
         choose another operations.port, or set operations.enabled: false"
    )]
    BindOperations {
        /// The configured address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A port cannot be encrypted.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The worker pool did not start.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The reflection service could not be built.
    #[error("the descriptor set is broken: {0}")]
    Reflection(String),
    /// A model marked `preload` could not be loaded, and `strict` wants that it is.
    #[error("model {id:?} cannot be preloaded: {detail}")]
    Preload {
        /// Its id.
        id: String,
        /// What is wrong, with paths: this goes to the operator.
        detail: String,
    },
    /// A device failed for good before the server was ready.
    #[error("{} is lost: {}", .0.device, .0.reason)]
    DeviceLost(LostDevice),
    /// A device does not say how much memory it has.
    #[error(transparent)]
    Device(EngineError),
}

/// A server that listens but serves nothing yet.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    operations: Option<Listening>,
    tls: Option<Arc<Port>>,
    /// All that are encrypted.
    ports: Vec<Arc<Port>>,
    phase: watch::Sender<Phase>,
    watching_gpus: Option<JoinHandle<()>>,
    strict: bool,
}

/// A server that serves.
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    is_encrypted: (bool, bool),
    operations: Option<Operations>,
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    close: watch::Sender<()>,
    serving: JoinHandle<()>,
    /// What goes on beside serving, until the end.
    attendants: Vec<JoinHandle<()>>,
}

impl Server {
    /// Takes the ports and starts the workers.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(config: Config, loader: Arc<dyn NetworkLoader>) -> Result<Self, StartError> {
        let address = config.server.address;
        let places = config.admission();
        let bind = |source| StartError::Bind { address, source };
        let listener = listen(address).map_err(bind)?;
        let tls = encrypted(config.tls.as_ref(), b"h2")?;
        let mut ports: Vec<_> = tls.iter().cloned().collect();
        let operations = bind_operations(config.operations.as_ref(), &mut ports).await?;
        let (phase, phase_seen) = watch::channel(Phase::Starting);
        let device = loader.device();
        let rooms = loader.devices();
        let devices: Vec<Device> = rooms.iter().map(|room| room.device).collect();
        let loader = Arc::new(WarmLoader::new(loader));
        let live = Live::new(config.settings().hot);
        let registry = Registry::new(config.registry.clone(), Arc::clone(&loader) as _);
        let admission = Arc::new(Admission::new(places, phase_seen.clone()));
        let reload = Reloader::new(
            &config,
            live.clone(),
            (registry.clone(), Arc::clone(&admission)),
            ports.clone(),
        );
        let pool = pool(&config, of_workers(&devices, config.server.n_workers));
        let workers = WorkerPool::start(pool, Arc::new(registry.clone()))?;
        let workers = Arc::new(workers);
        loader.connect(&workers);
        let book = Arc::<Book>::default();
        let figures = EdgeFigures::new(Arc::clone(&book), live.clone());
        let shared = Arc::new(Shared {
            admission,
            registry,
            pipeline: Pipeline {
                workers,
                cpu: CpuPool::new(),
                book,
            },
            limits: config.server,
            live,
            reload,
            device,
            figures: Arc::new(figures),
            past: Past::new(&config.alerts),
            gpus: Gpus::default(),
            busy: BusyShare::default(),
            started: Instant::now(),
            phase: phase_seen,
        });
        Ok(Self {
            shared,
            listener,
            operations,
            tls,
            ports,
            phase,
            watching_gpus: None,
            strict: config.strict,
        })
    }

    /// What the services share; for the banner and for tests.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Starts polling the GPUs: once now, then every second until shutdown.
    pub async fn watch_gpus(&mut self, probe: Arc<dyn GpuProbe>) {
        let gpus = self.shared.gpus.clone();
        gpus.look(&probe).await;
        self.watching_gpus = Some(tokio::spawn(async move { gpus.keep_looking(probe).await }));
    }

    /// Begins to serve: health answers "not serving" until the models marked `preload` are ready.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(self) -> Result<RunningServer, StartError> {
        let Self {
            shared,
            listener,
            operations,
            tls,
            ports,
            phase,
            watching_gpus,
            strict,
        } = self;
        let address = listener.local_addr().map_err(|source| StartError::Bind {
            address: shared.limits.address,
            source,
        })?;
        let of_page = operations.as_ref().is_some_and(Listening::is_encrypted);
        let is_encrypted = (tls.is_some(), of_page);
        let (close, closing) = watch::channel(());
        let calls = RequestLayer::new(&shared).layer(routes(&shared)?);
        let live = shared.live.clone();
        // A session is over after half of it; the rest is for its client to come and see why.
        let unread = move || 2 * live.get().session.send_timeout;
        let limits = transport::Limits {
            unread: Arc::new(unread),
            peer_share_percent: shared.limits.peer_share_percent,
            tls,
        };
        let traffic = Arc::clone(&shared.figures.grpc_port);
        let serving = tokio::spawn(transport::serve(listener, calls, limits, closing, traffic));
        let lost = shared.pipeline.workers.lost_device();
        let refusals = RefusalLog::keep_telling(Arc::clone(&shared.pipeline.book));
        let mut attendants = vec![
            tokio::spawn(tend_models(shared.registry.clone())),
            tokio::spawn(refuse_when_lost(lost, phase.clone())),
            tokio::spawn(heap_keeper::keep_trimming()),
            tokio::spawn(reload::follow(shared.reload.clone())),
            tokio::spawn(refusals),
            tokio::spawn(keep_sampling(Arc::clone(&shared))),
        ];
        attendants.extend(watching_gpus);
        let following = ports.into_iter().map(tls::follow);
        attendants.extend(following.map(tokio::spawn));
        let mut running = RunningServer {
            address,
            is_encrypted,
            operations: operations.map(|o| o.serve(Arc::clone(&shared))),
            shared,
            phase,
            close,
            serving,
            attendants,
        };
        running.look_over().await;
        running.preload(strict).await?;
        running.advance(Phase::Starting, Phase::Serving);
        let judging = reload::keep_judging(running.shared.reload.clone());
        running.attendants.push(tokio::spawn(judging));
        Ok(running)
    }
}

impl RunningServer {
    /// Where it listens; the port is the real one even if 0 was configured.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the page and the probes are, unless they are switched off.
    #[must_use]
    pub fn operations_address(&self) -> Option<SocketAddr> {
        self.operations.as_ref().map(Operations::address)
    }

    /// Whether each of the ports of gRPC and of the page is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> (bool, bool) {
        self.is_encrypted
    }

    /// What the services share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns only if the server stops listening by itself, which it should never do.
    pub async fn ended(&mut self) {
        match (&mut self.serving).await {
            Ok(()) => tracing::error!("the server stopped"),
            Err(error) => tracing::error!(%error, "the server stopped"),
        }
    }

    /// Returns when a device has failed for good. New work is refused by then, and liveness is not serving:
    /// what is left to do is to shut down and to start anew.
    pub fn device_lost(&self) -> impl Future<Output = LostDevice> + use<> {
        let mut lost = self.shared.pipeline.workers.lost_device();
        async move {
            let found = lost.wait_for(Option::is_some).await;
            match found.ok().and_then(|found| found.clone()) {
                Some(lost) => lost,
                // The pool is gone, and nothing can be lost any more.
                None => std::future::pending().await,
            }
        }
    }

    /// From one phase to another, unless it has gone further already.
    fn advance(&self, from: Phase, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_there = *phase == from;
            if is_there {
                *phase = to;
            }
            is_there
        });
    }

    /// Finds models that are not there before anybody asks for them.
    async fn look_over(&self) {
        let registry = self.shared.registry.clone();
        let looking = tokio::task::spawn_blocking(move || registry.look_over());
        // A file system that does not answer must not hold up the others' models; it goes on by itself.
        let looked = tokio::time::timeout(LOOK_LIMIT, looking).await;
        if !matches!(looked, Ok(Ok(()))) {
            tracing::warn!("not all model folders could be checked");
        }
    }

    /// A model that cannot be loaded fails by itself, unless that is to end the start, or a device was lost
    /// meanwhile, which is why.
    async fn preload(&self, strict: bool) -> Result<(), StartError> {
        let failed = self.shared.registry.preload().await;
        let Some((id, error)) = failed.first() else {
            return Ok(());
        };
        let lost = self.shared.pipeline.workers.lost_device();
        if let Some(lost) = lost.borrow().clone() {
            return Err(StartError::DeviceLost(lost));
        }
        if !strict {
            return Ok(());
        }
        Err(StartError::Preload {
            id: id.to_string(),
            detail: error.detail(),
        })
    }

    /// Drains: not serving first, then no new work, then the end of what runs, at most for the
    /// configured grace.
    ///
    /// Returns whether everything that was accepted had ended by then.
    pub async fn shut_down(self) -> bool {
        let limits = self.shared.hot().requests;
        tracing::info!("draining");
        self.phase.send_replace(Phase::Draining);
        let grace = tokio::time::Instant::now() + limits.shutdown_grace;
        let all_done = tokio::time::timeout_at(grace, self.shared.admission.emptied())
            .await
            .is_ok();
        // Answers are on their way; the connections close when they are written.
        drop(self.close);
        let mut serving = self.serving;
        if tokio::time::timeout(CLOSE_LIMIT, &mut serving)
            .await
            .is_err()
        {
            serving.abort();
        }
        // Last, so that probes are answered to the end.
        if let Some(operations) = self.operations {
            operations.close().await;
        }
        for attendant in &self.attendants {
            attendant.abort();
        }
        let shared = Arc::clone(&self.shared);
        let rest = limits.shutdown_grace.min(CLOSE_LIMIT);
        let ending = tokio::task::spawn_blocking(move || {
            shared.registry.stop_baking(rest);
            shared.pipeline.workers.shutdown(rest);
        });
        if ending.await.is_err() {
            tracing::error!("the worker pool did not shut down cleanly");
        }
        tracing::info!(all_done, "stopped");
        all_done
    }

    /// Marks the server as not serving without refusing work yet, for `server.pre_drain_ms`: load
    /// balancers take it out first.
    pub async fn pre_drain(&self) {
        let pause = self.shared.hot().requests.pre_drain;
        if !pause.is_zero() {
            self.advance(Phase::Serving, Phase::Leaving);
            tokio::time::sleep(pause).await;
        }
    }
}

fn pool(config: &Config, devices: Vec<Device>) -> PoolConfig {
    PoolConfig {
        devices,
        queue_capacity: config.server.queue_capacity,
        max_batch_frames: config.engine.max_batch,
        max_batch_wait: config.engine.max_batch_wait,
        scheduling: config.scheduling.clone(),
        recovery: Recovery::default(),
    }
}

/// Reads the certificate of a port, if it has one. `alpn` is what is spoken inside.
fn encrypted(
    tls: Option<&config::Tls>,
    alpn: &'static [u8],
) -> Result<Option<Arc<Port>>, TlsError> {
    tls.map(|tls| Port::new(tls.clone(), alpn)).transpose()
}

async fn bind_operations(
    config: Option<&config::Operations>,
    ports: &mut Vec<Arc<Port>>,
) -> Result<Option<Listening>, StartError> {
    let Some(config) = config else {
        return Ok(None);
    };
    let tls = encrypted(config.tls.as_ref(), b"http/1.1")?;
    ports.extend(tls.clone());
    match Listening::bind(config, tls).await {
        Ok(listening) => Ok(Some(listening)),
        Err(source) => Err(StartError::BindOperations {
            address: config.address,
            source,
        }),
    }
}

fn routes(shared: &Arc<Shared>) -> Result<Routes, StartError> {
    let limit = shared.limits.max_message_bytes;
    let broken = |e: tonic_reflection::server::Error| StartError::Reflection(e.to_string());
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(lipsync::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(lipsync::inference::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let lip_sync = LipSyncServer::new(LipSyncService::new(Arc::clone(shared)))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let inference = GrpcInferenceServiceServer::new(InferenceService::new(Arc::clone(shared)))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let health = HealthService::new(
        shared.phase.clone(),
        shared.pipeline.workers.lost_device(),
        shared.registry.clone(),
        Arc::clone(&shared.pipeline.workers),
    );
    let mut routes = Routes::new(lip_sync);
    if shared.limits.open_inference {
        routes = routes.add_service(inference);
    }
    Ok(routes
        .add_service(ModelAdminServer::new(ModelAdminService::new(shared)))
        .add_service(ServerAdminServer::new(ServerAdminService::new(Arc::clone(
            shared,
        ))))
        .add_service(HealthServer::new(health))
        .add_service(reflection().build_v1().map_err(broken)?)
        .add_service(reflection().build_v1alpha().map_err(broken)?))
}

/// Refuses new work once a device is lost: its workers are gone, and the rest end with the process.
async fn refuse_when_lost(
    mut lost: watch::Receiver<Option<LostDevice>>,
    phase: watch::Sender<Phase>,
) {
    if lost.wait_for(Option::is_some).await.is_ok() {
        phase.send_replace(Phase::Draining);
    }
}

async fn tend_models(registry: Registry) {
    let mut ticks = tokio::time::interval(TEND_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let registry = registry.clone();
        // Opens packs, and gives back the memory of whole models.
        let tending = tokio::task::spawn_blocking(move || registry.tend(Instant::now()));
        match tending.await {
            Ok(dropped) => {
                for id in dropped {
                    tracing::info!(model = %id, "idle model unloaded");
                }
            }
            Err(error) => tracing::error!(%error, "the models could not be tended"),
        }
    }
}

#[cfg(test)]
mod tests;
