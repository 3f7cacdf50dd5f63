//! What the benchmarks of the registry share: a configuration, and networks of a few bytes, since
//! only frames are measured.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lipsync_core::{FaceGeometry, ModelId};
use lipsync_engine::Generator;
use lipsync_registry::{
    EvictionPolicy, ModelConfig, ModelSource, NetworkLoader, PrecisionChoice, RegistryConfig,
};
use lipsync_testing::{FakeGenerator, LoaderOf};

/// Why a benchmark could not run.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The frames of the demo avatar, in order, and where the face is in each.
pub fn demo_frames() -> Outcome<(Vec<PathBuf>, Vec<[i32; 4]>)> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/avatars/mira");
    let mut frames: Vec<PathBuf> = demo
        .join("frames")
        .read_dir()?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    frames.sort_unstable();
    let rectangles = fs::read_to_string(demo.join("crop_rectangles.json"))?;
    Ok((frames, serde_json::from_str(&rectangles)?))
}

/// Writes what makes a folder with `frames` in it an avatar.
pub fn describe(folder: &Path, rectangles: &[[i32; 4]]) -> Outcome<()> {
    fs::write(folder.join("rects.json"), serde_json::to_vec(rectangles)?)?;
    fs::write(folder.join("g.onnx"), "fake")?;
    fs::write(
        folder.join("avatar.yaml"),
        "audio_kind: ave\ngenerator: g.onnx\nframes: frames\ncrop_rectangles: rects.json\n",
    )?;
    Ok(())
}

/// A model in a folder.
pub fn model(name: &str, folder: PathBuf) -> Outcome<ModelConfig> {
    Ok(ModelConfig {
        id: ModelId::new(name)?,
        source: ModelSource::Folder(folder),
        audio_kind: None,
        fps: None,
        audio_encoder: None,
        precision: None,
        preload: false,
        follow_links: false,
    })
}

/// As in `config.yaml`, with as many models as there are and no baking behind the benchmark's back.
pub fn config(models: Vec<ModelConfig>) -> RegistryConfig {
    RegistryConfig {
        max_models: models.len(),
        models,
        max_bytes: u64::MAX,
        max_frame_bytes: 3 << 29,
        eviction: EvictionPolicy::Lru,
        idle_timeout: None,
        frames_idle: Duration::from_secs(60),
        precision: PrecisionChoice::Auto,
        background_cache_frames: 50,
        decoded_frames: 8,
        preload_frames: 8,
        jpeg_quality: 85,
        cache_dir: None,
        bake: false,
        max_frames: 10_000,
        max_pack_bytes: u64::MAX,
    }
}

/// Makes networks of a few bytes, which do nothing.
pub fn loader() -> Arc<dyn NetworkLoader> {
    Arc::new(LoaderOf::new(|_: &[u8], _, _| {
        let generator = FakeGenerator::new(FaceGeometry::LARGE, |_, _| Ok(()));
        Ok(Arc::new(generator) as Arc<dyn Generator>)
    }))
}
