//! The sizes of a frame's inputs: those that the file fixes, and those that only the family knows.

use lipsync_core::{FaceGeometry, Family};

use super::{Dim, Imported, Importer, TensorInfo, file::OnnxFile};
use crate::{
    EngineError,
    encoder::{N_MELS, N_ROWS},
    graph::Shape,
};

/// The dimensions of each input for one frame.
pub(super) type Sizes = Vec<Vec<usize>>;

/// Lowers a file for the sizes that it fixes or, where it leaves some open, for those of the family that its
/// graph can have.
///
/// # Errors
/// As [`import`](super::import()); also where none of the family's sizes fits, or several do.
pub(super) fn lower(file: &OnnxFile) -> Result<Imported, EngineError> {
    let batch = fixed_batch(&file.inputs)?;
    if let Some(sizes) = fixed(&file.inputs) {
        return Importer::run(file, &sizes, batch);
    }
    let mut found: Option<Imported> = None;
    let mut refused = None;
    for sizes in candidates(&file.inputs) {
        match Importer::run(file, &sizes, batch) {
            Ok(imported) if imported.unsupported.is_empty() && serves(&imported) => {
                if found.is_some() {
                    return Err(open(file, "several sizes of the families fit"));
                }
                found = Some(imported);
            }
            Ok(imported) => refused = refused.or(imported.unsupported.into_iter().next()),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match (found, refused) {
        (Some(imported), _) => Ok(imported),
        (
            None,
            Some(EngineError::UnsupportedOperator {
                node,
                operator,
                opset,
                reason,
            }),
        ) => Err(EngineError::UnsupportedOperator {
            node,
            operator,
            opset,
            reason: format!("{reason} (the sizes that the file leaves open are the family's)"),
        }),
        (None, Some(error)) => Err(open(
            file,
            &format!("none of the family's sizes fits: {error}"),
        )),
        (None, None) => Err(open(file, "none of the family's sizes fits")),
    }
}

fn open(file: &OnnxFile, why: &str) -> EngineError {
    let inputs: Vec<String> = file
        .declared_inputs
        .iter()
        .take(4)
        .map(ToString::to_string)
        .collect();
    EngineError::Contract {
        expected:
            "inputs whose axes but the batch are fixed (dynamic_axes with axis 0 alone, or none)"
                .into(),
        found: format!("inputs {}, and {why}", inputs.join(", ")),
    }
}

/// The batch of a file that fixes it to more than 1.
fn fixed_batch(inputs: &[TensorInfo]) -> Result<Option<usize>, EngineError> {
    let batch = |info: &TensorInfo| match info.dims.first() {
        Some(Dim::Size(n)) if *n > 1 => Some(*n),
        _ => None,
    };
    let first = inputs.first().and_then(batch);
    match inputs.iter().find(|info| batch(info) != first) {
        None => Ok(first),
        Some(info) => Err(EngineError::Contract {
            expected: "a batch axis that is open or 1, or the same for all inputs".into(),
            found: format!("input {info}"),
        }),
    }
}

/// The sizes of inputs whose axes but the batch are fixed.
fn fixed(inputs: &[TensorInfo]) -> Option<Sizes> {
    let size = |(i, dim): (usize, &Dim)| match dim {
        _ if i == 0 => Some(1),
        Dim::Size(size) if *size > 0 => Some(*size),
        _ => None,
    };
    let of_input = |info: &TensorInfo| info.dims.iter().enumerate().map(size).collect();
    inputs.iter().map(of_input).collect()
}

/// The sizes of the family that contradict nothing that the file fixes.
fn candidates(inputs: &[TensorInfo]) -> Vec<Sizes> {
    let mut all: Vec<Sizes> = match inputs.len() {
        1 => vec![vec![vec![1, 1, N_MELS, N_ROWS]]],
        2 => {
            let pairs = Family::ALL.into_iter().flat_map(pairs_of);
            let both_orders = |[face, window]: [Vec<usize>; 2]| {
                [vec![face.clone(), window.clone()], vec![window, face]]
            };
            pairs.flat_map(both_orders).collect()
        }
        _ => vec![],
    };
    let agrees = |(info, dims): (&TensorInfo, &Vec<usize>)| {
        let same = |(i, (dim, size)): (usize, (&Dim, &usize))| {
            i == 0 || matches!(dim, Dim::Symbol(_)) || *dim == Dim::Size(*size)
        };
        let mut axes = info.dims.iter().zip(dims).enumerate();
        info.dims.is_empty() || (info.dims.len() == dims.len() && axes.all(same))
    };
    all.retain(|sizes| inputs.iter().zip(sizes).all(agrees));
    all
}

/// The dimensions of every face of a family beside those of every window.
fn pairs_of(family: &Family) -> Vec<[Vec<usize>; 2]> {
    let faces = family.faces.iter().map(|face| face.region_px);
    let faces = faces.map(|side| vec![1, FaceGeometry::CHANNELS, side, side]);
    let windows = family.audio.iter().flat_map(|form| form.windows);
    let windows: Vec<Vec<usize>> = windows.map(|&[c, h, w]| vec![1, c, h, w]).collect();
    let pairs = faces.flat_map(|face| {
        let with = |window: &Vec<usize>| [face.clone(), window.clone()];
        windows.iter().map(with).collect::<Vec<_>>()
    });
    pairs.collect()
}

/// Whether a network with the family's inputs has the family's outputs.
fn serves(imported: &Imported) -> bool {
    let graph = &imported.graph;
    let face = graph.inputs.iter().map(|&id| graph.shapes[id]);
    let face = face.filter(|shape| shape.c == FaceGeometry::CHANNELS && shape.h == shape.w);
    let expected = face.map(|shape| Shape { c: 3, ..shape }).next();
    let mut outputs = graph.outputs.iter().map(|&id| graph.shapes[id]);
    match expected {
        Some(expected) => outputs.any(|shape| shape == expected),
        None => outputs.any(|shape| shape.h * shape.w == 1),
    }
}
