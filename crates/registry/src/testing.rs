//! Models on a temporary disk, for tests. Their networks are those of [`lipsync_testing`].

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use image::{Rgb, RgbImage};
use lipsync_core::ModelId;
use lipsync_testing::FileLoader;
pub(crate) use lipsync_testing::WEIGHTS;

use crate::{
    EvictionPolicy, ModelConfig, ModelSource, PrecisionChoice, Registry, RegistryConfig, manifest,
};

/// Side of the tests' background frames, px.
pub(crate) const SIDE: u32 = 8;

pub(crate) fn id(text: &str) -> ModelId {
    ModelId::new(text).expect("a valid id")
}

/// A temporary folder of models.
pub(crate) struct Disk {
    pub root: tempfile::TempDir,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            root: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, contents).expect("written");
    }

    /// A fake ONNX file of [`WEIGHTS`] bytes; the words tell [`FileLoader`] what to make of it.
    pub(crate) fn network(&self, relative: &str, words: &str) {
        let width = usize::try_from(WEIGHTS).expect("small");
        self.write(relative, format!("{words:width$}"));
    }

    pub(crate) fn frame(&self, relative: &str, index: u32, (width, height): (u32, u32)) {
        self.write(relative, b"");
        RgbImage::from_pixel(width, height, colour(index))
            .save(self.path(relative))
            .expect("a PNG");
    }

    pub(crate) fn frames(&self, folder: &str, n_frames: u32) {
        for index in 0..n_frames {
            let path = format!("{folder}/frame_{index:04}.png");
            self.frame(&path, index, (SIDE, SIDE));
        }
    }

    /// As many equal rectangles as frames, in the array form.
    pub(crate) fn rectangles(&self, relative: &str, n_frames: u32) {
        let rectangles = vec!["[1,1,7,7]"; n_frames as usize].join(",");
        self.write(relative, format!("[{rectangles}]"));
    }

    /// A model with a manifest; `words` are for its generator.
    pub(crate) fn avatar(&self, name: &str, n_frames: u32, words: &str) -> ModelConfig {
        self.write(
            &format!("{name}/{}", manifest::FILE_NAME),
            "audio_kind: ave\ngenerator: g.onnx\nframes: frames\ncrop_rectangles: rects.json\n",
        );
        self.network(&format!("{name}/g.onnx"), words);
        self.frames(&format!("{name}/frames"), n_frames);
        self.rectangles(&format!("{name}/rects.json"), n_frames);
        folder(name, self.path(name))
    }
}

/// As many equal rectangles as frames, in the object form.
pub(crate) fn rects_of(n_frames: u32, rect: [i32; 4]) -> String {
    let entries: Vec<String> = (0..n_frames)
        .map(|n| format!("\"{n}\": {{\"rect\": {rect:?}}}"))
        .collect();
    format!("{{{}}}", entries.join(", "))
}

/// The colour of a frame tells its index.
pub(crate) fn colour(index: u32) -> Rgb<u8> {
    let [low, high, ..] = index.to_le_bytes();
    Rgb([low, high, 77])
}

pub(crate) fn folder(name: &str, path: impl AsRef<Path>) -> ModelConfig {
    ModelConfig {
        id: id(name),
        source: ModelSource::Folder(path.as_ref().to_owned()),
        audio_kind: None,
        fps: None,
        audio_encoder: None,
        precision: None,
        preload: false,
        follow_links: false,
    }
}

/// One cached frame per model, no limits, no baking.
pub(crate) fn settings(models: Vec<ModelConfig>) -> RegistryConfig {
    RegistryConfig {
        models,
        max_models: usize::MAX,
        max_bytes: u64::MAX,
        eviction: EvictionPolicy::Lru,
        max_frame_bytes: u64::MAX,
        idle_timeout: Some(Duration::from_secs(60)),
        frames_idle: Duration::from_secs(60),
        precision: PrecisionChoice::Auto,
        background_cache_frames: 1,
        decoded_frames: 1,
        preload_frames: 0,
        jpeg_quality: 85,
        cache_dir: None,
        bake: false,
        max_frames: 10_000,
        max_pack_bytes: u64::MAX,
    }
}

pub(crate) fn registry(config: RegistryConfig) -> (Registry, Arc<FileLoader>) {
    let loader = Arc::new(FileLoader::default());
    (Registry::new(config, Arc::clone(&loader) as _), loader)
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}
