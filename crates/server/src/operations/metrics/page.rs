//! From the figures to the text, part by part.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use lipsync::call_error::code_name;
use lipsync_core::saturate::u64_of;
use lipsync_registry::{ModelState, ModelStatus};
use lipsync_serving::phase::Phase;
use lipsync_telemetry::{Exposition, Format, Kind, Metric, Severity};
use lipsync_worker_pool::WorkerStats;

use super::{names, triton};
use crate::{
    reload::ReloadStats,
    telemetry::{Details, Snapshot},
};

/// The whole page.
pub(super) fn write(
    snapshot: &Snapshot,
    details: &Details,
    reload: &ReloadStats,
    format: Format,
) -> String {
    let mut page = Exposition::new(format);
    server(&mut page, snapshot);
    reloads(&mut page, reload);
    calls(&mut page, snapshot, details);
    sessions(&mut page, snapshot, details);
    pool(&mut page, snapshot, details);
    workers(&mut page, snapshot);
    models(&mut page, snapshot);
    caches(&mut page, snapshot);
    gpus(&mut page, snapshot);
    network(&mut page, details);
    spans(&mut page, details);
    certificates(&mut page, details);
    alerts(&mut page, details);
    process(&mut page, details);
    triton::write(&mut page, snapshot, details);
    page.finish()
}

fn server(page: &mut Exposition, snapshot: &Snapshot) {
    page.family(&names::BUILD)
        .sample(&[snapshot.version, &snapshot.device], 1_u64);
    one(page, &names::UPTIME, snapshot.uptime.as_secs_f64());
    let mut phases = page.family(&names::PHASE);
    for (name, phase) in [
        ("starting", Phase::Starting),
        ("serving", Phase::Serving),
        ("leaving", Phase::Leaving),
        ("draining", Phase::Draining),
    ] {
        phases.sample(&[name], u64::from(snapshot.phase == phase));
    }
}

fn reloads(page: &mut Exposition, stats: &ReloadStats) {
    page.family(&names::RELOADS)
        .sample(&["applied"], stats.applied)
        .sample(&["refused"], stats.refused)
        .sample(&["rolled_back"], stats.rolled_back);
    let failures = stats.refused + stats.rolled_back;
    one(page, &names::RELOAD_FAILURES, failures);
}

fn calls(page: &mut Exposition, snapshot: &Snapshot, details: &Details) {
    let methods = &details.methods;
    let mut family = page.family(&names::GRPC_STARTED);
    for m in methods {
        family.sample(&[&m.service, &m.method], m.started);
    }
    let mut family = page.family(&names::GRPC_HANDLED);
    for m in methods {
        for (code, n) in &m.handled {
            family.sample(&[&m.service, &m.method, code_name(*code)], *n);
        }
    }
    let mut family = page.family(&names::GRPC_TIME);
    for m in methods {
        family.histogram(&[&m.service, &m.method], &m.time);
    }
    let mut family = page.family(&names::REQUESTS);
    for ([model, tenant], figures) in &details.by_model {
        for (outcome, times) in figures.requests() {
            family.histogram(&[model, tenant, outcome.name()], &times);
        }
    }
    let mut family = page.family(&names::SHED);
    for (reason, n) in &details.refusals {
        family.sample(&[reason], *n);
    }
    let mut family = page.family(&names::INFLIGHT);
    for (tenant, n) in &details.inflight {
        family.sample(&[tenant], *n);
    }
    one(page, &names::UPLOAD_BYTES, u64_of(snapshot.upload_bytes));
}

fn sessions(page: &mut Exposition, snapshot: &Snapshot, details: &Details) {
    one(page, &names::SESSIONS, u64_of(snapshot.open_sessions));
    one(page, &names::MAX_SESSIONS, u64_of(snapshot.max_sessions));
    let rows = &details.by_model;
    let mut family = page.family(&names::SESSION_LIVES);
    for ([model, tenant], figures) in rows {
        for (outcome, lives) in figures.lives() {
            family.histogram(&[model, tenant, outcome.name()], &lives);
        }
    }
    let mut family = page.family(&names::FIRST_FRAME);
    for ([model, tenant], figures) in rows {
        family.histogram(&[model, tenant], &figures.first_frame());
    }
    let mut family = page.family(&names::INTERVAL);
    for ([model, tenant], figures) in rows {
        family.histogram(&[model, tenant], &figures.interval());
    }
    let mut family = page.family(&names::FRAMES);
    for ([model, tenant], figures) in rows {
        let sent = figures.sessions.stats();
        let special = sent.silent_frames + sent.idle_frames + sent.skipped_frames;
        for (kind, n) in [
            ("unary", figures.frames.get()),
            ("spoken", sent.frames.saturating_sub(special)),
            ("silent", sent.silent_frames),
            ("idle", sent.idle_frames),
            ("skipped", sent.skipped_frames),
        ] {
            family.sample(&[model, tenant, kind], n);
        }
    }
    for metric in [&names::LATE, &names::TOO_SLOW, &names::CLEARS] {
        let mut family = page.family(metric);
        for ([model, tenant], figures) in rows {
            let stats = figures.sessions.stats();
            let n = match metric {
                m if *m == names::LATE => stats.late_frames,
                m if *m == names::TOO_SLOW => stats.too_slow,
                _ => stats.clears,
            };
            family.sample(&[model, tenant], n);
        }
    }
}

fn pool(page: &mut Exposition, snapshot: &Snapshot, details: &Details) {
    let mut family = page.family(&names::WAIT);
    for (priority, wait) in &details.waits {
        family.histogram(&[priority], wait);
    }
    let pool = &snapshot.pool;
    one(page, &names::QUEUE_DEPTH, u64_of(pool.queue_depth));
    one(page, &names::QUEUE_LIMIT, u64_of(pool.queue_capacity));
    let mut family = page.family(&names::JOBS);
    for (outcome, n) in [
        ("completed", pool.completed),
        ("failed", pool.failed),
        ("cancelled", pool.cancelled),
        ("rejected", pool.rejected),
    ] {
        family.sample(&[outcome], n);
    }
    one(page, &names::JOBS_INFLIGHT, pool.in_flight);
    if let Some(ratio) = details.busy_ratio {
        one(page, &names::BUSY_RATIO, ratio);
    }
    page.family(&names::BATCH_FRAMES)
        .histogram(&[], &details.batch_frames);
    let mut family = page.family(&names::BATCH_CLOSED);
    for (reason, n) in [
        ("full", pool.shared.full),
        ("idle", pool.shared.idle),
        ("wait_over", pool.shared.wait_over),
    ] {
        family.sample(&[reason], n);
    }
    let mut family = page.family(&names::STAGE_TIME);
    for (stage, time) in &snapshot.stages {
        family.histogram(&[stage.name()], &time.times);
    }
    let mut family = page.family(&names::STAGE_FRAMES);
    for (stage, time) in &snapshot.stages {
        family.sample(&[stage.name()], time.frames);
    }
}

fn workers(page: &mut Exposition, snapshot: &Snapshot) {
    let named: Vec<_> = snapshot
        .pool
        .workers
        .iter()
        .enumerate()
        .map(|(n, w)| {
            let labels = [n.to_string(), w.device.to_string()];
            (labels, w)
        })
        .collect();
    let mut each = |metric: &Metric, figure: fn(&WorkerStats) -> u64| {
        let mut family = page.family(metric);
        for ([worker, device], stats) in &named {
            family.sample(&[worker, device], figure(stats));
        }
    };
    each(&names::WORKER_FRAMES, |w| w.frames);
    each(&names::WORKER_BATCHES, |w| w.batches);
    each(&names::WORKER_RESTARTS, |w| w.restarts);
    let mut family = page.family(&names::WORKER_BUSY);
    for ([worker, device], stats) in &named {
        family.sample(&[worker, device], stats.busy.as_secs_f64());
    }
    let mut by_device = BTreeMap::<&str, [u64; 3]>::new();
    for ([_, device], stats) in &named {
        let sums = by_device.entry(device).or_default();
        sums[0] += u64::from(stats.is_here);
        sums[1] += stats.faults;
        sums[2] += stats.out_of_memory;
    }
    let mut family = page.family(&names::WORKERS);
    for (device, [n, ..]) in &by_device {
        family.sample(&[device], *n);
    }
    let mut family = page.family(&names::WORKERS_RANGE);
    let (min, max) = snapshot.workers_range;
    family.sample(&["min"], u64_of(min));
    family.sample(&["max"], u64_of(max));
    if let Some(busy) = snapshot.expected.busy {
        one(page, &names::EXPECTED_BUSY, busy);
    }
    if let Some(ratio) = snapshot.expected.accuracy.error_ratio() {
        one(page, &names::FORECAST_ERROR, ratio);
    }
    let mut family = page.family(&names::ADAPTATIONS);
    for ((act, reason), n) in &snapshot.adaptations {
        family.sample(&[act, reason], *n);
    }
    let mut family = page.family(&names::DEVICE_ERRORS);
    for (device, [_, faults, out_of_memory]) in &by_device {
        family.sample(&[device, "fault"], *faults);
        family.sample(&[device, "out_of_memory"], *out_of_memory);
    }
}

fn models(page: &mut Exposition, snapshot: &Snapshot) {
    let models = &snapshot.models;
    let mut each = |metric: &Metric, figure: fn(&ModelStatus) -> u64| {
        let mut family = page.family(metric);
        for model in models {
            family.sample(&[model.id.as_str()], figure(model));
        }
    };
    each(&names::RESIDENT, |m| {
        u64::from(m.state == ModelState::Ready)
    });
    each(&names::MODEL_FRAMES, |m| m.frames);
    let mut family = page.family(&names::MODEL_STATE);
    for model in models {
        for (name, state) in [
            ("unloaded", ModelState::Unloaded),
            ("loading", ModelState::Loading),
            ("ready", ModelState::Ready),
            ("failed", ModelState::Failed),
        ] {
            let is_in = u64::from(model.state == state);
            family.sample(&[model.id.as_str(), name], is_in);
        }
    }
    let mut family = page.family(&names::MODEL_MEMORY);
    for model in models {
        let cache = |cache: &Option<lipsync_registry::CacheStats>| {
            cache.as_ref().map_or(0, |cache| cache.resident_bytes)
        };
        for (part, n_bytes) in [
            ("weights", model.weights_bytes),
            ("frames", cache(&model.background_cache)),
            ("decoded", cache(&model.decoded_cache)),
            (
                "visual_cache",
                model.visual_cache.map_or(0, |c| c.resident_bytes),
            ),
        ] {
            family.sample(&[model.id.as_str(), part], n_bytes);
        }
    }
    let mut family = page.family(&names::MODEL_COMPUTE);
    for model in models {
        family.sample(&[model.id.as_str()], model.total_inference.as_secs_f64());
    }
    let mut family = page.family(&names::MODEL_LOADS);
    for model in models {
        family.histogram(&[model.id.as_str()], &model.times.loads);
    }
    let mut family = page.family(&names::EVICTIONS);
    for model in models {
        for (reason, n) in model.times.unloads {
            family.sample(&[model.id.as_str(), reason.name()], n);
        }
    }
    one(page, &names::MEMORY, snapshot.resident_bytes);
}

fn caches(page: &mut Exposition, snapshot: &Snapshot) {
    // A model that is not in memory has no cache.
    let caches = snapshot.models.iter().filter_map(|model| {
        let cache = model.background_cache.as_ref()?;
        Some((model.id.as_str(), cache))
    });
    let caches: Vec<_> = caches.collect();
    let mut each = |metric: &Metric, figure: fn(&lipsync_registry::CacheStats) -> u64| {
        let mut family = page.family(metric);
        for (model, cache) in &caches {
            family.sample(&[model], figure(cache));
        }
    };
    each(&names::CACHE_BYTES, |c| c.resident_bytes);
    each(&names::CACHE_HITS, |c| c.hits);
    each(&names::CACHE_MISSES, |c| c.misses);
    let visual = &snapshot.visual_cache;
    for (metric, n) in [
        (&names::VISUAL_BYTES, visual.resident_bytes),
        (&names::VISUAL_LIMIT, visual.capacity_bytes),
        (&names::VISUAL_HITS, visual.hits),
        (&names::VISUAL_MISSES, visual.misses),
        (&names::VISUAL_EVICTIONS, visual.evictions),
    ] {
        one(page, metric, n);
    }
}

fn gpus(page: &mut Exposition, snapshot: &Snapshot) {
    let milli = |n: u32| f64::from(n) / 1e3;
    let gpus = snapshot.gpus.iter();
    let figures: Vec<_> = gpus
        .map(|gpu| {
            let figures = [
                gpu.memory_used_bytes as f64,
                gpu.memory_total_bytes as f64,
                f64::from(gpu.utilization_percent) / 1e2,
                f64::from(gpu.temperature_c),
                milli(gpu.power_mw),
                milli(gpu.power_limit_mw),
            ];
            (gpu.device.as_str(), figures)
        })
        .collect();
    for (place, metric) in [
        &names::GPU_MEMORY,
        &names::GPU_TOTAL,
        &names::GPU_BUSY,
        &names::GPU_TEMPERATURE,
        &names::GPU_POWER,
        &names::GPU_POWER_LIMIT,
    ]
    .into_iter()
    .enumerate()
    {
        let mut family = page.family(metric);
        for (device, figures) in &figures {
            family.sample(&[device], figures[place]);
        }
    }
}

fn network(page: &mut Exposition, details: &Details) {
    let mut each = |metric: &Metric, figure: fn(&crate::telemetry::PortFigures) -> u64| {
        let mut family = page.family(metric);
        for (port, figures) in &details.ports {
            family.sample(&[port], figure(figures));
        }
    };
    each(&names::RECEIVED, |p| p.received_bytes);
    each(&names::SENT, |p| p.sent_bytes);
    each(&names::CONNECTIONS, |p| p.open);
    each(&names::ACCEPTED, |p| p.accepted);
}

fn spans(page: &mut Exposition, details: &Details) {
    let mut family = page.family(&names::SPANS);
    for (outcome, n) in details.spans.iter().flatten() {
        family.sample(&[outcome], *n);
    }
}

fn certificates(page: &mut Exposition, details: &Details) {
    let mut family = page.family(&names::CERTIFICATE);
    for (port, end) in &details.certificates {
        let end = end.duration_since(SystemTime::UNIX_EPOCH);
        family.sample(&[port], end.unwrap_or(Duration::ZERO).as_secs_f64());
    }
}

fn alerts(page: &mut Exposition, details: &Details) {
    let mut family = page.family(&names::ALERT);
    for alarm in &details.alarms {
        for severity in [Severity::Warning, Severity::Critical] {
            let is_raised = u64::from(alarm.severity == Some(severity));
            family.sample(&[alarm.name, severity.name()], is_raised);
        }
    }
    let posts = &details.posts;
    page.family(&names::POSTS)
        .sample(&["delivered"], posts.delivered)
        .sample(&["failed"], posts.failed)
        .sample(&["dropped"], posts.dropped);
    let mut family = page.family(&names::ADVICE);
    for key in &details.advised {
        family.sample(&[key], 1_u64);
    }
}

fn process(page: &mut Exposition, details: &Details) {
    let figures = &details.process;
    if let Some(seconds) = figures.cpu_seconds {
        one(page, &names::CPU, seconds);
    }
    for (metric, figure) in [
        (&names::RSS, figures.resident_bytes),
        (&names::VIRTUAL, figures.virtual_bytes),
        (&names::THREADS, figures.threads),
        (&names::FILES, figures.open_files),
        (&names::MAX_FILES, Some(details.max_files)),
    ] {
        if let Some(n) = figure {
            one(page, metric, n);
        }
    }
    let started = details.started_at.duration_since(SystemTime::UNIX_EPOCH);
    let started = started.unwrap_or(Duration::ZERO).as_secs_f64();
    one(page, &names::STARTED, started);
}

/// A metric without labels.
fn one(page: &mut Exposition, metric: &Metric, value: impl Into<lipsync_telemetry::Value>) {
    debug_assert!(metric.labels.is_empty() && metric.kind != Kind::Histogram);
    page.family(metric).sample(&[], value);
}
