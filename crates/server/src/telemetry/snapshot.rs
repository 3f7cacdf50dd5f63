//! All figures of the server at one moment.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use lipsync_engine::VisualCacheStats;
use lipsync_registry::ModelStatus;
use lipsync_serving::{
    phase::Phase,
    telemetry::{Book, ModelFigures, Stage, StageTime},
};
use lipsync_session::SessionStats;
use lipsync_telemetry::HistogramSnapshot;
use lipsync_worker_pool::PoolStats;

use super::{
    alarms::AlarmStatus, edge::EdgeFigures, grpc::MethodSnapshot, process::ProcessFigures,
    traffic::Traffic,
};
use crate::{adapt::Expected, core_state::Shared, gpus::GpuStatus, tls::Port};

/// Figures without labels that many have: what a person looks at.
pub(crate) struct Snapshot {
    pub(crate) version: &'static str,
    pub(crate) uptime: Duration,
    pub(crate) device: String,
    pub(crate) phase: Phase,
    pub(crate) pool: PoolStats,
    /// Refused at the gate for want of room; the pool counts for itself.
    pub(crate) rejected: u64,
    pub(crate) models: Vec<ModelStatus>,
    pub(crate) resident_bytes: u64,
    pub(crate) visual_cache: VisualCacheStats,
    /// Sessions that are open, and how many may be.
    pub(crate) open_sessions: usize,
    pub(crate) max_sessions: usize,
    pub(crate) sessions: SessionStats,
    pub(crate) upload_bytes: usize,
    pub(crate) stages: [(Stage, StageTime); Stage::ALL.len()],
    pub(crate) gpus: Vec<GpuStatus>,
    /// The fewest and the most workers that there may be.
    pub(crate) workers_range: (usize, usize),
    /// What is expected of the next minutes.
    pub(crate) expected: Expected,
    /// Changes that the server made by itself, by act and reason.
    pub(crate) adaptations: Vec<((&'static str, &'static str), u64)>,
}

/// The rest: figures for machines, by label.
pub(crate) struct Details {
    pub(crate) started_at: SystemTime,
    pub(crate) by_model: Vec<([Box<str>; 2], Arc<ModelFigures>)>,
    /// Calls and sessions under way, by tenant.
    pub(crate) inflight: Vec<(Box<str>, u64)>,
    pub(crate) refusals: Vec<(Box<str>, u64)>,
    pub(crate) waits: Vec<(&'static str, HistogramSnapshot)>,
    pub(crate) batch_frames: HistogramSnapshot,
    pub(crate) methods: Vec<MethodSnapshot>,
    pub(crate) ports: [(&'static str, PortFigures); 2],
    pub(crate) process: ProcessFigures,
    pub(crate) alarms: Vec<AlarmStatus>,
    pub(crate) posts: PostTotals,
    /// Spans by what became of them; `None` where nothing is traced.
    pub(crate) spans: Option<[(&'static str, u64); 3]>,
    /// Keys that should be changed.
    pub(crate) advised: Vec<&'static str>,
    /// Ports that are encrypted.
    pub(crate) encrypted: Vec<&'static str>,
    /// Of them: when their certificates end.
    pub(crate) certificates: Vec<(&'static str, SystemTime)>,
    /// The part of the last second in which workers ran networks.
    pub(crate) busy_ratio: Option<f64>,
    pub(crate) max_files: u64,
}

/// What became of changes of alerts that were to be posted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PostTotals {
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
}

/// Figures of a port.
#[derive(Clone, Copy)]
pub(crate) struct PortFigures {
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) accepted: u64,
    pub(crate) open: u64,
}

impl Snapshot {
    /// All of it now.
    pub(crate) fn take(shared: &Shared) -> Self {
        let book = &shared.pipeline.book;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime: shared.started.elapsed(),
            device: shared.device.clone(),
            phase: *shared.phase.borrow(),
            pool: shared.pipeline.workers.stats(),
            rejected: shared.admission.n_rejected(),
            models: shared.registry.list(),
            resident_bytes: shared.registry.resident_bytes(),
            visual_cache: shared.registry.visual_cache(),
            open_sessions: shared.admission.n_sessions(),
            max_sessions: shared.hot().session.max_sessions,
            sessions: book.sessions.stats(),
            upload_bytes: shared.admission.n_upload_bytes(),
            stages: Stage::ALL.map(|stage| (stage, book.stages.of(stage))),
            gpus: shared.gpus.latest(),
            workers_range: shared.limits.workers.bounds(),
            expected: shared.outlook.expected(),
            adaptations: shared.events.counts(),
        }
    }
}

impl Details {
    /// All of it now. Blocking: it asks the system.
    pub(crate) fn take(shared: &Shared) -> Self {
        let (book, edge): (&Book, &EdgeFigures) = (&shared.pipeline.book, &shared.figures);
        let tenants = book.tenants().into_iter();
        let refusals = book.refusals().into_iter();
        let port = |traffic: &Traffic| PortFigures {
            received_bytes: traffic.received.get(),
            sent_bytes: traffic.sent.get(),
            accepted: traffic.accepted.get(),
            open: traffic.open.get(),
        };
        let name_of = |tls: &Port| match tls.section() {
            "server.tls" => "grpc",
            _ => "operations",
        };
        let certificates = shared.tls.iter();
        let certificates = certificates.filter_map(|tls| Some((name_of(tls), tls.not_after()?)));
        let spans = edge.tracer.as_ref().map(crate::traces::Tracer::figures);
        let (posts, counsels) = (shared.poster.figures(), shared.past.counsels());
        Self {
            started_at: edge.started_at,
            by_model: book.models(),
            inflight: tenants.map(|([id], t)| (id, t.inflight.get())).collect(),
            refusals: refusals.map(|([reason], n)| (reason, n.get())).collect(),
            waits: book.waits().collect(),
            batch_frames: shared.pipeline.workers.batch_frames(),
            methods: edge.grpc.snapshot(),
            ports: [
                ("grpc", port(&edge.grpc_port)),
                ("operations", port(&edge.operations_port)),
            ],
            process: ProcessFigures::read(),
            alarms: shared.past.alarms(),
            posts: PostTotals {
                delivered: posts.delivered.get(),
                failed: posts.failed.get(),
                dropped: posts.dropped.get(),
            },
            spans: spans.map(|spans| {
                [
                    ("exported", spans.exported.get()),
                    ("dropped", spans.dropped.get()),
                    ("failed", spans.failed.get()),
                ]
            }),
            advised: counsels.iter().map(|counsel| counsel.advice.key).collect(),
            encrypted: shared.tls.iter().map(|tls| name_of(tls)).collect(),
            certificates: certificates.collect(),
            busy_ratio: shared.past.latest("worker_busy_ratio"),
            max_files: crate::transport::max_files(),
        }
    }
}
