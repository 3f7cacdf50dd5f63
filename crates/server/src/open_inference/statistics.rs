//! Counts and times of a model, in Triton's form.

use lipsync::{
    inference::{InferStatistics, MemoryUsage, ModelStatistics, StatisticDuration},
    v1,
};

use super::version::Version;

/// Of one model.
pub(super) fn of(model: &v1::ModelStats) -> ModelStatistics {
    let infer = StatisticDuration {
        count: model.usage_count,
        ns: model.total_inference_us.saturating_mul(1000),
    };
    ModelStatistics {
        name: model.model_id.clone(),
        version: Version::default().as_str().into(),
        last_inference: model.last_used_unix_ms,
        inference_count: model.frames,
        execution_count: model.usage_count,
        inference_stats: Some(InferStatistics {
            success: Some(infer),
            compute_infer: Some(infer),
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
