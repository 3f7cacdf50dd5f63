//! A generator on the CPU.

use std::sync::Arc;

use lipsync_core::FaceGeometry;

use super::{
    arena::Kept,
    network::Network,
    plan::{
        Frame,
        ends::{Drain, Feed},
        visual::Visual,
    },
};
use crate::{
    EngineError, FaceInput, Generator, LoadOptions, OutputRange, VisualCacheStats, Workspace,
    contract::{check_length, cut_sigmoid, fit_generator, is_visual, keep_face},
    graph::{Graph, Shape},
    visual_cache::{Found, Shelf},
};

/// What an allocation takes more than its elements so that they start at a cache line.
const ALIGNMENT_BYTES: u64 = 64;

/// A network, and where its ends are.
pub(crate) struct CpuGenerator {
    network: Network,
    /// Where results of background frames are kept, if they are.
    shelf: Option<Shelf>,
    geometry: FaceGeometry,
    visual_index: usize,
    ends_in_sigmoid: bool,
}

impl CpuGenerator {
    /// Loads a generator.
    ///
    /// Not generic, so that the kernels are compiled in this crate, as optimised as its profile says, and
    /// not once more in whichever crate calls [`load_generator`](crate::load_generator).
    pub fn load(onnx: &[u8], options: &LoadOptions) -> Result<Self, EngineError> {
        let mut ends_in_sigmoid = false;
        let cut = |graph: &mut Graph| {
            keep_face(graph);
            ends_in_sigmoid = cut_sigmoid(graph);
            let mut shapes = graph.inputs.iter().map(|&id| graph.shapes[id]);
            shapes.position(is_visual)
        };
        let network = Network::load_with(onnx, options, cut)?;
        let (geometry, visual_index) = fit_generator(
            network.ends(),
            &network.input_shapes(),
            &network.output_shapes(),
        )?;
        let kept_bytes = network.kept_bytes();
        let cache = options.visual_cache.clone().filter(|_| kept_bytes > 0);
        Ok(Self {
            shelf: cache.map(|cache| Shelf::new(cache, kept_bytes + ALIGNMENT_BYTES)),
            network,
            geometry,
            visual_index,
            ends_in_sigmoid,
        })
    }

    /// Its network, with its ends cut to fit.
    pub fn into_network(self) -> Network {
        self.network
    }
}

impl Generator for CpuGenerator {
    fn geometry(&self) -> FaceGeometry {
        self.geometry
    }

    fn audio_shape(&self) -> [usize; 3] {
        let Shape { c, h, w } = self.audio();
        [c, h, w]
    }

    fn weights_bytes(&self) -> u64 {
        self.network.weights_bytes()
    }

    fn macs(&self) -> u64 {
        self.network.macs()
    }

    fn workspace_bytes(&self) -> u64 {
        self.network.workspace_bytes()
    }

    fn infer(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        self.infer_while(workspace, frames, faces, &|| true)
    }

    fn infer_while(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        faces.clear();
        let audio = self.audio();
        for frame in frames {
            if !faces.is_empty() && !is_wanted() {
                break;
            }
            check_length("crop", self.geometry.crop_bytes(), frame.crop.len())?;
            check_length("audio", audio.len(), frame.audio.len())?;
            faces.push(self.infer_one(workspace, frame));
        }
        Ok(())
    }

    fn prepare(
        &self,
        workspace: &mut Workspace,
        frame: u32,
        crop: &dyn Fn() -> Option<Arc<[u8]>>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        let Some(shelf) = &self.shelf else {
            return Ok(());
        };
        let Some(claim) = shelf.claim(frame) else {
            return Ok(());
        };
        let Some(crop) = crop() else { return Ok(()) };
        check_length("crop", self.geometry.crop_bytes(), crop.len())?;
        let silence = vec![0.0; self.audio().len()];
        let mut kept = Kept::default();
        let feeds = self.feeds(&crop, &silence);
        if self.network.prepare(workspace, &feeds, &mut kept, stop) {
            shelf.count_prepared();
            claim.fill(Arc::new(kept));
        }
        Ok(())
    }

    fn output_range(
        &self,
        workspace: &mut Workspace,
        crop: &dyn Fn() -> Option<Arc<[u8]>>,
    ) -> Result<Option<OutputRange>, EngineError> {
        if self.ends_in_sigmoid {
            return Ok(None);
        }
        let Some(crop) = crop() else { return Ok(None) };
        check_length("crop", self.geometry.crop_bytes(), crop.len())?;
        let silence = vec![0.0; self.audio().len()];
        let mut numbers = vec![0.0; self.geometry.region_bytes()];
        let frame = Frame {
            feeds: &self.feeds(&crop, &silence),
            drains: &mut [Drain::Nchw(&mut numbers)],
            visual: Visual::Compute,
        };
        self.network.run_frame(workspace, frame);
        Ok(Some(range_of(&numbers)))
    }

    fn visual_cache(&self) -> Option<VisualCacheStats> {
        self.shelf.as_ref().map(Shelf::stats)
    }
}

/// Half a byte: as much as rounding explains.
const ROUNDING: f32 = 0.5 / 255.0;

#[expect(
    clippy::cast_precision_loss,
    reason = "a share, of fewer than 2^24 numbers"
)]
fn range_of(numbers: &[f32]) -> OutputRange {
    let is_outside = |x: &&f32| !(-ROUNDING..=1.0 + ROUNDING).contains(*x);
    let n_outside = numbers.iter().filter(is_outside).count();
    OutputRange {
        min: numbers.iter().copied().fold(f32::INFINITY, f32::min),
        max: numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        outside: n_outside as f32 / numbers.len().max(1) as f32,
    }
}

impl CpuGenerator {
    fn infer_one(&self, workspace: &mut Workspace, frame: &FaceInput<'_>) -> Vec<u8> {
        let feeds = self.feeds(frame.crop, frame.audio);
        let mut face = vec![0; self.geometry.region_bytes()];
        let mut run = |visual: Visual<'_>| {
            let drain = Drain::Face {
                bytes: &mut face,
                sigmoid: self.ends_in_sigmoid,
            };
            let frame = Frame {
                feeds: &feeds,
                drains: &mut [drain],
                visual,
            };
            self.network.run_frame(workspace, frame);
        };
        let found = match (frame.frame, &self.shelf) {
            (Some(index), Some(shelf)) => shelf.look_up::<Kept>(index),
            _ => Found::NoRoom,
        };
        match found {
            Found::Kept(kept) => run(Visual::Reuse(&kept)),
            Found::Absent(claim) => {
                let mut kept = Kept::default();
                run(Visual::Keep(&mut kept));
                claim.fill(Arc::new(kept));
            }
            Found::NoRoom => run(Visual::Compute),
        }
        face
    }

    /// The inputs of a frame, in the network's order.
    fn feeds<'a>(&'a self, crop: &'a [u8], audio: &'a [f32]) -> [Feed<'a>; 2] {
        let geometry = &self.geometry;
        let face = Feed::Face { crop, geometry };
        let audio = Feed::Nchw(audio);
        if self.visual_index == 0 {
            [face, audio]
        } else {
            [audio, face]
        }
    }

    fn audio(&self) -> Shape {
        self.network.input_shapes()[1 - self.visual_index]
    }
}
