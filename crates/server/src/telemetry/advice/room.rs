//! Workers, queues and places: too few of them, or too many.

use super::{
    evidence::{Evidence, percent},
    words::{Advice, MIB, MIN_REFUSALS, Setting, counted, round_mib},
};

/// Workers that are busier are the bottleneck.
const FULL_PERCENT: u64 = 90;
/// Workers that are less busy have time for more.
const CALM_PERCENT: u64 = 70;
/// More late frames than this are seen.
const LATE_PERCENT: u64 = 5;
/// A longer wait for a worker is felt, ms.
const LONG_WAIT_MS: u64 = 200;

/// Workers of a CPU: more where processors idle, fewer where they share them.
pub(super) fn workers(e: &Evidence<'_>) -> Option<Advice> {
    let (from, n_cpus) = (e.state.keys.n_workers, e.state.n_cpus);
    let (busy, cpu) = (e.busy_percent(), e.cpu_percent());
    let (wait_ms, late) = (e.wait_p95_ms(), e.late_percent());
    let is_felt = wait_ms >= LONG_WAIT_MS || late >= LATE_PERCENT;
    if e.state.is_gpu || !is_felt || busy < FULL_PERCENT {
        return None;
    }
    let idle_cpus = (n_cpus * 100).saturating_sub(cpu) / 100;
    let advice = |to, cause| Advice {
        key: "server.worker_count",
        from: Setting::Number(from),
        to: Setting::Number(to),
        cause,
    };
    let felt = if late >= LATE_PERCENT {
        format!("{late} % of the live frames are late")
    } else {
        format!("jobs wait {wait_ms} ms for a worker")
    };
    if from < n_cpus && idle_cpus > 0 {
        let to = (from + idle_cpus).min(n_cpus);
        let cause = format!(
            "workers are {busy} % busy and {felt}, while {} idle",
            counted(idle_cpus, "processor is", "processors are")
        );
        return Some(advice(to, cause));
    }
    (from > n_cpus && idle_cpus == 0).then(|| {
        let cause = format!(
            "{from} workers share {}, and {felt}",
            counted(n_cpus, "processor", "processors")
        );
        advice(n_cpus, cause)
    })
}

/// A queue that is full although workers have time: requests come in bursts.
pub(super) fn queue(e: &Evidence<'_>) -> Option<Advice> {
    // Workers that were busy when calls were refused could not have served them.
    let of = |e: &Evidence<'_>| e.refused("queue") + e.refused("requests");
    let (refused, busy) = e.refused_below(CALM_PERCENT, of);
    let from = e.state.keys.queue_size;
    (refused >= MIN_REFUSALS && from < 1_000_000).then(|| Advice {
        key: "server.queue_size",
        from: Setting::Number(from),
        to: Setting::Number((from * 2).min(1_000_000)),
        cause: format!(
            "the queue was full for {}, though workers are only {busy} % busy",
            counted(refused, "call", "calls")
        ),
    })
}

/// More sessions than the workers can serve, or fewer than they could.
pub(super) fn sessions(e: &Evidence<'_>) -> Option<Advice> {
    let (from, busy, late) = (
        e.state.keys.max_sessions,
        e.busy_percent(),
        e.late_percent(),
    );
    let advice = |to, cause| Advice {
        key: "session.max_sessions",
        from: Setting::Number(from),
        to: Setting::Number(to),
        cause,
    };
    let open = e.mean_sessions();
    if late >= LATE_PERCENT && busy >= FULL_PERCENT && open >= 2 {
        let to = (open * (100 - late.min(100)) / 100).max(1);
        let cause = format!(
            "{late} % of the frames are late with {open} sessions on average, and workers are {busy} % busy"
        );
        return (to < from).then(|| advice(to, cause));
    }
    let (refused, busy) = e.refused_below(CALM_PERCENT, |e| e.refused("sessions"));
    (refused >= MIN_REFUSALS && late < LATE_PERCENT).then(|| {
        // As many as would make workers busy, but not all at once.
        let full = from * CALM_PERCENT / busy.max(1);
        let to = full.min(from * 3 / 2).max(from + 1);
        let cause = format!(
            "{} refused, though workers are only {busy} % busy and frames are on time",
            counted(refused, "session was", "sessions were")
        );
        advice(to, cause)
    })
}

/// Too little memory for messages on their way in.
pub(super) fn uploads(e: &Evidence<'_>) -> Option<Advice> {
    let from = e.state.keys.max_upload_bytes;
    let refused = e.refused("upload_bytes");
    let what = "messages on their way in";
    memory_of(e, ("server.max_upload_mb", from), (refused, what))
}

/// Too little memory for answers on their way out.
pub(super) fn answers(e: &Evidence<'_>) -> Option<Advice> {
    let from = e.state.keys.max_unsent_bytes;
    let refused = e.refused("unread_bytes");
    memory_of(
        e,
        ("server.max_unsent_mb", from),
        (refused, "unread answers"),
    )
}

fn memory_of(
    e: &Evidence<'_>,
    (key, from): (&'static str, u64),
    (refused, what): (u64, &str),
) -> Option<Advice> {
    let to = from
        .saturating_mul(2)
        .min(from.saturating_add(e.spare_bytes(false)));
    let is_worth = refused >= MIN_REFUSALS && percent(to, from) >= 120;
    is_worth.then(|| Advice {
        key,
        from: Setting::Number(from / MIB),
        to: Setting::Number(round_mib(to / MIB)),
        cause: format!(
            "{} refused because {} MiB of {what} were full",
            counted(refused, "call was", "calls were"),
            from / MIB,
        ),
    })
}
