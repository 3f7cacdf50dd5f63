//! The CPU kernels of the U-Net family.
//!
//! All tensors are NHWC, row-major, one frame, so a tensor is also a matrix: one row a pixel, one
//! column a channel. A 1x1 convolution is then [`gemm`] itself, a dense convolution is
//! [`im2col`] and `gemm`, or [`winograd()`] where that multiplies less, and concatenation costs nothing: a producer writes its channels at an
//! offset of wider rows ([`MatMut::new`]). The wide middle of a block, which only the depthwise
//! convolution reads, is in planes of one vector of channels each ([`MatMut::planes`]).
//!
//! Numbers are stored as an [`Element`] and computed with in f32. Every kernel is written once, generic over
//! the vectors of `simd`, and compiled for each instruction
//! set of [`Isa`]; which one runs is chosen at run time. A kernel's result for one element depends
//! neither on the rows computed beside it nor on how rows are cut into calls, so strips, batches and
//! workers all give the same bits. Two instruction sets may differ in the last bits.
//!
//! Nothing here allocates per pixel, starts threads or knows what a network is. `unsafe` is confined
//! to `isa` (entering code compiled for an instruction set), the vectors under `simd`, and the loads and
//! stores of `element`, `depthwise` and `resized` that do not check bounds again.

mod aligned;
mod bf16;
mod convolve;
mod depthwise;
mod element;
mod elementwise;
mod face;
mod float;
mod gemm;
mod gemm_bf16;
mod gemm_int16;
mod gemm_int8;
mod im2col;
mod interleave;
mod isa;
mod matrix;
mod resized;
mod simd;
mod unrolled;
mod upsample;
mod winograd;

#[cfg(test)]
mod scalar;
#[cfg(test)]
mod tests;

pub use aligned::{Aligned, AlignedFloats};
pub use bf16::{Bf16, PackedBf16Product};
pub use convolve::{Windows, convolve, pad_rows};
pub use depthwise::{PackedDepthwise, Strip, depthwise3x3};
pub use element::{Element, Integers, Weights};
pub use elementwise::{add, relu, sigmoid, sigmoid_to_u8};
pub use face::pack_face;
pub use float::PackedProduct;
pub use gemm::{PackedMatrix, gemm};
pub use gemm_bf16::{PackedPairs, gemm_bf16};
pub use gemm_int8::{PackedBytes, gemm_int8};
pub use gemm_int16::{PackedShorts, gemm_int16};
pub use im2col::im2col;
pub use interleave::interleave;
pub use isa::{Isa, UnsupportedIsa};
pub use matrix::{Added, Epilogue, MatMut, MatRef};

pub use crate::cpu::CpuIsa;
pub use resized::Resized;
pub use upsample::{Resize, ResizedColumns, blend_rows, upsample_bilinear_align_corners};
pub use winograd::{CHANNELS_MULTIPLE, Maps, PackedWinograd, TILE, winograd};
