//! The numbers that activations and weights are stored as.
//!
//! Every sum and every function of one value is computed in f32, whatever the storage: kernels load
//! an [`Element`] into f32 vectors and store f32 vectors as one. Only the matrix product has a
//! kernel of its own for each element, since that is where narrow numbers multiply faster.
#![expect(unsafe_code, reason = "loads and stores without a check of the bounds")]

use std::fmt::Debug;

use super::{Epilogue, Isa, MatMut, MatRef, Windows, simd::Simd};
use crate::Int8Kind;

/// A number that activations and weights are stored as.
///
/// All vector methods must be `#[inline(always)]`: only what is inlined into a kernel is compiled for
/// its instruction set.
pub trait Element: Copy + Debug + Default + Send + Sync + 'static {
    /// How the configuration calls it: `f32`.
    const NAME: &'static str;

    /// Whether the instructions for bf16 help to load, store or multiply it.
    const IS_BF16: bool = false;

    /// Zero.
    const ZERO: Self;

    /// Zeros enough for the widest vector.
    const ZEROS: &'static [Self; 16];

    /// What the wide middle of a block is stored as: what the expansion writes and the depthwise
    /// convolution reads, within the second-level cache.
    type Wide: Element;

    /// Weights and bias of a 1x1 convolution, in the order in which [`gemm`](Self::gemm) reads them.
    type Matrix: Weights;

    /// Rounds.
    fn from_f32(x: f32) -> Self;

    /// The same number.
    fn to_f32(self) -> f32;

    /// Packs `weights`, `[n_out][n_in]` row-major, and `bias`, `[n_out]`, for `isa`.
    ///
    /// # Panics
    /// When a length does not fit.
    fn pack(isa: Isa, weights: &[f32], bias: &[f32], n_out: usize, n_in: usize) -> Self::Matrix;

    /// As [`pack`](Self::pack), for products of `integers` where activations are stored as f32 and the product
    /// has few enough inputs.
    ///
    /// # Panics
    /// When a length does not fit.
    fn pack_ints(
        isa: Isa,
        integers: Integers,
        (weights, bias): (&[f32], &[f32]),
        (n_out, n_in): (usize, usize),
    ) -> Self::Matrix {
        let _ = integers;
        Self::pack(isa, weights, bias, n_out, n_in)
    }

    /// As [`gemm()`](super::gemm()), storing results as `O`.
    ///
    /// # Panics
    /// When a stride is shorter than a row or a slice shorter than its rows.
    fn gemm<O: Element>(
        m: &Self::Matrix,
        a: MatRef<'_, Self>,
        out: MatMut<'_, O>,
        epilogue: Epilogue<'_, Self>,
    );

    /// As [`convolve()`](super::convolve()), storing results as `O`, where the weights say that they
    /// [convolve](Weights::convolves); otherwise nothing.
    ///
    /// # Panics
    /// As [`convolve()`](super::convolve()).
    fn convolve<O: Element>(
        m: &Self::Matrix,
        windows: Windows<'_, Self>,
        out: MatMut<'_, O>,
        epilogue: Epilogue<'_, Self>,
    ) {
        let _ = (m, windows, out, epilogue);
    }

    /// The first `LANES` elements of `src`, which must have as many.
    fn load<S: Simd>(s: S, src: &[Self]) -> S::Vector;

    /// The `n < LANES` first elements of `src`, which must have as many; the other lanes are 0.
    fn load_part<S: Simd>(s: S, src: &[Self], n: usize) -> S::Vector;

    /// Writes the first `LANES` elements of `dst`, which must have as many.
    fn store<S: Simd>(s: S, dst: &mut [Self], v: S::Vector);

    /// Writes the `n < LANES` first elements of `dst`, which must have as many.
    fn store_part<S: Simd>(s: S, dst: &mut [Self], n: usize, v: S::Vector);

    /// `LANES` elements of `src`, from `at` on, without a check of the bounds.
    ///
    /// # Safety
    /// `at + LANES <= src.len()`.
    #[inline(always)]
    unsafe fn load_at<S: Simd>(s: S, src: &[Self], at: usize) -> S::Vector {
        // SAFETY: the caller's promise.
        Self::load(s, unsafe { src.get_unchecked(at..at + S::LANES) })
    }

    /// Writes `LANES` elements of `dst`, from `at` on, without a check of the bounds.
    ///
    /// # Safety
    /// `at + LANES <= dst.len()`.
    #[inline(always)]
    unsafe fn store_at<S: Simd>(s: S, dst: &mut [Self], at: usize, v: S::Vector) {
        // SAFETY: the caller's promise.
        let dst = unsafe { dst.get_unchecked_mut(at..at + S::LANES) };
        Self::store(s, dst, v);
    }
}

/// The integers that a product rounds its operands to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integers {
    /// 16 bits: [`gemm_int16()`](super::gemm_int16()).
    Shorts,
    /// Bytes: [`gemm_int8()`](super::gemm_int8()).
    Bytes(Int8Kind),
}

/// Packed weights of a 1x1 convolution.
pub trait Weights: Debug + Send + Sync {
    /// What the products are computed in: `f32`.
    fn numbers(&self) -> &'static str;

    /// Whether windows can be multiplied in place, without being unfolded.
    fn convolves(&self) -> bool {
        false
    }

    /// Bytes that they take.
    fn bytes(&self) -> usize;

    /// Columns of the operand.
    fn n_in(&self) -> usize;

    /// Columns of the result.
    fn n_out(&self) -> usize;
}
