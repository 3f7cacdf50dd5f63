//! A network, and frames to run.

use std::{fs, sync::Arc};

use lipsync_core::SplitMix64;
use lipsync_engine::{
    CpuIsa, EngineError, FaceInput, Generator, LoadOptions, VisualCache, Workspace,
    cuda::{Blocks, Cuda, Footprint},
    load_generator,
    network_writer::variants::write_variant,
};

/// Background frames of the made-up avatar.
const N_CROPS: usize = 8;
/// Bytes for what depends on a background frame alone.
const CACHE_BYTES: u64 = 1 << 30;

/// A network, and frames to run.
#[derive(Clone)]
pub struct Subject {
    pub onnx: Vec<u8>,
    pub blocks: Blocks,
    pub footprint: Footprint,
    crops: Vec<Vec<u8>>,
    audio: Vec<Vec<f32>>,
}

impl Subject {
    pub fn read(name: &str, blocks: Blocks) -> Result<Self, String> {
        let onnx = read_network(name)?;
        let cpu =
            load_generator(&onnx, CpuIsa::Auto).map_err(|error| format!("{name}: {error}"))?;
        let geometry = cpu.geometry();
        let window = cpu.audio_shape().iter().product();
        let crop = |n: usize| smooth_crop(geometry.crop_px, n);
        Ok(Self {
            crops: (0..N_CROPS).map(crop).collect(),
            audio: (0..N_CROPS as u64)
                .map(|seed| SplitMix64::new(seed).floats(window, -1.0, 1.0))
                .collect(),
            footprint: Footprint::with_blocks(&onnx, blocks)
                .map_err(|error| format!("{name}: {error}"))?,
            onnx,
            blocks,
        })
    }

    /// The same with its blocks run otherwise.
    pub fn with(&self, blocks: Blocks) -> Result<Self, EngineError> {
        Ok(Self {
            blocks,
            footprint: Footprint::with_blocks(&self.onnx, blocks)?,
            ..self.clone()
        })
    }

    /// The largest batch, up to `batch`, that so many streams at once have memory for on this device.
    pub fn largest_batch(
        &self,
        cuda: &Cuda,
        batch: usize,
        n_streams: usize,
    ) -> Result<usize, EngineError> {
        let (free, _) = cuda.memory()?;
        // Two generators at most, what they keep, and a tenth for the driver's own needs.
        let kept = self.footprint.visual_cache_bytes_per_frame * N_CROPS as u64;
        let taken = 2 * (self.footprint.weights_bytes + kept) + free / 10;
        let room = free.saturating_sub(taken) / n_streams as u64;
        Ok(batch.min(self.footprint.largest_batch(batch, room)))
    }

    fn frame(&self, n: usize) -> FaceInput<'_> {
        FaceInput {
            crop: &self.crops[n % N_CROPS],
            frame: u32::try_from(n % N_CROPS).ok(),
            audio: &self.audio[n / 3 % N_CROPS],
        }
    }

    pub fn frames(&self, n: usize) -> Vec<FaceInput<'_>> {
        (0..n).map(|n| self.frame(n)).collect()
    }

    /// The network on a device; `keeps` what depends on background frames alone, or computes it each time.
    pub fn load(&self, cuda: &Arc<Cuda>, keeps: bool) -> Result<Arc<dyn Generator>, EngineError> {
        let cache = keeps.then(|| Arc::new(VisualCache::new(CACHE_BYTES)));
        let options = LoadOptions {
            device: Some(Arc::clone(cuda)),
            visual_cache: cache,
            blocks: self.blocks,
            ..LoadOptions::default()
        };
        load_generator(&self.onnx, options)
    }
}

/// Runs batches, each started behind the one before, as a server's workers do; `faces` gets those of all.
pub fn run_ahead<'a>(
    generator: &dyn Generator,
    workspace: &mut Workspace,
    batches: impl Iterator<Item = &'a [FaceInput<'a>]>,
    faces: &mut Vec<Vec<u8>>,
) -> Result<(), EngineError> {
    let mut before = None;
    let mut of_one = vec![];
    for frames in batches {
        let next = generator.begin(workspace, frames)?;
        if let Some(ticket) = before {
            generator.finish(workspace, ticket, &mut of_one)?;
            faces.append(&mut of_one);
        }
        if next.is_none() {
            generator.infer(workspace, frames, &mut of_one)?;
            faces.append(&mut of_one);
        }
        before = next;
    }
    if let Some(ticket) = before {
        generator.finish(workspace, ticket, &mut of_one)?;
        faces.append(&mut of_one);
    }
    Ok(())
}

/// The file of a network, or one that is written for the name.
pub fn read_network(name: &str) -> Result<Vec<u8>, String> {
    match write_variant(name) {
        Some(onnx) => Ok(onnx),
        None => fs::read(name).map_err(|error| format!("{name}: {error}")),
    }
}

/// A picture with slopes and edges, and no noise.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "values lie between 20 and 236"
)]
fn smooth_crop(side: usize, n: usize) -> Vec<u8> {
    let value = |i: usize| {
        let (x, y) = ((i / 3 % side) as f32, (i / 3 / side) as f32);
        let wave = ((x + 7.0 * n as f32) / 17.0).sin() + (y / 23.0 + (i % 3) as f32).cos();
        (128.0 + 54.0 * wave) as u8
    };
    (0..side * side * 3).map(value).collect()
}
