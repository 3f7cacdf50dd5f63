//! What all services share.

use std::{fmt, sync::Arc, time::Instant};

use lipsync_engine::CpuIsa;
use lipsync_registry::Registry;
use lipsync_serving::{admission::Admission, batch::Batches, phase::Phase, pipeline::Pipeline};
use tokio::sync::watch;

use crate::{
    adapt::{Events, Outlook},
    busy::BusyShare,
    config::{Hot, Live, ServerLimits},
    gpus::Gpus,
    reload::Reloader,
    resume_token::ResumeKeys,
    telemetry::{EdgeFigures, Past, Poster},
    tls::Port,
    wire::{headers::Load, load_report::AnswerRate},
};

/// The parts of a running server.
pub struct Shared {
    /// The gate.
    pub admission: Arc<Admission>,
    /// Models.
    pub registry: Registry,
    /// Network and pixels.
    pub pipeline: Pipeline,
    /// Sockets, and what all clients share.
    pub limits: ServerLimits,
    /// What may change while the server runs.
    pub live: Live<Hot>,
    /// What signs the tokens of lost sessions where no file says it; `None`: the system has no random bits.
    pub own_resume_keys: Option<Arc<ResumeKeys>>,
    /// What puts other settings in force.
    pub reload: Reloader,
    /// What runs the networks.
    pub device: String,
    /// Instructions of the CPU engine.
    pub cpu_isa: CpuIsa,
    /// The main figures of the last days, and what is wrong with them.
    pub past: Past,
    /// Who tells others what is wrong.
    pub(crate) poster: Poster,
    /// What the edges count.
    pub figures: Arc<EdgeFigures>,
    /// How the GPUs are that run the networks, if any do.
    pub gpus: Gpus,
    /// What the server has changed by itself, and why.
    pub events: Arc<Events>,
    /// What is expected of the next minutes.
    pub outlook: Outlook,
    /// How busy the workers are.
    pub busy: BusyShare,
    /// How many answers tell how the server is.
    pub answer_rate: AnswerRate,
    /// When the server started.
    pub started: Instant,
    /// Ports that are encrypted.
    pub(crate) tls: Vec<Arc<Port>>,
    /// Where it is in its life.
    pub phase: watch::Receiver<Phase>,
}

impl Shared {
    /// The hot settings as they are now. Whoever needs several of them for one piece of work keeps what this gives.
    #[must_use]
    pub fn hot(&self) -> Arc<Hot> {
        self.live.get()
    }

    /// How busy the server is: its GPUs where there are any, or else its workers.
    pub(crate) fn load(&self) -> Load {
        let gpus = self.gpus.latest();
        let busiest = gpus.iter().map(|gpu| gpu.utilization_percent).max();
        let workers = || Load::Workers(self.busy.percent(&self.pipeline.workers));
        busiest.map_or_else(workers, Load::Gpu)
    }

    /// What a unary call is served with under these settings.
    #[must_use]
    pub fn batches(&self, hot: &Hot) -> Batches {
        Batches {
            admission: Arc::clone(&self.admission),
            registry: self.registry.clone(),
            pipeline: self.pipeline.clone(),
            max_frames: hot.requests.max_batch_frames,
            answers: self.limits.answers(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
