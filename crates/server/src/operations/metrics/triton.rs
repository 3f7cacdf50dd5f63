//! Figures under the names that Triton gives them, for its dashboards and its tools.
//!
//! They are the numbers of `ModelStatistics`, and those of the GPUs once more. Both versions of a model are the same one:
//! it counts as version 1, so that a sum over versions is right.

use std::collections::BTreeMap;

use lipsync_serving::telemetry::Outcome;
use lipsync_telemetry::{Exposition, Metric, OTHER};

use super::names;
use crate::{
    gpus::GpuStatus,
    open_inference::{Sums, sums_by_model},
    telemetry::{Details, Snapshot},
};

const VERSION: &str = "1";

/// All of them.
pub(super) fn write(page: &mut Exposition, snapshot: &Snapshot, details: &Details) {
    let mut sums = sums_by_model(details.by_model.iter());
    // Calls of models that there are not: Triton does not count those.
    sums.remove(OTHER);
    let sums: BTreeMap<&str, Sums> = sums.into_iter().collect();
    let mut each = |metric: &Metric, figure: fn(&Sums) -> u64| {
        let mut family = page.family(metric);
        for (model, sums) in &sums {
            family.sample(&[model, VERSION], figure(sums));
        }
    };
    each(&names::TRITON_SUCCESS, |s| s.calls);
    each(&names::TRITON_COUNT, |s| s.frames);
    each(&names::TRITON_EXECUTIONS, |s| s.calls);
    each(&names::TRITON_REQUEST_TIME, |s| s.total_us);
    each(&names::TRITON_QUEUE_TIME, |s| s.queue_us);
    each(&names::TRITON_INPUT_TIME, |s| s.prepare_us);
    each(&names::TRITON_INFER_TIME, |s| s.infer_us);
    each(&names::TRITON_OUTPUT_TIME, |s| s.composite_us);
    failures(page, details);
    gpus(page, snapshot);
}

fn failures(page: &mut Exposition, details: &Details) {
    let mut counts = BTreeMap::<(&str, &str), u64>::new();
    for ([model, _tenant], figures) in &details.by_model {
        if **model == *OTHER {
            continue;
        }
        for (outcome, times) in figures.requests() {
            if let Some(reason) = reason(outcome) {
                *counts.entry((model, reason)).or_default() += times.count();
            }
        }
    }
    let mut family = page.family(&names::TRITON_FAILURE);
    for ((model, reason), n) in counts {
        family.sample(&[model, reason, VERSION], n);
    }
}

/// Triton's word for how a call failed.
fn reason(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Ok => None,
        Outcome::Refused | Outcome::TimedOut => Some("REJECTED"),
        Outcome::Cancelled => Some("CANCELED"),
        Outcome::Failed => Some("BACKEND"),
        Outcome::Invalid => Some("OTHER"),
    }
}

fn gpus(page: &mut Exposition, snapshot: &Snapshot) {
    let watts = |milliwatts: u32| f64::from(milliwatts) / 1e3;
    let mut each = |metric: &Metric, figure: &dyn Fn(&GpuStatus) -> f64| {
        let mut family = page.family(metric);
        for gpu in &snapshot.gpus {
            let known = [gpu.uuid.as_str(), gpu.device.as_str()];
            let name = known.into_iter().find(|name| !name.is_empty());
            family.sample(&[name.unwrap_or_default()], figure(gpu));
        }
    };
    each(&names::TRITON_GPU_BUSY, &|g| {
        f64::from(g.utilization_percent) / 1e2
    });
    each(&names::TRITON_GPU_TOTAL, &|g| g.memory_total_bytes as f64);
    each(&names::TRITON_GPU_MEMORY, &|g| g.memory_used_bytes as f64);
    each(&names::TRITON_GPU_POWER, &|g| watts(g.power_mw));
    each(&names::TRITON_GPU_POWER_LIMIT, &|g| watts(g.power_limit_mw));
}
