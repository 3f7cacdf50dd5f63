//! The configuration as it is written: every key optional, no unknown ones.
//!
//! Only spelling and types are checked here; meaning is checked in [`super::validated`].

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    #[serde(deserialize_with = "null_as_default")]
    pub(super) server: RawServer,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) operations: RawOperations,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) capacity: RawCapacity,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) engine: RawEngine,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) output: RawOutput,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) session: RawSession,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) logging: RawLogging,
    #[serde(deserialize_with = "text")]
    pub(super) models_root: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(super) cache_dir: Option<String>,
    pub(super) strict: Option<bool>,
    pub(super) follow_links: Option<bool>,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) models: BTreeMap<String, RawModel>,
}

/// A section whose keys are all commented out is written as null.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServer {
    #[serde(deserialize_with = "text")]
    pub(super) port: Option<String>,
    pub(super) max_message_size_mb: Option<u32>,
    pub(super) max_unsent_mb: Option<u32>,
    pub(super) max_upload_mb: Option<u32>,
    pub(super) peer_share_percent: Option<u32>,
    pub(super) worker_count: Option<u32>,
    pub(super) queue_size: Option<u32>,
    pub(super) max_batch_frames: Option<u32>,
    pub(super) request_timeout_ms: Option<u64>,
    pub(super) pre_drain_ms: Option<u64>,
    pub(super) shutdown_grace_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOperations {
    pub(super) enabled: Option<bool>,
    #[serde(deserialize_with = "text")]
    pub(super) port: Option<String>,
    pub(super) allowed_origins: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCapacity {
    pub(super) max_models: Option<u32>,
    pub(super) max_memory_gb: Option<f64>,
    pub(super) max_host_memory_gb: Option<f64>,
    pub(super) eviction_policy: Option<RawEviction>,
    pub(super) idle_timeout_minutes: Option<f64>,
    pub(super) background_cache_frames: Option<u32>,
    pub(super) frames_idle_s: Option<u64>,
    pub(super) decoded_frames: Option<u32>,
    pub(super) bake: Option<RawBake>,
    pub(super) preload_frames: Option<u32>,
    pub(super) max_frames: Option<u32>,
    pub(super) max_pack_gb: Option<f64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawBake {
    Auto,
    Off,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawEviction {
    Lru,
    Lfu,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawEngine {
    #[serde(deserialize_with = "text")]
    pub(super) device: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(super) cpu_isa: Option<String>,
    pub(super) visual_cache_mb: Option<u32>,
    pub(super) precision: Option<RawPrecision>,
    pub(super) max_batch: Option<u32>,
    pub(super) max_batch_wait_ms: Option<u64>,
    pub(super) max_gmac: Option<f64>,
    pub(super) max_arena_mb: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOutput {
    pub(super) format: Option<RawFormat>,
    pub(super) jpeg_quality: Option<u32>,
    pub(super) mark_generated: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawFormat {
    Jpeg,
    Png,
    Rgb,
    I420,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSession {
    pub(super) max_sessions: Option<u32>,
    pub(super) max_buffered_audio_s: Option<u32>,
    pub(super) max_unsent_ms: Option<u32>,
    pub(super) max_message_size_mb: Option<u32>,
    pub(super) idle_timeout_s: Option<u64>,
    pub(super) send_timeout_s: Option<u64>,
    pub(super) lag_timeout_s: Option<u64>,
    pub(super) max_session_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLogging {
    #[serde(deserialize_with = "text")]
    pub(super) level: Option<String>,
    pub(super) format: Option<RawLogFormat>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawLogFormat {
    Text,
    Json,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawModel {
    #[serde(deserialize_with = "text")]
    pub(super) path: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(super) model_path: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(super) background_dir: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(super) crop_rects_path: Option<String>,
    pub(super) num_frames: Option<u32>,
    #[serde(deserialize_with = "text")]
    pub(super) audio_encoder_path: Option<String>,
    pub(super) audio_kind: Option<RawAudioKind>,
    pub(super) fps: Option<u32>,
    pub(super) precision: Option<RawPrecision>,
    pub(super) preload: Option<bool>,
    pub(super) follow_links: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawPrecision {
    Auto,
    F32,
    Bf16,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawAudioKind {
    Ave,
    Hubert,
    Wenet,
}

/// Text, however it looks: `port: 50051`.
fn text<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    struct Text;

    impl de::Visitor<'_> for Text {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }

    input.deserialize_any(Text)
}
