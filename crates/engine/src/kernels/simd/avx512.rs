//! Sixteen floats in an AVX-512 register.
#![expect(
    unsafe_code,
    reason = "intrinsics, and loads and stores through pointers"
)]

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    _mm512_sub_ps,
};

use super::Simd;

const LANES: usize = 16;

/// The proof that the CPU has AVX-512 F, BW, DQ and VL.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// Asks the CPU.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        has.then_some(Self(()))
    }
}

/// The mask of the `n` first lanes.
#[inline(always)]
fn first_lanes(n: usize) -> __mmask16 {
    assert!(n < LANES);
    (1 << n) - 1
}

impl Simd for Avx512 {
    type Vector = __m512;

    const LANES: usize = LANES;
    // 24 accumulators, two vectors of weights and one broadcast of the 32 registers. Fourteen rows
    // would need 31 and spill.
    const TILE_ROWS: usize = 12;
    const FUSED: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, src: &[f32]) -> __m512 {
        let src = src[..LANES].as_ptr();
        // SAFETY: `self` proves AVX-512 F; the slice above has 16 floats.
        unsafe { _mm512_loadu_ps(src) }
    }

    #[inline(always)]
    fn load_part(self, src: &[f32], n: usize) -> __m512 {
        let src = src[..n].as_ptr();
        // SAFETY: `self` proves AVX-512 F; only the `n` floats of the slice above are touched.
        unsafe { _mm512_maskz_loadu_ps(first_lanes(n), src) }
    }

    #[inline(always)]
    fn store(self, dst: &mut [f32], v: __m512) {
        let dst = dst[..LANES].as_mut_ptr();
        // SAFETY: `self` proves AVX-512 F; the slice above has 16 floats.
        unsafe { _mm512_storeu_ps(dst, v) }
    }

    #[inline(always)]
    fn store_part(self, dst: &mut [f32], n: usize, v: __m512) {
        let dst = dst[..n].as_mut_ptr();
        // SAFETY: `self` proves AVX-512 F; only the `n` floats of the slice above are touched.
        unsafe { _mm512_mask_storeu_ps(dst, first_lanes(n), v) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn relu(self, v: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        let zero = unsafe { _mm512_setzero_ps() };
        // SAFETY: as above. Of a NaN and a number the instruction gives its second operand.
        unsafe { _mm512_max_ps(zero, v) }
    }
}
