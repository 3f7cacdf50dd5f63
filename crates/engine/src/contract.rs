//! What a file must be to serve as a generator or an audio encoder: the contract of shapes.
//!
//! The ends of a generator's network are cut to fit: the u8 crop is packed straight into the first
//! tensor, and a final sigmoid is taken off the graph and done together with the conversion to
//! bytes.

use lipsync_core::{FaceGeometry, Family};

use crate::{
    EngineError,
    encoder::{N_MELS, N_ROWS},
    graph::{Activation, Graph, Op, Shape, ValueId},
    import::{TensorInfo, describe_ends, import_simplified},
};

/// What generators are checked against.
const FAMILY: Family = Family::U_NET;

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

/// The squares of a network whose visual input has this shape, if it can be one.
fn face_of(shape: Shape) -> Option<FaceGeometry> {
    let fits = shape.c == FAMILY.pixels.n_channels() && shape.h == shape.w;
    fits.then(|| FAMILY.face(shape.h)).flatten()
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
            FAMILY.pixels.n_channels(),
            FAMILY.region_sides(),
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
    let ranks_fit = inputs.iter().all(|i| i.dims.len() == 4);
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
