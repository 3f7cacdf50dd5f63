//! Counts and times of a model, in Triton's form.

use std::{collections::HashMap, sync::Arc};

use lipsync::{
    inference::{InferStatistics, MemoryUsage, ModelStatistics, StatisticDuration},
    v1,
};
use lipsync_serving::{
    caller::Caller,
    telemetry::{Book, ModelFigures, Outcome},
};

use super::version::Version;

/// What was counted of a model, over some tenants; times in microseconds.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sums {
    pub(crate) calls: u64,
    pub(crate) frames: u64,
    failed: StatisticDuration,
    pub(crate) total_us: u64,
    pub(crate) queue_us: u64,
    pub(crate) prepare_us: u64,
    pub(crate) infer_us: u64,
    pub(crate) composite_us: u64,
}

/// Figures of a pair of a model and a tenant.
pub(crate) type Row = ([Box<str>; 2], Arc<ModelFigures>);

/// Those that a caller may know of.
pub(super) fn rows_for(book: &Book, caller: &Caller) -> Vec<Row> {
    let mut rows = book.models();
    rows.retain(|([_, tenant], _)| caller.rights.is_admin || **tenant == *caller.tenant.as_str());
    rows
}

/// The sums of each model.
pub(crate) fn sums_by_model<'a>(rows: impl Iterator<Item = &'a Row>) -> HashMap<&'a str, Sums> {
    let mut sums = HashMap::<&str, Sums>::new();
    for ([model, _tenant], figures) in rows {
        sums.entry(model).or_default().add(figures);
    }
    sums
}

impl Sums {
    fn add(&mut self, figures: &Arc<ModelFigures>) {
        let answered = &figures.answered;
        self.calls += answered.calls.get();
        self.frames += answered.frames.get();
        self.total_us += answered.total_us.get();
        self.queue_us += answered.queue_us.get();
        self.prepare_us += answered.prepare_us.get();
        self.infer_us += answered.infer_us.get();
        self.composite_us += answered.composite_us.get();
        for (outcome, times) in figures.requests() {
            if outcome != Outcome::Ok {
                self.failed.count += times.count();
                self.failed.ns += nanoseconds(times.sum);
            }
        }
    }

    /// A time that all answered calls have.
    fn of_calls(&self, us: u64) -> Option<StatisticDuration> {
        Some(StatisticDuration {
            count: self.calls,
            ns: nanoseconds(us),
        })
    }
}

fn nanoseconds(us: u64) -> u64 {
    us.saturating_mul(1000)
}

/// Of one model, under the name of a version: both versions are the same model, so each has the figures of both.
pub(super) fn of(
    model: &v1::ModelStats,
    version: Version,
    sums: &HashMap<&str, Sums>,
) -> ModelStatistics {
    let sums = sums
        .get(model.model_id.as_str())
        .copied()
        .unwrap_or_default();
    ModelStatistics {
        name: model.model_id.clone(),
        version: version.as_str().into(),
        last_inference: model.last_used_unix_ms,
        inference_count: sums.frames,
        execution_count: sums.calls,
        inference_stats: Some(InferStatistics {
            success: sums.of_calls(sums.total_us),
            fail: Some(sums.failed),
            queue: sums.of_calls(sums.queue_us),
            compute_input: sums.of_calls(sums.prepare_us),
            compute_infer: sums.of_calls(sums.infer_us),
            compute_output: sums.of_calls(sums.composite_us),
            ..InferStatistics::default()
        }),
        memory_usage: memory(model),
    }
}

fn memory(model: &v1::ModelStats) -> Vec<MemoryUsage> {
    let parts = [
        ("WEIGHTS", model.weights_bytes),
        ("CACHE", model.cache_bytes),
    ];
    let usage = parts.into_iter().filter(|(_, byte_size)| *byte_size > 0);
    let usage = usage.map(|(kind, byte_size)| MemoryUsage {
        r#type: kind.into(),
        id: 0,
        byte_size,
    });
    usage.collect()
}
