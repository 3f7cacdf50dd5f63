//! Sixteen floats in an AVX-512 register.
#![expect(
    unsafe_code,
    reason = "intrinsics, and loads and stores through pointers"
)]

use std::{
    arch::x86_64::{
        __m256bh, __m256i, __m512, __m512bh, __m512i, __mmask16, _CMP_UNORD_Q, _mm_cvtss_f32,
        _mm_storeu_si128, _mm256_mask_storeu_epi16, _mm256_maskz_loadu_epi16, _mm512_add_epi16,
        _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
        _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh, _mm512_cvtps_epi32,
        _mm512_cvtss_f32, _mm512_cvtusepi32_epi8, _mm512_dpbf16_ps, _mm512_dpbusd_epi32,
        _mm512_dpwssd_epi32, _mm512_extractf32x4_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_madd_epi16, _mm512_maddubs_epi16, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_permute_ps, _mm512_set1_epi16,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
        _mm512_shuffle_f32x4, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
    },
    mem::transmute,
};

use super::{Simd, emulated, word_of, word_of_four};
use crate::cpu::kernels::{Bf16, Element};

const LANES: usize = 16;

/// The proof that the CPU has AVX-512 F, BW, DQ and VL, BF16 where `BF16` and VNNI where `VNNI`.
#[derive(Debug, Clone, Copy)]
pub struct Vectors512<const BF16: bool, const VNNI: bool>(());

/// The proof that the CPU has AVX-512 F, BW, DQ and VL.
pub type Avx512 = Vectors512<false, false>;

/// The proof that the CPU has AVX-512 F, BW, DQ, VL and BF16.
pub type Avx512Bf16 = Vectors512<true, false>;

/// The proof that the CPU has AVX-512 F, BW, DQ, VL and VNNI.
pub type Avx512Vnni = Vectors512<false, true>;

/// The proof that the CPU has AVX-512 F, BW, DQ, VL, BF16 and VNNI.
pub type Avx512Bf16Vnni = Vectors512<true, true>;

impl Avx512Bf16Vnni {
    /// The same CPU, for what does not use bf16.
    pub fn without_bf16(self) -> Avx512Vnni {
        Vectors512(())
    }
}

impl<const BF16: bool, const VNNI: bool> Vectors512<BF16, VNNI> {
    /// Asks the CPU.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && (!BF16 || is_x86_feature_detected!("avx512bf16"))
            && (!VNNI || is_x86_feature_detected!("avx512vnni"));
        has.then_some(Self(()))
    }

    /// The same CPU, for what uses neither.
    pub fn base(self) -> Avx512 {
        Vectors512(())
    }
}

/// The mask of the `n` first lanes, all of them included.
#[inline(always)]
fn up_to_lanes(n: usize) -> __mmask16 {
    assert!(n <= LANES);
    u16::MAX >> (LANES - n).min(15) >> u16::from(n == 0)
}

/// The mask of the `n` first lanes.
#[inline(always)]
fn first_lanes(n: usize) -> __mmask16 {
    assert!(n < LANES);
    (1 << n) - 1
}

impl<const BF16: bool, const VNNI: bool> Simd for Vectors512<BF16, VNNI> {
    const MULTIPLIES_BF16: bool = BF16;
    const MULTIPLIES_FOURS: bool = VNNI;

    type Vector = __m512;
    type Pairs = __m512i;
    type Ints = __m512i;

    const LANES: usize = LANES;
    // 24 accumulators, two vectors of weights and one broadcast of the 32 registers. Fourteen rows
    // would need 31 and spill.
    const TILE_ROWS: usize = 12;
    const BYTES: usize = LANES;
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
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn extremes(self, low: __m512, high: __m512) -> (f32, f32) {
        let high = self.sub(self.splat(0.0), high);
        // SAFETY: `self` proves AVX-512 F. The lower halves of both.
        let lower = unsafe { _mm512_shuffle_f32x4::<0b01_00_01_00>(low, high) };
        // SAFETY: as above. The upper halves of both.
        let upper = unsafe { _mm512_shuffle_f32x4::<0b11_10_11_10>(low, high) };
        let eight = self.min(lower, upper);
        // SAFETY: as above. In each half, the upper four lanes first.
        let swapped = unsafe { _mm512_shuffle_f32x4::<0b10_11_00_01>(eight, eight) };
        let four = self.min(eight, swapped);
        // SAFETY: as above. In each four, the upper two first.
        let two = self.min(four, unsafe { _mm512_permute_ps::<0b01_00_11_10>(four) });
        // SAFETY: as above. Neighbours in each other's place.
        let one = self.min(two, unsafe { _mm512_permute_ps::<0b10_11_00_01>(two) });
        // SAFETY: as above.
        let high = unsafe { _mm512_extractf32x4_ps::<2>(one) };
        // SAFETY: as above.
        let least = unsafe { _mm512_cvtss_f32(one) };
        // SAFETY: SSE belongs to x86-64.
        (least, -unsafe { _mm_cvtss_f32(high) })
    }

    #[inline(always)]
    fn has_nan(self, v: __m512) -> bool {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v) != 0 }
    }

    #[inline(always)]
    fn relu(self, v: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        let zero = unsafe { _mm512_setzero_ps() };
        // SAFETY: as above. Of a NaN and a number the instruction gives its second operand.
        unsafe { _mm512_max_ps(zero, v) }
    }

    #[inline(always)]
    fn widen(self, src: &[Bf16], n: usize) -> __m512 {
        let src = src[..n].as_ptr().cast();
        // SAFETY: `self` proves AVX-512 BW and VL; only the `n` numbers of the slice above are touched.
        let halves = unsafe { _mm256_maskz_loadu_epi16(up_to_lanes(n), src) };
        // SAFETY: `self` proves AVX-512 F.
        let words = unsafe { _mm512_cvtepu16_epi32(halves) };
        // SAFETY: as above.
        let words = unsafe { _mm512_slli_epi32::<16>(words) };
        // SAFETY: as above.
        unsafe { _mm512_castsi512_ps(words) }
    }

    #[inline(always)]
    fn narrow(self, dst: &mut [Bf16], n: usize, v: __m512) {
        if !BF16 {
            return emulated::narrow(self, dst, n, v);
        }
        let dst = dst[..n].as_mut_ptr().cast();
        // SAFETY: `self` proves AVX-512 BF16.
        let halves = unsafe { _mm512_cvtneps_pbh(v) };
        // SAFETY: both are 256 bits without a meaning of their own.
        let halves = unsafe { transmute::<__m256bh, __m256i>(halves) };
        // SAFETY: `self` proves AVX-512 BW and VL; only the `n` numbers of the slice above are touched.
        unsafe { _mm256_mask_storeu_epi16(dst, up_to_lanes(n), halves) }
    }

    #[inline(always)]
    fn load_pairs(self, src: &[Bf16]) -> __m512i {
        let src = src[..2 * LANES].as_ptr();
        // SAFETY: `self` proves AVX-512 F; the slice above has 32 numbers of 16 bits.
        unsafe { _mm512_loadu_si512(src.cast()) }
    }

    #[inline(always)]
    fn splat_pair(self, [first, second]: [Bf16; 2]) -> __m512i {
        let pair = u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16;
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_set1_epi32(pair.cast_signed()) }
    }

    #[inline(always)]
    fn dot_pairs(self, a: __m512i, b: __m512i, c: __m512) -> __m512 {
        if !BF16 {
            let sum = self.mul_add(second(self, a), second(self, b), c);
            return self.mul_add(first(self, a), first(self, b), sum);
        }
        // SAFETY: both are 512 bits without a meaning of their own.
        let [a, b] = unsafe { transmute::<[__m512i; 2], [__m512bh; 2]>([a, b]) };
        // SAFETY: `self` proves AVX-512 BF16.
        unsafe { _mm512_dpbf16_ps(c, a, b) }
    }

    #[inline(always)]
    fn no_ints(self) -> __m512i {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn load_ints(self, src: &[i16]) -> __m512i {
        let src = src[..2 * LANES].as_ptr();
        // SAFETY: `self` proves AVX-512 F; the slice above has 32 numbers of 16 bits.
        unsafe { _mm512_loadu_si512(src.cast()) }
    }

    #[inline(always)]
    fn splat_ints(self, pair: [i16; 2]) -> __m512i {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_set1_epi32(word_of(pair)) }
    }

    #[inline(always)]
    fn dot_ints(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        if VNNI {
            // SAFETY: `self` proves AVX-512 VNNI.
            return unsafe { _mm512_dpwssd_epi32(c, a, b) };
        }
        // SAFETY: `self` proves AVX-512 BW.
        let products = unsafe { _mm512_madd_epi16(a, b) };
        // SAFETY: as above.
        unsafe { _mm512_add_epi32(c, products) }
    }

    #[inline(always)]
    fn load_bytes(self, src: &[i8]) -> __m512i {
        let src = src[..4 * LANES].as_ptr();
        // SAFETY: `self` proves AVX-512 F; the slice above has 64 bytes.
        unsafe { _mm512_loadu_si512(src.cast()) }
    }

    #[inline(always)]
    fn splat_bytes(self, four: [u8; 4]) -> __m512i {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_set1_epi32(word_of_four(four)) }
    }

    #[inline(always)]
    fn dot_bytes(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512 BW.
        let products = unsafe { _mm512_maddubs_epi16(a, b) };
        // SAFETY: as above.
        unsafe { _mm512_add_epi16(c, products) }
    }

    #[inline(always)]
    fn dot_fours(self, a: [u8; 4], b: __m512i, c: __m512i) -> __m512i {
        if !VNNI {
            return emulated::dot_fours(self, a, b, c);
        }
        let a = self.splat_bytes(a);
        // SAFETY: `self` proves AVX-512 VNNI.
        unsafe { _mm512_dpbusd_epi32(c, a, b) }
    }

    #[inline(always)]
    fn widen_shorts(self, a: __m512i, c: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512 F.
        let ones = unsafe { _mm512_set1_epi16(1) };
        self.dot_ints(a, ones, c)
    }

    #[inline(always)]
    fn round_to_bytes<E: Element>(
        self,
        src: &[E],
        (factor, offset): (__m512, __m512),
        dst: &mut [u8],
    ) {
        let scaled = self.mul_add(E::load(self, src), factor, offset);
        // SAFETY: `self` proves AVX-512 F.
        let words = unsafe { _mm512_cvtps_epi32(scaled) };
        // SAFETY: as above.
        let bytes = unsafe { _mm512_cvtusepi32_epi8(words) };
        let dst = dst[..LANES].as_mut_ptr();
        // SAFETY: `self` proves AVX; the slice above has 16 bytes.
        unsafe { _mm_storeu_si128(dst.cast(), bytes) }
    }

    #[inline(always)]
    fn ints_to_floats(self, sums: __m512i) -> __m512 {
        // SAFETY: `self` proves AVX-512 F.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}

/// The first of each pair, widened.
#[inline(always)]
fn first<const BF16: bool, const VNNI: bool>(_: Vectors512<BF16, VNNI>, pairs: __m512i) -> __m512 {
    // SAFETY: the argument proves AVX-512 F.
    let words = unsafe { _mm512_slli_epi32::<16>(pairs) };
    // SAFETY: as above.
    unsafe { _mm512_castsi512_ps(words) }
}

/// The second of each pair, widened.
#[inline(always)]
fn second<const BF16: bool, const VNNI: bool>(_: Vectors512<BF16, VNNI>, pairs: __m512i) -> __m512 {
    // SAFETY: the argument proves AVX-512 F.
    let upper_halves = unsafe { _mm512_set1_epi32(0xffff_0000_u32.cast_signed()) };
    // SAFETY: as above.
    let words = unsafe { _mm512_and_si512(pairs, upper_halves) };
    // SAFETY: as above.
    unsafe { _mm512_castsi512_ps(words) }
}
