//! Eight floats in an AVX register, with AVX2 and FMA.
#![expect(
    unsafe_code,
    reason = "intrinsics, and loads and stores through pointers"
)]

use std::arch::x86_64::{
    __m256, __m256i, _CMP_UNORD_Q, _mm_cvtss_f32, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_add_ps, _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_cvtss_f32,
    _mm256_dpbusd_avx_epi32, _mm256_dpwssd_avx_epi32, _mm256_extractf128_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_max_ps, _mm256_min_ps, _mm256_movemask_ps,
    _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permute_ps, _mm256_permute2f128_ps,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps,
};

use super::{Simd, emulated, word_of, word_of_four};
use crate::cpu::kernels::Element;

const LANES: usize = 8;

/// Eight lanes on, then eight off: eight words from `8 - n` on are the mask of `n` first lanes.
static MASKS: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// Puts the words of a vector packed twice, which stay in their halves, in order.
static UNPACKED: [i32; LANES] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The proof that the CPU has AVX2 and FMA, and AVX-VNNI where `VNNI`.
#[derive(Debug, Clone, Copy)]
pub struct Vectors256<const VNNI: bool>(());

/// The proof that the CPU has AVX2 and FMA.
pub type Avx2 = Vectors256<false>;

/// The proof that the CPU has AVX2, FMA and AVX-VNNI.
pub type Avx2Vnni = Vectors256<true>;

impl<const VNNI: bool> Vectors256<VNNI> {
    /// Asks the CPU.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && (!VNNI || is_x86_feature_detected!("avxvnni"));
        has.then_some(Self(()))
    }

    /// The same CPU, for what does not use VNNI.
    pub fn base(self) -> Avx2 {
        Vectors256(())
    }

    /// The mask of the `n` first lanes.
    #[inline(always)]
    fn first_lanes(self, n: usize) -> __m256i {
        let mask = MASKS[LANES - n..][..LANES].as_ptr();
        // SAFETY: `self` proves AVX; the slice above has eight words.
        unsafe { _mm256_loadu_si256(mask.cast()) }
    }
}

impl<const VNNI: bool> Vectors256<VNNI> {
    /// In each half, the upper two lanes first.
    #[inline(always)]
    fn swap_pairs(self, v: __m256) -> __m256 {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_permute_ps::<0b01_00_11_10>(v) }
    }

    /// Each lane in its neighbour's place.
    #[inline(always)]
    fn swap_neighbours(self, v: __m256) -> __m256 {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_permute_ps::<0b10_11_00_01>(v) }
    }

    #[inline(always)]
    fn first(self, v: __m256) -> f32 {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_cvtss_f32(v) }
    }

    /// The first numbers of `src`, times a factor plus an offset, as the nearest integers.
    #[inline(always)]
    fn round<E: Element>(self, src: &[E], (factor, offset): (__m256, __m256)) -> __m256i {
        let scaled = self.mul_add(E::load(self, src), factor, offset);
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_cvtps_epi32(scaled) }
    }
}

impl<const VNNI: bool> Simd for Vectors256<VNNI> {
    const MULTIPLIES_FOURS: bool = VNNI;

    type Vector = __m256;
    type Pairs = emulated::Pairs<__m256>;
    type Ints = __m256i;

    const LANES: usize = LANES;
    // 12 accumulators, two vectors of weights and one broadcast of the 16 registers.
    const TILE_ROWS: usize = 6;
    const BYTES: usize = 4 * LANES;
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
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn extremes(self, low: __m256, high: __m256) -> (f32, f32) {
        let high = self.sub(self.splat(0.0), high);
        // SAFETY: `self` proves AVX. The lower halves of both.
        let lower = unsafe { _mm256_permute2f128_ps::<0x20>(low, high) };
        // SAFETY: as above. The upper halves of both.
        let upper = unsafe { _mm256_permute2f128_ps::<0x31>(low, high) };
        let four = self.min(lower, upper);
        let two = self.min(four, self.swap_pairs(four));
        let one = self.min(two, self.swap_neighbours(two));
        // SAFETY: as above.
        let high = unsafe { _mm256_extractf128_ps::<1>(one) };
        // SAFETY: SSE belongs to x86-64.
        (self.first(one), -unsafe { _mm_cvtss_f32(high) })
    }

    #[inline(always)]
    fn has_nan(self, v: __m256) -> bool {
        // SAFETY: `self` proves AVX.
        let nans = unsafe { _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v) };
        // SAFETY: as above.
        unsafe { _mm256_movemask_ps(nans) != 0 }
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
        if VNNI {
            // SAFETY: `self` proves AVX-VNNI.
            return unsafe { _mm256_dpwssd_avx_epi32(c, a, b) };
        }
        // SAFETY: `self` proves AVX2.
        let products = unsafe { _mm256_madd_epi16(a, b) };
        // SAFETY: as above.
        unsafe { _mm256_add_epi32(c, products) }
    }

    #[inline(always)]
    fn load_bytes(self, src: &[i8]) -> __m256i {
        let src = src[..4 * LANES].as_ptr();
        // SAFETY: `self` proves AVX; the slice above has 32 bytes.
        unsafe { _mm256_loadu_si256(src.cast()) }
    }

    #[inline(always)]
    fn splat_bytes(self, four: [u8; 4]) -> __m256i {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_set1_epi32(word_of_four(four)) }
    }

    #[inline(always)]
    fn dot_bytes(self, a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        let products = unsafe { _mm256_maddubs_epi16(a, b) };
        // SAFETY: as above.
        unsafe { _mm256_add_epi16(c, products) }
    }

    #[inline(always)]
    fn dot_fours(self, a: [u8; 4], b: __m256i, c: __m256i) -> __m256i {
        if !VNNI {
            return emulated::dot_fours(self, a, b, c);
        }
        let a = self.splat_bytes(a);
        // SAFETY: `self` proves AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(c, a, b) }
    }

    #[inline(always)]
    fn widen_shorts(self, a: __m256i, c: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX.
        let ones = unsafe { _mm256_set1_epi16(1) };
        self.dot_ints(a, ones, c)
    }

    #[inline(always)]
    fn round_to_bytes<E: Element>(self, src: &[E], scale: (__m256, __m256), dst: &mut [u8]) {
        let src = &src[..Self::BYTES];
        let words = [
            self.round(src, scale),
            self.round(&src[LANES..], scale),
            self.round(&src[2 * LANES..], scale),
            self.round(&src[3 * LANES..], scale),
        ];
        // SAFETY: `self` proves AVX2.
        let low = unsafe { _mm256_packs_epi32(words[0], words[1]) };
        // SAFETY: as above.
        let high = unsafe { _mm256_packs_epi32(words[2], words[3]) };
        // SAFETY: as above.
        let bytes = unsafe { _mm256_packus_epi16(low, high) };
        // SAFETY: as above; the table has eight words.
        let order = unsafe { _mm256_loadu_si256(UNPACKED.as_ptr().cast()) };
        // SAFETY: as above.
        let bytes = unsafe { _mm256_permutevar8x32_epi32(bytes, order) };
        let dst = dst[..Self::BYTES].as_mut_ptr();
        // SAFETY: as above; the slice above has 32 bytes.
        unsafe { _mm256_storeu_si256(dst.cast(), bytes) }
    }

    #[inline(always)]
    fn ints_to_floats(self, sums: __m256i) -> __m256 {
        // SAFETY: `self` proves AVX.
        unsafe { _mm256_cvtepi32_ps(sums) }
    }

    emulated::bf16!();
}
