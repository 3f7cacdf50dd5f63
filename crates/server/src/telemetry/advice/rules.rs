//! All rules.

use super::{caches, evidence::Evidence, memory, models, room, words::Advice};

/// A rule: what the evidence says about one key.
pub(super) type Rule = fn(&Evidence<'_>) -> Option<Advice>;

/// All of them. Of several about one key, the first that says something counts.
pub(super) const RULES: [Rule; 14] = [
    memory::visual_cache,
    memory::host_frames,
    memory::idle_models,
    caches::visual_cache,
    caches::host_frames,
    caches::background_frames,
    models::thrash,
    models::bake,
    models::precision,
    room::workers,
    room::queue,
    room::sessions,
    room::uploads,
    room::answers,
];
