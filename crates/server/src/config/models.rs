//! Checks of models and of their budgets.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use lipsync_core::{AudioKind, Foreign, ModelId};
use lipsync_registry::{
    EvictionPolicy, MAX_FPS, ModelConfig, ModelSource, PrecisionChoice, RegistryConfig,
};

use super::{
    BadValue,
    numbers::{gibibytes, in_range, positive, to_usize},
    raw::{RawAudioKind, RawBake, RawCapacity, RawEviction, RawModel, RawPrecision},
};

pub(super) fn validate_cache_dir(
    raw: Option<&str>,
    base: &Path,
) -> Result<Option<PathBuf>, BadValue> {
    let Some(folder) = raw.map(|path| base.join(path)) else {
        return Ok(None);
    };
    if folder.is_dir() {
        return Ok(Some(folder));
    }
    Err(BadValue {
        key: "cache_dir".into(),
        message: format!("{} is not a folder", shown(&folder)),
    })
}

pub(super) fn validate_capacity(
    raw: &RawCapacity,
    models: Vec<ModelConfig>,
) -> Result<RegistryConfig, BadValue> {
    let max_models = in_range(
        "capacity.max_models",
        raw.max_models.unwrap_or(100).into(),
        1..=1_000_000,
    )?;
    let cache = raw.background_cache_frames.unwrap_or(50);
    let cache = in_range(
        "capacity.background_cache_frames",
        cache.into(),
        1..=1_000_000,
    )?;
    let preload = raw.preload_frames.unwrap_or(8);
    let preload = in_range("capacity.preload_frames", preload.into(), 0..=cache)?;
    let decoded = in_range(
        "capacity.decoded_frames",
        raw.decoded_frames.unwrap_or(8).into(),
        1..=1_000_000,
    )?;
    let frames_idle = in_range(
        "capacity.frames_idle_s",
        raw.frames_idle_s.unwrap_or(60),
        1..=86_400,
    )?;
    let idle = raw.idle_timeout_minutes.unwrap_or(0.0);
    let idle_timeout = if idle == 0.0 {
        None
    } else {
        let minutes = positive("capacity.idle_timeout_minutes", idle, 1e6)?;
        Some(Duration::from_secs_f64(minutes * 60.0))
    };
    Ok(RegistryConfig {
        models,
        max_models: to_usize(max_models),
        max_bytes: gibibytes("capacity.max_memory_gb", raw.max_memory_gb, 8.0)?,
        max_frame_bytes: gibibytes("capacity.max_host_memory_gb", raw.max_host_memory_gb, 1.5)?,
        eviction: match raw.eviction_policy.unwrap_or(RawEviction::Lru) {
            RawEviction::Lru => EvictionPolicy::Lru,
            RawEviction::Lfu => EvictionPolicy::Lfu,
        },
        idle_timeout,
        frames_idle: Duration::from_secs(frames_idle),
        background_cache_frames: to_usize(cache),
        decoded_frames: to_usize(decoded),
        preload_frames: to_usize(preload),
        max_frames: to_usize(in_range(
            "capacity.max_frames",
            raw.max_frames.unwrap_or(10_000).into(),
            1..=100_000,
        )?),
        max_pack_bytes: gibibytes("capacity.max_pack_gb", raw.max_pack_gb, 8.0)?,
        bake: matches!(raw.bake.unwrap_or(RawBake::Auto), RawBake::Auto),
        // Not of this section: filled in by the caller.
        precision: PrecisionChoice::Auto,
        jpeg_quality: 0,
        cache_dir: None,
    })
}

pub(super) fn validate_model(
    id: &str,
    raw: RawModel,
    (root, missing): (&Path, &mut Vec<BadValue>),
) -> Result<ModelConfig, BadValue> {
    let key = format!("models.{id}");
    let bad = |key: String, message: String| BadValue { key, message };
    let model_id = ModelId::new(id).map_err(|e| bad(key.clone(), e.to_string()))?;
    let mut resolve = |name: &str, path: &str| {
        let path = root.join(path);
        if !path.exists() {
            let message = format!("{} does not exist", shown(&path));
            missing.push(bad(format!("{key}.{name}"), message));
        }
        path
    };
    let source = match (
        raw.path,
        raw.model_path,
        raw.background_dir,
        raw.crop_rects_path,
    ) {
        (Some(path), None, None, None) => ModelSource::Folder(resolve("path", &path)),
        (None, Some(model), Some(backgrounds), Some(rects)) => ModelSource::Parts {
            model_path: resolve("model_path", &model),
            background_dir: resolve("background_dir", &backgrounds),
            crop_rects_path: resolve("crop_rects_path", &rects),
            n_frames: raw.num_frames,
        },
        _ => {
            return Err(bad(
                key,
                "expected either path (an avatar's folder), or all of model_path, background_dir and crop_rects_path".into(),
            ));
        }
    };
    if raw.num_frames.is_some() && matches!(source, ModelSource::Folder(_)) {
        return Err(bad(
            format!("{key}.num_frames"),
            "goes with model_path, not with path".into(),
        ));
    }
    if let Some(fps) = raw.fps {
        in_range(&format!("{key}.fps"), fps.into(), 1..=MAX_FPS.into())?;
    }
    let audio_encoder = raw.audio_encoder_path;
    let audio_encoder = audio_encoder.map(|path| resolve("audio_encoder_path", &path));
    Ok(ModelConfig {
        id: model_id,
        source,
        audio_kind: raw.audio_kind.map(|kind| match kind {
            RawAudioKind::Ave => AudioKind::Ave,
            RawAudioKind::Hubert => AudioKind::Hubert,
            RawAudioKind::Wenet => AudioKind::Wenet,
        }),
        fps: raw.fps,
        audio_encoder,
        precision: raw.precision.map(precision),
        preload: raw.preload.unwrap_or(false),
        follow_links: raw.follow_links.unwrap_or(false),
    })
}

pub(super) fn precision(raw: RawPrecision) -> PrecisionChoice {
    match raw {
        RawPrecision::Auto => PrecisionChoice::Auto,
        RawPrecision::F32 => PrecisionChoice::F32,
        RawPrecision::Bf16 => PrecisionChoice::Bf16,
    }
}

/// A path, as it goes into a message.
fn shown(path: &Path) -> String {
    Foreign(&path.to_string_lossy()).to_string()
}
