//! Vectors of floats: what the kernels need of an instruction set.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "prefetching is an intrinsic")
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod emulated;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::{Avx2, Avx2Vnni};
#[cfg(target_arch = "x86_64")]
pub use avx512::{Avx512, Avx512Bf16, Avx512Bf16Vnni, Avx512Vnni};
#[cfg(target_arch = "aarch64")]
pub use neon::{Neon, NeonDotprod};
pub use portable::Portable;

use super::{Bf16, Element};

/// Asks for the cache line of `data[at]`, where the architecture is one that we know how to ask.
#[inline(always)]
fn prefetch<T>(data: &[T], at: usize) {
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

/// A pair as the 32 bits in which vectors hold it, the first in the lower half.
#[inline(always)]
fn word_of([first, second]: [i16; 2]) -> i32 {
    let ([a, b], [c, d]) = (first.to_le_bytes(), second.to_le_bytes());
    i32::from_le_bytes([a, b, c, d])
}

/// A four as the 32 bits in which vectors hold it, the first in the lowest byte.
#[inline(always)]
fn word_of_four(four: [u8; 4]) -> i32 {
    i32::from_le_bytes(four)
}

/// The vectors of one instruction set, and the tile sizes that suit its registers.
///
/// A value is the proof that the CPU has the instructions. All methods are `#[inline(always)]`; see
/// [`Kernel`](super::isa::Kernel).
pub trait Simd: Copy {
    /// `LANES` floats in a register.
    type Vector: Copy;

    /// `LANES` pairs of bf16.
    type Pairs: Copy;

    /// `LANES` pairs of 16-bit integers, as many fours of bytes, or as many 32-bit sums of their products.
    type Ints: Copy;

    /// Floats of a vector.
    const LANES: usize;

    /// Rows of the register tile of [`gemm`](super::gemm()), which is two vectors wide: 12, 6 or 4.
    const TILE_ROWS: usize;

    /// Floats that [`round_to_bytes`](Self::round_to_bytes) takes at once.
    const BYTES: usize;

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
    fn prefetch<T>(self, data: &[T], at: usize) {
        prefetch(data, at);
    }

    /// `a * b + c`.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a - b`.
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The smaller of each lane's two; of a NaN and a number either.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The larger of each lane's two; of a NaN and a number either.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The smallest lane of `low` and the largest of `high`, where none is a NaN.
    fn extremes(self, low: Self::Vector, high: Self::Vector) -> (f32, f32);

    /// Whether a lane is a NaN.
    fn has_nan(self, v: Self::Vector) -> bool;

    /// Lanes below zero become zero; a NaN stays one.
    fn relu(self, v: Self::Vector) -> Self::Vector;

    /// Whether [`dot_pairs`](Self::dot_pairs) is one instruction.
    const MULTIPLIES_BF16: bool = false;

    /// The first `n <= LANES` numbers of `src`, which must have as many, as floats; the other lanes
    /// are 0.
    fn widen(self, src: &[Bf16], n: usize) -> Self::Vector;

    /// Rounds to bf16 and writes the `n <= LANES` first numbers of `dst`, which must have as many.
    fn narrow(self, dst: &mut [Bf16], n: usize, v: Self::Vector);

    /// The first `LANES` pairs of `src`, which must have as many.
    fn load_pairs(self, src: &[Bf16]) -> Self::Pairs;

    /// The same pair in all lanes.
    fn splat_pair(self, pair: [Bf16; 2]) -> Self::Pairs;

    /// `c + a1 b1 + a0 b0` of each lane's pairs, added from left to right, each sum rounded to f32.
    fn dot_pairs(self, a: Self::Pairs, b: Self::Pairs, c: Self::Vector) -> Self::Vector;

    /// Sums of nothing.
    fn no_ints(self) -> Self::Ints;

    /// The first `LANES` pairs of `src`, which must have as many.
    fn load_ints(self, src: &[i16]) -> Self::Ints;

    /// The same pair in all lanes.
    fn splat_ints(self, pair: [i16; 2]) -> Self::Ints;

    /// `c + a0 b0 + a1 b1` of each lane's pairs, exact; the caller keeps the sums within 32 bits.
    fn dot_ints(self, a: Self::Ints, b: Self::Ints, c: Self::Ints) -> Self::Ints;

    /// The first `LANES` fours of `src`, which must have as many.
    fn load_bytes(self, src: &[i8]) -> Self::Ints;

    /// The same four in all lanes.
    fn splat_bytes(self, four: [u8; 4]) -> Self::Ints;

    /// `c0 + a0 b0 + a1 b1` and `c1 + a2 b2 + a3 b3` of each lane's fours, in 16 bits each; the caller keeps
    /// the sums within them. The bytes of `a` have 7 bits and no sign.
    fn dot_bytes(self, a: Self::Ints, b: Self::Ints, c: Self::Ints) -> Self::Ints;

    /// `c + a0 + a1` of the two sums of 16 bits in each lane of `a`.
    fn widen_shorts(self, a: Self::Ints, c: Self::Ints) -> Self::Ints;

    /// Whether [`dot_fours`](Self::dot_fours) is one instruction.
    const MULTIPLIES_FOURS: bool = false;

    /// Whether the instruction knows only bytes with a sign: [`dot_fours`](Self::dot_fours) then takes bytes less 128,
    /// and [`start_fours`](Self::start_fours) makes up for it.
    const FOURS_LESS_128: bool = false;

    /// `c + a0 b0 + a1 b1 + a2 b2 + a3 b3` of `a` and each lane's four, exact; the caller keeps the sums within 32
    /// bits. The bytes of `a` have no sign and may be any; where [`FOURS_LESS_128`](Self::FOURS_LESS_128) they have one.
    fn dot_fours(self, a: [u8; 4], b: Self::Ints, c: Self::Ints) -> Self::Ints;

    /// What sums start with that [`dot_fours`](Self::dot_fours) adds to: nothing or, where
    /// [`FOURS_LESS_128`](Self::FOURS_LESS_128), 128 times the sum of each lane's weights. The first `LANES` fours of
    /// every `step` of `weights` are those of one sum each.
    #[inline(always)]
    fn start_fours(self, weights: &[i8], step: usize) -> Self::Ints {
        let _ = (weights, step);
        self.no_ints()
    }

    /// Writes the first [`BYTES`](Self::BYTES) of `src`, which must have as many, times a factor plus an offset,
    /// as the nearest integers, to `dst`. They must lie between 0 and 255; of a NaN it writes anything.
    fn round_to_bytes<E: Element>(
        self,
        src: &[E],
        scale: (Self::Vector, Self::Vector),
        dst: &mut [u8],
    );

    /// Sums as the nearest floats.
    fn ints_to_floats(self, sums: Self::Ints) -> Self::Vector;
}
