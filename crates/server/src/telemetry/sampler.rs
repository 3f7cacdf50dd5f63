//! Takes the main figures once a second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_telemetry::{Buckets, HistogramSnapshot};

use super::{past::N, process::ProcessFigures, snapshot::Snapshot};
use crate::core_state::Shared;

const INTERVAL: Duration = Duration::from_secs(1);

/// What has been counted so far, and what there is now.
#[derive(Debug)]
struct Sample {
    at: Instant,
    calls: u64,
    refused: u64,
    failed: u64,
    requests: HistogramSnapshot,
    waits: HistogramSnapshot,
    frames: u64,
    session_frames: u64,
    late: u64,
    skipped: u64,
    busy: Duration,
    cpu_seconds: Option<f64>,
    received: u64,
    sent: u64,
    now: Now,
}

/// Figures that are no sums.
#[derive(Debug)]
struct Now {
    sessions: f64,
    queue_depth: f64,
    n_workers: f64,
    resident_bytes: f64,
    model_bytes: f64,
    memory_ratio: f64,
    gpu_memory_ratio: f64,
    gpu_utilization_ratio: f64,
    gpu_temperature_celsius: f64,
}

/// Notes the figures every second until it is dropped.
pub(crate) async fn keep_sampling(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        ticks.tick().await;
        let shared = Arc::clone(&shared);
        // It asks the system, and adds up what all tenants did.
        let sampling = tokio::task::spawn_blocking(move || {
            let sample = Sample::take(&shared);
            if let Some(before) = &before {
                shared.past.note(sample.since(before), &shared.hot().alerts);
            }
            sample
        });
        match sampling.await {
            Ok(sample) => before = Some(sample),
            Err(error) => return tracing::error!(%error, "figures are no longer sampled"),
        }
    }
}

/// The part of the machine's memory that is in use.
fn memory_ratio() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = |name| text.lines().find_map(|line| line.strip_prefix(name));
    let kib = |line: &str| line.split_whitespace().next()?.parse::<f64>().ok();
    let (all, free) = (kib(line("MemTotal:")?)?, kib(line("MemAvailable:")?)?);
    Some((all - free) / all)
}

impl Sample {
    fn take(shared: &Shared) -> Self {
        let snapshot = Snapshot::take(shared);
        let (book, edge) = (&shared.pipeline.book, &shared.figures);
        let process = ProcessFigures::read_quickly();
        let mut requests = HistogramSnapshot::empty(&Buckets::LATENCY);
        let (mut refused, mut failed, mut unary) = (0, 0, 0);
        for (_, figures) in book.models() {
            for (outcome, times) in figures.requests() {
                let n = times.count();
                refused += if outcome.name() == "refused" { n } else { 0 };
                failed += if outcome.name() == "failed" { n } else { 0 };
                requests.add(&times);
            }
            unary += figures.frames.get();
        }
        let mut waits = HistogramSnapshot::empty(&Buckets::LATENCY);
        book.waits().for_each(|(_, wait)| waits.add(&wait));
        let ports = [&edge.grpc_port, &edge.operations_port];
        Self {
            at: Instant::now(),
            calls: requests.count(),
            refused,
            failed,
            requests,
            waits,
            frames: unary + snapshot.sessions.frames,
            session_frames: snapshot.sessions.frames,
            late: snapshot.sessions.late_frames,
            skipped: snapshot.sessions.skipped_frames,
            busy: snapshot.pool.workers.iter().map(|w| w.busy).sum(),
            cpu_seconds: process.cpu_seconds,
            received: ports.iter().map(|port| port.received.get()).sum(),
            sent: ports.iter().map(|port| port.sent.get()).sum(),
            now: Now::new(&snapshot, &process),
        }
    }

    /// The figures of the time since `before`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "seven digits are enough for a chart"
    )]
    fn since(&self, before: &Self) -> [f32; N] {
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        let per_s = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        // Not a number where nothing happened.
        let ratio = |part: f64, all: f64| if all > 0.0 { part / all } else { f64::NAN };
        let session_frames = per_s(self.session_frames, before.session_frames);
        let calls = per_s(self.calls, before.calls);
        let failed = per_s(self.failed, before.failed);
        let busy = self.busy.saturating_sub(before.busy).as_secs_f64() / seconds;
        let cpu = self.cpu_seconds.zip(before.cpu_seconds);
        let p95 = |now: &HistogramSnapshot, before| now.quantile_since(before, 0.95);
        let now = &self.now;
        [
            calls,
            per_s(self.refused, before.refused),
            failed,
            ratio(failed, calls),
            now.sessions,
            per_s(self.frames, before.frames),
            ratio(per_s(self.late, before.late), session_frames),
            ratio(per_s(self.skipped, before.skipped), session_frames),
            now.queue_depth,
            p95(&self.waits, &before.waits).unwrap_or(f64::NAN),
            p95(&self.requests, &before.requests).unwrap_or(f64::NAN),
            // A batch counts when it ends.
            ratio(busy.min(now.n_workers), now.n_workers),
            now.resident_bytes,
            cpu.map_or(f64::NAN, |(now, before)| (now - before) / seconds),
            now.model_bytes,
            now.memory_ratio,
            per_s(self.received, before.received),
            per_s(self.sent, before.sent),
            now.gpu_memory_ratio,
            now.gpu_utilization_ratio,
            now.gpu_temperature_celsius,
        ]
        .map(|figure| figure as f32)
    }
}

impl Now {
    fn new(snapshot: &Snapshot, process: &ProcessFigures) -> Self {
        // The GPU that is worst off.
        let gpus = || snapshot.gpus.iter();
        let memory = gpus().map(|gpu| gpu.memory_used_bytes as f64 / gpu.memory_total_bytes as f64);
        let load = gpus().map(|gpu| f64::from(gpu.utilization_percent) / 1e2);
        let temperature = gpus().map(|gpu| f64::from(gpu.temperature_c));
        Self {
            sessions: snapshot.open_sessions as f64,
            queue_depth: snapshot.pool.queue_depth as f64,
            n_workers: snapshot.pool.n_workers() as f64,
            resident_bytes: process.resident_bytes.map_or(f64::NAN, |n| n as f64),
            model_bytes: snapshot.resident_bytes as f64,
            memory_ratio: memory_ratio().unwrap_or(f64::NAN),
            // The maximum of a number and none is the number.
            gpu_memory_ratio: memory.fold(f64::NAN, f64::max),
            gpu_utilization_ratio: load.fold(f64::NAN, f64::max),
            gpu_temperature_celsius: temperature.fold(f64::NAN, f64::max),
        }
    }
}
