//! What a caller hands to a run and takes from it, in the caller's own form.
//!
//! A plan asks for rows of an input when it needs them and gives rows of an output when it has them,
//! so that neither the packed input nor the logits exist as whole tensors where the first and last
//! steps work on strips.

use std::ops::Range;

use lipsync_core::FaceGeometry;

use crate::{
    cpu::kernels::{Element, Isa, interleave, pack_face, sigmoid_to_u8},
    cpu::layout::to_nchw,
    graph::Shape,
};

/// An input of one frame.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Feed<'a> {
    /// `[c][h][w]`, row-major.
    Nchw(&'a [f32]),
    /// A face crop, which becomes six channels.
    Face {
        crop: &'a [u8],
        geometry: &'a FaceGeometry,
    },
}

/// Where an output of one frame goes.
#[derive(Debug)]
pub(crate) enum Drain<'a> {
    /// `[c][h][w]`, row-major.
    Nchw(&'a mut [f32]),
    /// Interleaved bytes `trunc(255 y)`, where the value is `y` or, if `sigmoid`, its logit.
    Face { bytes: &'a mut [u8], sigmoid: bool },
}

impl Feed<'_> {
    /// Writes rows `rows` as `[rows][w][c]`.
    pub fn rows<E: Element>(&self, isa: Isa, shape: Shape, rows: Range<usize>, out: &mut [E]) {
        match self {
            Self::Nchw(nchw) => {
                let pixels = rows.start * shape.w..rows.end * shape.w;
                interleave(isa, nchw, shape.h * shape.w, pixels, out);
            }
            Self::Face { crop, geometry } => pack_face(crop, geometry, rows, out),
        }
    }
}

impl Drain<'_> {
    /// Takes rows `rows` of an output of shape `shape`, given as `[rows][w][c]`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is limited to 0..=255, and the contract truncates"
    )]
    pub fn rows(&mut self, isa: Isa, shape: Shape, rows: Range<usize>, values: &[f32]) {
        let row = shape.w * shape.c;
        match self {
            Self::Nchw(nchw) => to_nchw(values, shape, rows, nchw),
            Self::Face { bytes, sigmoid } => {
                let bytes = &mut bytes[rows.start * row..rows.end * row];
                if *sigmoid {
                    sigmoid_to_u8(isa, values, bytes);
                } else {
                    for (byte, y) in bytes.iter_mut().zip(values) {
                        *byte = (255.0 * y.clamp(0.0, 1.0)) as u8;
                    }
                }
            }
        }
    }
}
