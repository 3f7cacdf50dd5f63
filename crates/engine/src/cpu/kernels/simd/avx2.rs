//! Eight floats in an AVX register, with AVX2 and FMA.
#![expect(
    unsafe_code,
    reason = "intrinsics, and loads and stores through pointers"
)]

use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi32, _mm256_add_ps, _mm256_cvtepi32_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maskload_ps,
    _mm256_maskstore_ps, _mm256_max_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_storeu_ps, _mm256_sub_ps,
};

use super::{Simd, emulated, word_of};

const LANES: usize = 8;

/// Eight lanes on, then eight off: eight words from `8 - n` on are the mask of `n` first lanes.
static MASKS: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// The proof that the CPU has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// Asks the CPU.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// The mask of the `n` first lanes.
    #[inline(always)]
    fn first_lanes(self, n: usize) -> __m256i {
        let mask = MASKS[LANES - n..][..LANES].as_ptr();
        // SAFETY: `self` proves AVX; the slice above has eight words.
        unsafe { _mm256_loadu_si256(mask.cast()) }
    }
}

impl Simd for Avx2 {
    type Vector = __m256;
    type Pairs = emulated::Pairs<__m256>;
    type Ints = __m256i;

    const LANES: usize = LANES;
    // 12 accumulators, two vectors of weights and one broadcast of the 16 registers.
    const TILE_ROWS: usize = 6;
    const FUSED: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, src: &[f32]) -> __m256 {
        let src = src[..LANES].as_ptr();
        // SAFETY: `self` proves AVX; the slice above has eight floats.
        unsafe { _mm256_loadu_ps(src) }
    }

    #[inline(always)]
    fn load_part(self, src: &[f32], n: usize) -> __m256 {
        let src = src[..n].as_ptr();
        // SAFETY: `self` proves AVX; only the `n` floats of the slice above are touched.
        unsafe { _mm256_maskload_ps(src, self.first_lanes(n)) }
    }

    #[inline(always)]
    fn store(self, dst: &mut [f32], v: __m256) {
        let dst = dst[..LANES].as_mut_ptr();
        // SAFETY: `self` proves AVX; the slice above has eight floats.
        unsafe { _mm256_storeu_ps(dst, v) }
    }

    #[inline(always)]
    fn store_part(self, dst: &mut [f32], n: usize, v: __m256) {
        let dst = dst[..n].as_mut_ptr();
        // SAFETY: `self` proves AVX; only the `n` floats of the slice above are touched.
        unsafe { _mm256_maskstore_ps(dst, self.first_lanes(n), v) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn relu(self, v: __m256) -> __m256 {
        // SAFETY: `self` proves AVX.
        let zero = unsafe { _mm256_setzero_ps() };
        // SAFETY: as above. Of a NaN and a number the instruction gives its second operand.
        unsafe { _mm256_max_ps(zero, v) }
    }

    #[inline(always)]
    fn no_ints(self) -> __m256i {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn load_ints(self, src: &[i16]) -> __m256i {
        let src = src[..2 * LANES].as_ptr();
        // SAFETY: `self` proves AVX; the slice above has 16 numbers of 16 bits.
        unsafe { _mm256_loadu_si256(src.cast()) }
    }

    #[inline(always)]
    fn splat_ints(self, pair: [i16; 2]) -> __m256i {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_set1_epi32(word_of(pair)) }
    }

    #[inline(always)]
    fn dot_ints(self, a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        let products = unsafe { _mm256_madd_epi16(a, b) };
        // SAFETY: as above.
        unsafe { _mm256_add_epi32(c, products) }
    }

    #[inline(always)]
    fn ints_to_floats(self, sums: __m256i) -> __m256 {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_cvtepi32_ps(sums) }
    }

    emulated::bf16!();
}
