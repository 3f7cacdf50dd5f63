//! Vectors of floats: what the kernels need of an instruction set.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "prefetching is an intrinsic")
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use portable::Portable;

/// Asks for the cache line of `data[at]`, where the architecture is one that we know how to ask.
#[inline(always)]
fn prefetch(data: &[f32], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = data.as_ptr().wrapping_add(at).cast();
        // SAFETY: SSE belongs to x86-64, and a prefetch accesses nothing: any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, at);
}

/// The vectors of one instruction set, and the tile sizes that suit its registers.
///
/// A value is the proof that the CPU has the instructions. All methods are `#[inline(always)]`; see
/// [`Kernel`](super::isa::Kernel).
pub trait Simd: Copy {
    /// `LANES` floats in a register.
    type Vector: Copy;

    /// Floats of a vector.
    const LANES: usize;

    /// Rows of the register tile of [`gemm`](super::gemm()), which is two vectors wide: 12, 6 or 4.
    const TILE_ROWS: usize;

    /// Whether [`mul_add`](Self::mul_add) rounds once and is one instruction.
    const FUSED: bool;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::Vector;

    /// The first `LANES` floats of `src`, which must have as many.
    fn load(self, src: &[f32]) -> Self::Vector;

    /// The `n < LANES` first floats of `src`, which must have as many; the other lanes are 0.
    fn load_part(self, src: &[f32], n: usize) -> Self::Vector;

    /// Writes the first `LANES` floats of `dst`, which must have as many.
    fn store(self, dst: &mut [f32], v: Self::Vector);

    /// Writes the `n < LANES` first floats of `dst`, which must have as many.
    fn store_part(self, dst: &mut [f32], n: usize, v: Self::Vector);

    /// Asks for the cache line of `data[at]` ahead of its use; `at` may lie past the end.
    #[inline(always)]
    fn prefetch(self, data: &[f32], at: usize) {
        prefetch(data, at);
    }

    /// `a * b + c`.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a - b`.
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// Lanes below zero become zero; a NaN stays one.
    fn relu(self, v: Self::Vector) -> Self::Vector;
}
