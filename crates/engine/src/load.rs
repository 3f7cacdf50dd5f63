//! Loading a file as a generator or an audio encoder: the contract of shapes.
//!
//! The ends of a generator's network are cut to fit: the u8 crop is packed straight into the first
//! tensor, and a final sigmoid is taken off the graph and done together with the conversion to
//! bytes.

use std::sync::Arc;

use lipsync_core::FaceGeometry;

use crate::{
    AudioEncoder, EngineError, FaceInput, Generator, LoadOptions, Session, VisualCacheStats,
    cpu::{
        network::{Network, describe_ends, import_simplified},
        plan::{
            Frame,
            ends::{Drain, Feed},
            visual::{Kept, Visual},
        },
    },
    cuda::CudaGenerator,
    encoder::{N_MELS, N_ROWS},
    graph::{Activation, Graph, Op, Shape, ValueId},
    import::TensorInfo,
    visual_cache::{Found, Shelf},
};

/// Loads a generator: visual `[B, 6, S, S]` with S 320 or 160, audio `[B, C, H, W]`, in either order
/// and under any names, to `[B, 3, S, S]`; B open or 1.
///
/// # Errors
/// [`EngineError::Contract`] for other shapes, otherwise as [`Network::load`].
pub fn load_generator(
    onnx: &[u8],
    options: impl Into<LoadOptions>,
) -> Result<Arc<dyn Generator>, EngineError> {
    let options = options.into();
    match &options.device {
        Some(cuda) => CudaGenerator::load(onnx, cuda, &options),
        None => Ok(Arc::new(network_generator(onnx, &options)?)),
    }
}

/// A generator's network, its ends cut to fit.
pub(crate) fn load_generator_network(
    onnx: &[u8],
    options: &LoadOptions,
) -> Result<Network, EngineError> {
    Ok(network_generator(onnx, options)?.network)
}

/// Not generic, so that the kernels are compiled in this crate, as optimised as its profile says, and
/// not once more in whichever crate calls [`load_generator`].
fn network_generator(onnx: &[u8], options: &LoadOptions) -> Result<NetworkGenerator, EngineError> {
    let mut ends_in_sigmoid = false;
    let cut = |graph: &mut Graph| {
        ends_in_sigmoid = cut_sigmoid(graph);
        let mut shapes = graph.inputs.iter().map(|&id| graph.shapes[id]);
        shapes.position(is_visual)
    };
    let network = Network::load_with(onnx, options, cut)?;
    let (geometry, visual_index) = fit_contract(
        network.ends(),
        &network.input_shapes(),
        &network.output_shapes(),
    )?;
    let kept_bytes = network.kept_bytes();
    let cache = options.visual_cache.clone().filter(|_| kept_bytes > 0);
    Ok(NetworkGenerator {
        shelf: cache.map(|cache| Shelf::new(cache, kept_bytes + ALIGNMENT_BYTES)),
        network,
        geometry,
        visual_index,
        ends_in_sigmoid,
    })
}

/// A generator's graph, simplified, its ends cut to fit.
pub(crate) struct GeneratorGraph {
    pub graph: Graph,
    pub geometry: FaceGeometry,
    /// Which of the two inputs is the face.
    pub visual_index: usize,
    /// Whether the output is the logit of what the contract asks for.
    pub ends_in_sigmoid: bool,
}

impl GeneratorGraph {
    /// Reads a file and checks that it is a generator; see [`load_generator`].
    pub fn read(onnx: &[u8]) -> Result<Self, EngineError> {
        let mut imported = import_simplified(onnx)?;
        let ends_in_sigmoid = cut_sigmoid(&mut imported.graph);
        let graph = imported.graph;
        let shapes = |ids: &[ValueId]| ids.iter().map(|&id| graph.shapes[id]).collect::<Vec<_>>();
        let ends = (&imported.inputs[..], &imported.outputs[..]);
        let (geometry, visual_index) =
            fit_contract(ends, &shapes(&graph.inputs), &shapes(&graph.outputs))?;
        Ok(Self {
            graph,
            geometry,
            visual_index,
            ends_in_sigmoid,
        })
    }
}

fn is_visual(shape: Shape) -> bool {
    shape.c == 6 && shape.h == shape.w && FaceGeometry::for_region(shape.h).is_some()
}

/// The geometry of a generator with these ends, and which input is the visual one.
fn fit_contract(
    (inputs, outputs): (&[TensorInfo], &[TensorInfo]),
    input_shapes: &[Shape],
    output_shapes: &[Shape],
) -> Result<(FaceGeometry, usize), EngineError> {
    let refused = || EngineError::Contract {
        expected: "visual [B, 6, S, S] (S 320 or 160) and audio [B, C, H, W] to [B, 3, S, S]"
            .into(),
        found: describe_ends(inputs, outputs),
    };
    let visual_index = input_shapes
        .iter()
        .position(|&s| is_visual(s))
        .ok_or_else(refused)?;
    let geometry = FaceGeometry::for_region(input_shapes[visual_index].h).ok_or_else(refused)?;
    let face = Shape {
        c: 3,
        h: geometry.region_px,
        w: geometry.region_px,
    };
    let ranks_fit = inputs.iter().all(|i| i.dims.len() == 4);
    if input_shapes.len() != 2 || !ranks_fit || output_shapes != [face] {
        return Err(refused());
    }
    Ok((geometry, visual_index))
}

/// Loads an audio encoder: `[N, 1, 80, 16]` to `[N, D]`.
///
/// # Errors
/// [`EngineError::Contract`] for other shapes, otherwise as [`Network::load`].
pub fn load_audio_encoder(
    onnx: &[u8],
    options: impl Into<LoadOptions>,
) -> Result<Arc<dyn AudioEncoder>, EngineError> {
    let network = Network::load(onnx, options)?;
    let patch = Shape {
        c: 1,
        h: N_MELS,
        w: N_ROWS,
    };
    let one_vector = matches!(network.output_shapes()[..], [Shape { h: 1, w: 1, .. }]);
    if network.input_shapes() != [patch] || !one_vector {
        return Err(EngineError::Contract {
            expected: format!("mel [N, 1, {N_MELS}, {N_ROWS}] to [N, D]"),
            found: network.describe_ends(),
        });
    }
    let step_floats = network.output_shapes()[0].c;
    Ok(Arc::new(NetworkEncoder {
        network,
        step_floats,
    }))
}

/// Makes what a final sigmoid reads the graph's output; whether there was one.
fn cut_sigmoid(graph: &mut Graph) -> bool {
    let [output] = graph.outputs[..] else {
        return false;
    };
    let writes = graph.nodes.iter().find(|node| node.output == output);
    match writes {
        Some(node) if matches!(node.op, Op::Activation(Activation::Sigmoid)) => {
            graph.outputs[0] = node.inputs[0];
            graph.nodes.retain(|node| node.output != output);
            true
        }
        _ => false,
    }
}

/// What an allocation takes more than its elements so that they start at a cache line.
const ALIGNMENT_BYTES: u64 = 64;

struct NetworkGenerator {
    network: Network,
    /// Where results of background frames are kept, if they are.
    shelf: Option<Shelf>,
    geometry: FaceGeometry,
    visual_index: usize,
    ends_in_sigmoid: bool,
}

impl Generator for NetworkGenerator {
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

    fn session_bytes(&self) -> u64 {
        self.network.session_bytes()
    }

    fn infer(
        &self,
        session: &mut Session,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        self.infer_while(session, frames, faces, &|| true)
    }

    fn infer_while(
        &self,
        session: &mut Session,
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
            faces.push(self.infer_one(session, frame));
        }
        Ok(())
    }

    fn prepare(
        &self,
        session: &mut Session,
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
        if self.network.prepare(session, &feeds, &mut kept, stop) {
            shelf.count_prepared();
            claim.fill(Arc::new(kept));
        }
        Ok(())
    }

    fn visual_cache(&self) -> Option<VisualCacheStats> {
        self.shelf.as_ref().map(Shelf::stats)
    }
}

impl NetworkGenerator {
    fn infer_one(&self, session: &mut Session, frame: &FaceInput<'_>) -> Vec<u8> {
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
            self.network.run_frame(session, frame);
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

struct NetworkEncoder {
    network: Network,
    step_floats: usize,
}

impl AudioEncoder for NetworkEncoder {
    fn step_floats(&self) -> usize {
        self.step_floats
    }

    fn weights_bytes(&self) -> u64 {
        self.network.weights_bytes()
    }

    fn encode(&self, session: &mut Session, patches: &[f32]) -> Result<Vec<f32>, EngineError> {
        if !patches.len().is_multiple_of(N_MELS * N_ROWS) {
            let expected = patches.len().next_multiple_of(N_MELS * N_ROWS);
            check_length("patches", expected, patches.len())?;
        }
        let mut steps = self.network.run(session, &[patches])?;
        Ok(steps.swap_remove(0))
    }
}

pub(crate) fn check_length(
    what: &'static str,
    expected: usize,
    actual: usize,
) -> Result<(), EngineError> {
    if expected == actual {
        Ok(())
    } else {
        Err(EngineError::Input {
            what,
            expected,
            actual,
        })
    }
}
