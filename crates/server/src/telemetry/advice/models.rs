//! Models: how many, and how they are run.

use super::{
    evidence::{Evidence, ModelNow},
    words::{Advice, MIN_FRAMES, Setting, TENTH_GIB, counted},
};

/// Evictions for want of room that are too many in ten minutes.
const MANY_EVICTIONS: u64 = 6;

/// Models are dropped that are asked for again.
pub(super) fn thrash(e: &Evidence<'_>) -> Option<Advice> {
    let evictions = e.of_models(|model| model.evictions);
    if evictions < MANY_EVICTIONS {
        return None;
    }
    let is_used = |m: &&ModelNow| e.of_model(&m.id, |model| model.uses) > 0;
    let used: Vec<_> = e.state.models.iter().filter(is_used).collect();
    let n_used = used.len() as u64;
    let known = used.iter().filter(|model| model.weight_bytes > 0);
    let (sum, n_known) = known.fold((0, 0), |(sum, n), m| (sum + m.weight_bytes, n + 1));
    let mean: u64 = sum.checked_div(n_known)?;
    let cause = format!(
        "{} for want of room while {} were in use",
        counted(evictions, "model was dropped", "models were dropped"),
        n_used
    );
    let (keys, n_ready) = (
        &e.state.keys,
        e.state.models.iter().filter(|m| m.is_ready).count() as u64,
    );
    // Those that are out of memory now need what those in it take.
    let more = mean * n_used.saturating_sub(n_ready);
    if n_used <= n_ready || more > e.spare_bytes(true) {
        return None;
    }
    if n_ready >= keys.max_models {
        return Some(Advice {
            key: "capacity.max_models",
            from: Setting::Number(keys.max_models),
            to: Setting::Number(n_used),
            cause,
        });
    }
    let from = keys.max_model_bytes / TENTH_GIB;
    let needed = mean * n_used / 100 * 110 / e.state.n_devices.max(1);
    let to = needed.div_ceil(TENTH_GIB);
    (to > from).then_some(Advice {
        key: "capacity.max_memory_gb",
        from: Setting::Tenths(from),
        to: Setting::Tenths(to),
        cause,
    })
}

/// Frames are coded as a whole, because there is no pack and none will be made.
pub(super) fn bake(e: &Evidence<'_>) -> Option<Advice> {
    if e.state.keys.bake {
        return None;
    }
    let busy = e.busy(|model| model.frames);
    let busy = busy.into_iter().filter(|m| !m.has_pack);
    let (frames, slow) = busy
        .map(|m| (e.of_model(&m.id, |model| model.frames), m))
        .max_by_key(|(frames, _)| *frames)?;
    (frames >= MIN_FRAMES).then(|| Advice {
        key: "capacity.bake",
        from: Setting::Word("off"),
        to: Setting::Word("auto"),
        cause: format!(
            "{} has no pack, so {frames} frames were coded as a whole",
            slow.id
        ),
    })
}

/// Workers are busy with f32 although this CPU has something faster.
pub(super) fn precision(e: &Evidence<'_>) -> Option<Advice> {
    let busy_percent = e.busy_percent();
    let busy = e.busy(|model| model.frames).into_iter();
    let slow = busy.filter_map(|m| {
        let frames = e.of_model(&m.id, |model| model.frames);
        Some((frames, m.faster?, m))
    });
    let (frames, faster, slow) = slow.max_by_key(|(frames, ..)| *frames)?;
    (busy_percent >= 70 && frames >= MIN_FRAMES).then(|| Advice {
        key: "engine.precision",
        from: Setting::Word("auto"),
        to: Setting::Word(faster),
        cause: format!(
            "workers are {busy_percent} % busy, and {} runs in f32, though this CPU is faster with {faster}; \
             `lipsync-server compare-precision` says whether its frames stay as good, and auto takes {faster} then",
            slow.id
        ),
    })
}
