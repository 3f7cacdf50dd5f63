//! The main figures at one moment, and what two moments say.

use std::time::{Duration, Instant};

use lipsync_telemetry::{Buckets, HistogramSnapshot};

use super::{
    memory::MemoryFigures, now::Now, past::N, process::ProcessFigures, recent::Recent,
    snapshot::Snapshot,
};
use crate::core_state::Shared;

/// What has been counted so far, and what there is now.
#[derive(Debug)]
pub(super) struct Sample {
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
    visual: (u64, u64),
    background: (u64, u64),
    now: Now,
}

impl Sample {
    pub(super) fn take(
        shared: &Shared,
        snapshot: &Snapshot,
        (process, memory): (&ProcessFigures, &MemoryFigures),
        restarts: &mut Recent,
    ) -> Self {
        let (book, edge) = (&shared.pipeline.book, &shared.figures);
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
        let caches = snapshot
            .models
            .iter()
            .filter_map(|m| m.background_cache.as_ref());
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
            visual: (
                snapshot.visual_cache.hits,
                snapshot.visual_cache.hits + snapshot.visual_cache.misses,
            ),
            background: caches.fold((0, 0), |(hits, all), cache| {
                (hits + cache.hits, all + cache.requests)
            }),
            now: Now::new(shared, snapshot, (process, memory), restarts),
        }
    }

    /// The figures of the time since `before`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "seven digits are enough for a chart"
    )]
    pub(super) fn since(&self, before: &Self) -> [f32; N] {
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
        // A model that is loaded anew begins to count anew.
        let hits = |(hits, all): (u64, u64), (hits_before, all_before): (u64, u64)| {
            let new = all.saturating_sub(all_before);
            ratio(hits.saturating_sub(hits_before).min(new) as f64, new as f64)
        };
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
            now.worker_restarts,
            now.workers_lost,
            now.breakers_open,
            now.certificate_days_left,
            now.reload_failed,
            hits(self.visual, before.visual),
            hits(self.background, before.background),
        ]
        .map(|figure| figure as f32)
    }
}
