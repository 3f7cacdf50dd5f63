//! Memory that is almost full, and what holds it.

use super::{
    evidence::{Evidence, percent},
    words::{Advice, MIB, Setting, TENTH_GIB, counted},
};

/// More than this is too much.
const FULL_PERCENT: u64 = 90;
/// What takes less than this part of the memory is not to blame.
const SHARE_PERCENT: u64 = 10;
/// A model that nobody has used for this long can go.
const IDLE_S: u64 = 3600;

/// Whether memory is short, and this many bytes of it are a large part.
fn is_to_blame(e: &Evidence<'_>, n_bytes: u64) -> bool {
    let total = e.state.memory.map_or(0, |memory| memory.total);
    e.memory_percent() >= FULL_PERCENT && percent(n_bytes, total) >= SHARE_PERCENT
}

/// The visual cache takes what others need.
pub(super) fn visual_cache(e: &Evidence<'_>) -> Option<Advice> {
    let held = e.state.visual_bytes;
    if e.state.is_gpu || !is_to_blame(e, held) || held < e.state.frame_bytes {
        return None;
    }
    let (from, to) = (e.state.keys.visual_cache_bytes / MIB, held / 4 * 3 / MIB);
    Some(Advice {
        key: "engine.visual_cache_mb",
        from: Setting::Number(from),
        to: Setting::Number(to / 10 * 10),
        cause: format!(
            "{} % of the memory is in use, and the visual cache holds {} MiB of it",
            e.memory_percent(),
            held / MIB
        ),
    })
}

/// Background frames take what others need.
pub(super) fn host_frames(e: &Evidence<'_>) -> Option<Advice> {
    let held = e.state.frame_bytes;
    let of_visual = if e.state.is_gpu {
        0
    } else {
        e.state.visual_bytes
    };
    if !is_to_blame(e, held) || held <= of_visual {
        return None;
    }
    Some(Advice {
        key: "capacity.max_host_memory_gb",
        from: Setting::Tenths(e.state.keys.max_host_bytes / TENTH_GIB),
        to: Setting::Tenths((held / 4 * 3 / TENTH_GIB).max(1)),
        cause: format!(
            "{} % of the memory is in use, and background frames hold {} MiB of it",
            e.memory_percent(),
            held / MIB
        ),
    })
}

/// Models that nobody uses stay in memory, while others are dropped or memory is short.
pub(super) fn idle_models(e: &Evidence<'_>) -> Option<Advice> {
    let is_short = e.memory_percent() >= FULL_PERCENT || e.of_models(|model| model.evictions) >= 6;
    let idle = e.state.models.iter();
    let n_idle = idle.filter(|m| m.is_ready && m.idle_s >= IDLE_S).count() as u64;
    (is_short && n_idle > 0 && !e.state.keys.has_idle_timeout).then(|| Advice {
        key: "capacity.idle_timeout_minutes",
        from: Setting::Number(0),
        to: Setting::Number(IDLE_S / 60),
        cause: format!(
            "memory is short, and nobody has used {} for an hour",
            counted(n_idle, "model in it", "models in it")
        ),
    })
}
