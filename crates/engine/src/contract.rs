//! What a file must be to serve as a generator or an audio encoder: the contract of shapes.
//!
//! The ends of a generator's network are cut to fit: the u8 crop is packed straight into the first
//! tensor, and a final sigmoid is taken off the graph and done together with the conversion to
//! bytes.

use std::fmt;

use lipsync_core::{AudioKind, FaceGeometry, Family, family::StepForm};

use crate::{
    EngineError,
    encoder::{N_MELS, N_ROWS},
    graph::{Activation, Graph, Op, Shape, ValueId, simplify::simplify},
    import::{TensorInfo, describe_ends, import_simplified},
};

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
    /// Reads a file and checks that it is a generator; see [`load_generator`](crate::load_generator).
    pub fn read(onnx: &[u8]) -> Result<Self, EngineError> {
        let mut imported = import_simplified(onnx)?;
        keep_face(&mut imported.graph);
        let ends_in_sigmoid = cut_sigmoid(&mut imported.graph);
        let graph = imported.graph;
        let shapes = |ids: &[ValueId]| ids.iter().map(|&id| graph.shapes[id]).collect::<Vec<_>>();
        let ends = (&imported.inputs[..], &imported.outputs[..]);
        let (geometry, visual_index) =
            fit_generator(ends, &shapes(&graph.inputs), &shapes(&graph.outputs))?;
        Ok(Self {
            graph,
            geometry,
            visual_index,
            ends_in_sigmoid,
        })
    }
}

/// The graph of an AVE encoder, simplified.
pub(crate) struct EncoderGraph {
    pub graph: Graph,
    /// Floats of one of its steps.
    pub step_floats: usize,
}

impl EncoderGraph {
    /// Reads a file and checks that it is such an encoder; see [`load_audio_encoder`](crate::load_audio_encoder).
    pub fn read(onnx: &[u8]) -> Result<Self, EngineError> {
        let imported = import_simplified(onnx)?;
        let graph = imported.graph;
        let shapes = |ids: &[ValueId]| ids.iter().map(|&id| graph.shapes[id]).collect::<Vec<_>>();
        let ends = (&imported.inputs[..], &imported.outputs[..]);
        let step_floats = fit_encoder(ends, &shapes(&graph.inputs), &shapes(&graph.outputs))?;
        Ok(Self { graph, step_floats })
    }
}

/// What a network can be for the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It makes faces.
    Generator {
        /// Side of the face, px.
        region_px: usize,
        /// The kind of audio whose windows it reads.
        audio: AudioKind,
    },
    /// It makes feature steps of sound.
    AudioEncoder {
        /// The kind of audio whose steps it makes.
        audio: AudioKind,
        /// Floats of a step.
        step_floats: usize,
    },
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generator { region_px, audio } => {
                write!(
                    f,
                    "the generator of {region_px}-pixel faces with {audio} audio"
                )
            }
            Self::AudioEncoder { audio, step_floats } => match audio {
                AudioKind::Ave => write!(f, "an audio encoder of {step_floats} floats a step"),
                _ => write!(f, "a {audio} audio encoder of {step_floats} floats a step"),
            },
        }
    }
}

/// What a simplified network can be for the server.
///
/// # Errors
/// [`EngineError::Contract`] where it is neither a generator nor an audio encoder of the family.
pub(crate) fn role_of(
    graph: &Graph,
    ends: (&[TensorInfo], &[TensorInfo]),
) -> Result<Role, EngineError> {
    let mut graph = graph.clone();
    keep_face(&mut graph);
    let shapes = |ids: &[ValueId]| ids.iter().map(|&id| graph.shapes[id]).collect::<Vec<_>>();
    let (inputs, outputs) = (shapes(&graph.inputs), shapes(&graph.outputs));
    if let Ok(step_floats) = fit_encoder(ends, &inputs, &outputs) {
        let expected = StepForm::AVE.n_floats;
        if step_floats == expected {
            return Ok(Role::AudioEncoder {
                audio: AudioKind::Ave,
                step_floats,
            });
        }
        return Err(EngineError::Contract {
            expected: format!("an audio encoder of {expected} floats a step"),
            found: format!("one of {step_floats}"),
        });
    }
    let (geometry, visual_index) = fit_generator(ends, &inputs, &outputs)?;
    let Shape { c, h, w } = inputs[1 - visual_index];
    let family = Family::of_region(geometry.region_px);
    let family = family.unwrap_or(&Family::U_NET);
    match family.kind_of([c, h, w]) {
        Some(audio) => Ok(Role::Generator {
            region_px: geometry.region_px,
            audio,
        }),
        None => Err(EngineError::Contract {
            expected: format!("audio windows of {}", family.windows()),
            found: format!("{:?}", [c, h, w]),
        }),
    }
}

/// The squares of a network whose visual input has this shape, if it can be one.
fn face_of(shape: Shape) -> Option<FaceGeometry> {
    let fits = shape.c == FaceGeometry::CHANNELS && shape.h == shape.w;
    let family = fits.then(|| Family::of_region(shape.h)).flatten()?;
    family.face(shape.h)
}

/// Whether an input of this shape can be the visual one.
pub(crate) fn is_visual(shape: Shape) -> bool {
    face_of(shape).is_some()
}

/// The geometry of a generator with these ends, and which input is the visual one.
pub(crate) fn fit_generator(
    (inputs, outputs): (&[TensorInfo], &[TensorInfo]),
    input_shapes: &[Shape],
    output_shapes: &[Shape],
) -> Result<(FaceGeometry, usize), EngineError> {
    let refused = || EngineError::Contract {
        expected: format!(
            "visual [B, {}, S, S] (S {}) and audio [B, C, H, W] to [B, 3, S, S]",
            FaceGeometry::CHANNELS,
            Family::all_sides(),
        ),
        found: describe_ends(inputs, outputs),
    };
    let mut shapes = input_shapes.iter().enumerate();
    let (visual_index, geometry) = shapes
        .find_map(|(index, &shape)| Some((index, face_of(shape)?)))
        .ok_or_else(refused)?;
    let face = Shape {
        c: 3,
        h: geometry.region_px,
        w: geometry.region_px,
    };
    // Of a rank that the file leaves open nothing is known.
    let ranks_fit = inputs.iter().all(|i| matches!(i.dims.len(), 0 | 4));
    if input_shapes.len() != 2 || !ranks_fit || output_shapes != [face] {
        return Err(refused());
    }
    Ok((geometry, visual_index))
}

/// Floats of a feature step of an audio encoder with these ends.
pub(crate) fn fit_encoder(
    (inputs, outputs): (&[TensorInfo], &[TensorInfo]),
    input_shapes: &[Shape],
    output_shapes: &[Shape],
) -> Result<usize, EngineError> {
    let patch = Shape {
        c: 1,
        h: N_MELS,
        w: N_ROWS,
    };
    match output_shapes {
        [Shape { c, h: 1, w: 1 }] if input_shapes == [patch] => Ok(*c),
        _ => Err(EngineError::Contract {
            expected: format!("mel [N, 1, {N_MELS}, {N_ROWS}] to [N, D]"),
            found: describe_ends(inputs, outputs),
        }),
    }
}

/// Takes off the outputs of a generator beside the first that is a face, and what only they need.
pub(crate) fn keep_face(graph: &mut Graph) {
    let mut inputs = graph.inputs.iter().map(|&id| graph.shapes[id]);
    let Some(face) = inputs
        .find(|&shape| is_visual(shape))
        .map(|shape| Shape { c: 3, ..shape })
    else {
        return;
    };
    let found = graph.outputs.iter().find(|&&id| graph.shapes[id] == face);
    if let Some(&found) = found.filter(|_| graph.outputs.len() > 1) {
        graph.outputs = vec![found];
        // Now more is used once only.
        simplify(graph);
    }
}

/// Makes what a final sigmoid reads the graph's output; whether there was one.
pub(crate) fn cut_sigmoid(graph: &mut Graph) -> bool {
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

/// Refuses data of another length.
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
