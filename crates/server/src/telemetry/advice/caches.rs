//! Caches that are too small for what is shown.

use super::{
    evidence::{Evidence, ModelNow, percent},
    words::{Advice, MIB, MIN_FRAMES, Setting, TENTH_GIB, counted, round_mib},
};

/// A cache that hits at least so often is large enough.
const GOOD_HITS_PERCENT: u64 = 90;

/// The visual cache drops entries that are asked for again.
pub(super) fn visual_cache(e: &Evidence<'_>) -> Option<Advice> {
    let requests = e.of_models(|model| model.visual_requests);
    let hits = percent(e.of_models(|model| model.visual_hits), requests);
    let is_too_small = requests >= MIN_FRAMES
        && hits < GOOD_HITS_PERCENT
        && e.rise(|totals| totals.visual_evictions) > 0;
    let (n_devices, from) = (e.state.n_devices.max(1), e.state.keys.visual_cache_bytes);
    if !is_too_small || from == 0 {
        return None;
    }
    let busy = e.busy(|model| model.visual_requests);
    let needed: u64 = busy.iter().map(|m| m.entry_bytes * m.n_frames).sum();
    // Some room for what models leave behind that are used now and then.
    let needed = needed / n_devices / 100 * 105;
    let to = round_mib(needed.min(from + e.spare_bytes(true)) / MIB);
    let from = from / MIB;
    (to * 5 >= from * 6).then(|| Advice {
        key: "engine.visual_cache_mb",
        from: Setting::Number(from),
        to: Setting::Number(to),
        cause: format!(
            "visual cache hit rate {hits} % with {}",
            counted(busy.len() as u64, "busy model", "busy models")
        ),
    })
}

/// Background frames of all models are at their common bound.
pub(super) fn host_frames(e: &Evidence<'_>) -> Option<Advice> {
    let (hits, busy) = background_misses(e)?;
    let from = e.state.keys.max_host_bytes;
    if percent(e.state.frame_bytes, from) < 90 {
        return None;
    }
    let needed: u64 = busy.iter().map(|m| m.frame_bytes * m.n_frames).sum();
    let needed = (needed / 100 * 110).min(from.saturating_add(e.spare_bytes(false)));
    let (from, to) = (from / TENTH_GIB, needed.div_ceil(TENTH_GIB));
    (to * 5 >= from * 6).then(|| Advice {
        key: "capacity.max_host_memory_gb",
        from: Setting::Tenths(from),
        to: Setting::Tenths(to),
        cause: format!(
            "background frames fill their memory, and {hits} % of those needed were in it, with {}",
            counted(busy.len() as u64, "busy model", "busy models")
        ),
    })
}

/// One model's background frames are at the model's own bound.
pub(super) fn background_frames(e: &Evidence<'_>) -> Option<Advice> {
    let (hits, busy) = background_misses(e)?;
    if percent(e.state.frame_bytes, e.state.keys.max_host_bytes) >= 90 {
        return None;
    }
    let worst = busy.iter().max_by_key(|model| model.n_frames)?;
    let from = e.state.keys.background_cache_frames;
    let to = worst.n_frames;
    let more: u64 = to.saturating_sub(from) * worst.frame_bytes;
    (to * 5 >= from * 6 && more <= e.spare_bytes(false)).then(|| Advice {
        key: "capacity.background_cache_frames",
        from: Setting::Number(from),
        to: Setting::Number(to),
        cause: format!(
            "{hits} % of the background frames of {} that were needed were in memory",
            worst.id
        ),
    })
}

/// Models in memory that often miss their background frames, and how often they hit, percent.
fn background_misses<'a>(e: &Evidence<'a>) -> Option<(u64, Vec<&'a ModelNow>)> {
    let hits_of = |id: &str| {
        let requests = e.of_model(id, |model| model.requests);
        let hits = percent(e.of_model(id, |model| model.hits), requests);
        (requests >= MIN_FRAMES && hits < GOOD_HITS_PERCENT).then_some(hits)
    };
    let busy = e.busy(|model| model.requests);
    let worst = busy.iter().filter_map(|model| hits_of(&model.id)).min()?;
    let holds_less =
        |model: &&ModelNow| hits_of(&model.id).is_some() && model.n_frames > model.cache_frames;
    let busy: Vec<_> = busy.into_iter().filter(holds_less).collect();
    (!busy.is_empty()).then_some((worst, busy))
}
