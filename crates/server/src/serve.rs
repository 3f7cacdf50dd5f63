//! Starting a server.

mod attendants;
mod error;
mod running;

use std::{sync::Arc, time::Instant};

use lipsync_engine::Device;
use lipsync_registry::{NetworkLoader, Registry};
use lipsync_serving::{
    admission::Admission, cpu_pool::CpuPool, phase::Phase, pipeline::Pipeline, telemetry::Book,
};
use lipsync_worker_pool::{PoolConfig, WorkerPool};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tower::Layer as _;

use crate::{
    adapt::{Events, Outlook},
    busy::BusyShare,
    config::{self, Config, Live},
    core_state::Shared,
    devices::of_workers,
    gpus::{GpuProbe, Gpus},
    listen::listen,
    operations::Listening,
    reload::{self, Reloader},
    request_layer::RequestLayer,
    resume_token::ResumeKeys,
    routes::routes,
    seam::WarmLoader,
    telemetry::{EdgeFigures, Poster},
    tls::{Port, TlsError},
    traces::Tracer,
    transport,
    wire::load_report::AnswerRate,
};
use attendants::Mail;
pub use error::StartError;
pub use running::RunningServer;

/// A server that listens but serves nothing yet.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    operations: Option<Listening>,
    tls: Option<Arc<Port>>,
    mail: Mail,
    phase: watch::Sender<Phase>,
    watching_gpus: Option<JoinHandle<()>>,
    /// Where workers may run.
    devices: Vec<Device>,
    strict: bool,
}

impl Server {
    /// Takes the ports and starts the workers.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(config: Config, loader: Arc<dyn NetworkLoader>) -> Result<Self, StartError> {
        let doors = Doors::open(&config).await?;
        let (phase, phase_seen) = watch::channel(Phase::Starting);
        let device = loader.device();
        let devices: Vec<Device> = loader.devices().iter().map(|room| room.device).collect();
        let loader = Arc::new(WarmLoader::new(loader));
        let live = Live::new(config.settings().hot);
        let registry = Registry::new(config.registry.clone(), Arc::clone(&loader) as _);
        let admission = Arc::new(Admission::new(config.admission(), phase_seen.clone()));
        let book = Arc::<Book>::default();
        let parts = (registry.clone(), Arc::clone(&admission), Arc::clone(&book));
        let reload = Reloader::new(&config, live.clone(), parts, doors.ports.clone());
        let pool = pool(&config, &devices);
        let workers = Arc::new(WorkerPool::start(pool, Arc::new(registry.clone()))?);
        loader.connect(&workers);
        let (tracer, spans) = config.traces.clone().map(Tracer::new).unzip();
        let figures = EdgeFigures::new(Arc::clone(&book), live.clone(), tracer);
        let (poster, mailbag) = Poster::new(config.server.address);
        let past = attendants::past(&config).await;
        let shared = Arc::new(Shared {
            admission,
            registry,
            pipeline: Pipeline {
                workers,
                cpu: CpuPool::new(),
                book,
                takes_turns_by_peer: config.server.tells_peers_apart(),
            },
            limits: config.server,
            cpu_isa: config.engine.cpu_isa,
            live,
            own_resume_keys: ResumeKeys::random().ok().map(Arc::new),
            reload,
            device,
            figures: Arc::new(figures),
            past,
            poster,
            tls: doors.ports,
            gpus: Gpus::default(),
            events: Arc::<Events>::default(),
            outlook: Outlook::default(),
            busy: BusyShare::default(),
            answer_rate: AnswerRate::default(),
            started: Instant::now(),
            phase: phase_seen,
        });
        Ok(Self {
            shared,
            listener: doors.listener,
            operations: doors.operations,
            tls: doors.tls,
            mail: (mailbag, spans),
            phase,
            watching_gpus: None,
            devices,
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
            mail,
            phase,
            watching_gpus,
            devices,
            strict,
        } = self;
        let address = listener.local_addr().map_err(|source| StartError::Bind {
            address: shared.limits.address,
            source,
        })?;
        let of_page = operations.as_ref().is_some_and(Listening::is_encrypted);
        let is_encrypted = (tls.is_some(), of_page);
        let (close, closing) = watch::channel(());
        let routes = routes(&shared).map_err(|e| StartError::Reflection(e.to_string()))?;
        let calls = RequestLayer::new(&shared).layer(routes);
        let live = shared.live.clone();
        // A session is over after half of it; the rest is for its client to come and see why.
        let unread = move || 2 * live.get().session.send_timeout;
        let share_percent = shared.limits.peer_share_percent;
        let door = transport::Door {
            listener,
            tls,
            places: transport::places(transport::max_connections(), share_percent),
            traffic: Arc::clone(&shared.figures.grpc_port),
        };
        let serving = transport::serve(
            door,
            calls,
            Arc::new(unread),
            shared.limits.max_age,
            closing,
        );
        let serving = tokio::spawn(serving);
        let mut attendants = attendants::begin(&shared, &phase, (mail, devices));
        attendants.extend(watching_gpus);
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

/// The ports of a server, taken.
struct Doors {
    listener: TcpListener,
    tls: Option<Arc<Port>>,
    /// All that are encrypted.
    ports: Vec<Arc<Port>>,
    operations: Option<Listening>,
}

impl Doors {
    async fn open(config: &Config) -> Result<Self, StartError> {
        let address = config.server.address;
        let bind = |source| StartError::Bind { address, source };
        let listener = listen(address).map_err(bind)?;
        let by_peer = config.server.tells_peers_apart();
        let tls = encrypted(config.tls.as_ref(), b"h2", by_peer)?;
        let mut ports: Vec<_> = tls.iter().cloned().collect();
        let operations = bind_operations(config.operations.as_ref(), &mut ports, by_peer).await?;
        Ok(Self {
            listener,
            tls,
            ports,
            operations,
        })
    }
}

/// Workers are dealt to these devices.
fn pool(config: &Config, devices: &[Device]) -> PoolConfig {
    PoolConfig {
        devices: of_workers(devices, config.server.workers.at_start()),
        queue_capacity: config.server.queue_capacity,
        max_batch_frames: config.engine.max_batch,
        max_batch_wait: config.engine.max_batch_wait,
        scheduling: config.scheduling.clone(),
        recovery: config.recovery,
    }
}

/// Reads the certificate of a port, if it has one. `alpn` is what is spoken inside.
/// `by_peer`: an address is one client.
fn encrypted(
    tls: Option<&config::Tls>,
    alpn: &'static [u8],
    by_peer: bool,
) -> Result<Option<Arc<Port>>, TlsError> {
    tls.map(|tls| Port::new(tls.clone(), alpn, by_peer))
        .transpose()
}

async fn bind_operations(
    config: Option<&config::Operations>,
    ports: &mut Vec<Arc<Port>>,
    by_peer: bool,
) -> Result<Option<Listening>, StartError> {
    let Some(config) = config else {
        return Ok(None);
    };
    let tls = encrypted(config.tls.as_ref(), b"http/1.1", by_peer)?;
    ports.extend(tls.clone());
    match Listening::bind(config, tls).await {
        Ok(listening) => Ok(Some(listening)),
        Err(source) => Err(StartError::BindOperations {
            address: config.address,
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
