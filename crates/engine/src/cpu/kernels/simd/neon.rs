//! Four floats in a NEON register, of which there are 32.
//!
//! Instructions for bf16 and for 8-bit matrices (`i8mm`) are not used: nobody has measured them here.
#![expect(
    unsafe_code,
    reason = "intrinsics, loads and stores through pointers, and one instruction that has no stable intrinsic"
)]

use std::{
    arch::{
        aarch64::{
            float32x4_t, int8x16_t, int16x8_t, int32x4_t, vaddq_f32, vaddq_s16, vaddq_s32,
            vceqq_f32, vcombine_s16, vcombine_u8, vcvtnq_s32_f32, vcvtq_f32_s32, vdupq_n_f32,
            vdupq_n_s32, vfmaq_f32, vget_low_s8, vget_low_s16, vld1q_f32, vld1q_s8, vld1q_s16,
            vmaxq_f32, vmaxvq_f32, vminq_f32, vminvq_f32, vminvq_u32, vmull_high_s8,
            vmull_high_s16, vmull_s8, vmull_s16, vpadalq_s16, vpaddq_s16, vpaddq_s32, vqmovn_s32,
            vqmovun_s16, vreinterpretq_s8_s32, vreinterpretq_s16_s32, vreinterpretq_s32_s8,
            vreinterpretq_s32_s16, vshlq_n_s32, vst1q_f32, vst1q_u8, vsubq_f32,
        },
        asm, is_aarch64_feature_detected,
    },
    iter::zip,
};

use super::{Simd, emulated, word_of, word_of_four};
use crate::cpu::kernels::Element;

const LANES: usize = 4;

/// The proof that the CPU has NEON, and its dot products of bytes where `DOT`.
#[derive(Debug, Clone, Copy)]
pub struct Vectors128<const DOT: bool>(());

/// The proof that the CPU has NEON.
pub type Neon = Vectors128<false>;

/// The proof that the CPU has NEON and its dot products of bytes (`FEAT_DotProd`).
pub type NeonDotprod = Vectors128<true>;

impl<const DOT: bool> Vectors128<DOT> {
    /// Asks the CPU.
    pub fn detect() -> Option<Self> {
        let has = is_aarch64_feature_detected!("neon")
            && (!DOT || is_aarch64_feature_detected!("dotprod"));
        has.then_some(Self(()))
    }

    /// The same CPU, for what multiplies no bytes.
    pub fn base(self) -> Neon {
        Vectors128(())
    }

    #[inline(always)]
    fn shorts(self, ints: int32x4_t) -> int16x8_t {
        // SAFETY: `self` proves NEON.
        unsafe { vreinterpretq_s16_s32(ints) }
    }

    #[inline(always)]
    fn bytes(self, ints: int32x4_t) -> int8x16_t {
        // SAFETY: `self` proves NEON.
        unsafe { vreinterpretq_s8_s32(ints) }
    }

    /// The first numbers of `src`, times a factor plus an offset, as the nearest integers.
    #[inline(always)]
    fn round<E: Element>(
        self,
        src: &[E],
        (factor, offset): (float32x4_t, float32x4_t),
    ) -> int32x4_t {
        let scaled = self.mul_add(E::load(self, src), factor, offset);
        // SAFETY: `self` proves NEON.
        unsafe { vcvtnq_s32_f32(scaled) }
    }

    /// The first eight numbers of `src` likewise, within 16 bits.
    #[inline(always)]
    fn round_eight<E: Element>(self, src: &[E], scale: (float32x4_t, float32x4_t)) -> int16x8_t {
        let (low, high) = (self.round(src, scale), self.round(&src[LANES..], scale));
        // SAFETY: `self` proves NEON.
        let low = unsafe { vqmovn_s32(low) };
        // SAFETY: as above.
        let high = unsafe { vqmovn_s32(high) };
        // SAFETY: as above.
        unsafe { vcombine_s16(low, high) }
    }

    /// `c + a0 b0 + a1 b1 + a2 b2 + a3 b3` of each lane's fours, which have signs.
    ///
    /// In assembly, because `vdotq_s32` is not stable in the oldest Rust that is supported. The directive has the
    /// assembler know the instruction, whatever function this ends up in.
    ///
    /// # Safety
    /// `DOT`.
    #[inline(always)]
    unsafe fn dot_signed(self, a: int32x4_t, b: int32x4_t, c: int32x4_t) -> int32x4_t {
        let mut sums = c;
        // SAFETY: the caller's promise: so `self` proves the instruction. It reads and writes these registers alone.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
                sums = inout(vreg) sums,
                a = in(vreg) a,
                b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }
}

impl<const DOT: bool> Simd for Vectors128<DOT> {
    const MULTIPLIES_FOURS: bool = DOT;
    const FOURS_LESS_128: bool = DOT;

    type Vector = float32x4_t;
    type Pairs = emulated::Pairs<float32x4_t>;
    type Ints = int32x4_t;

    const LANES: usize = LANES;
    // 24 accumulators, two vectors of weights and one broadcast of the 32 registers.
    const TILE_ROWS: usize = 12;
    const BYTES: usize = 4 * LANES;
    const FUSED: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    fn load(self, src: &[f32]) -> float32x4_t {
        let src = src[..LANES].as_ptr();
        // SAFETY: `self` proves NEON; the slice above has four floats.
        unsafe { vld1q_f32(src) }
    }

    #[inline(always)]
    fn load_part(self, src: &[f32], n: usize) -> float32x4_t {
        let mut lanes = [0.0; LANES];
        for (lane, &x) in zip(&mut lanes, &src[..n]) {
            *lane = x;
        }
        self.load(&lanes)
    }

    #[inline(always)]
    fn store(self, dst: &mut [f32], v: float32x4_t) {
        let dst = dst[..LANES].as_mut_ptr();
        // SAFETY: `self` proves NEON; the slice above has four floats.
        unsafe { vst1q_f32(dst, v) }
    }

    #[inline(always)]
    fn store_part(self, dst: &mut [f32], n: usize, v: float32x4_t) {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes, v);
        for (x, &lane) in zip(&mut dst[..n], &lanes) {
            *x = lane;
        }
    }

    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vminq_f32(a, b) }
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vmaxq_f32(a, b) }
    }

    #[inline(always)]
    fn extremes(self, low: float32x4_t, high: float32x4_t) -> (f32, f32) {
        // SAFETY: `self` proves NEON.
        let least = unsafe { vminvq_f32(low) };
        // SAFETY: as above.
        (least, unsafe { vmaxvq_f32(high) })
    }

    #[inline(always)]
    fn has_nan(self, v: float32x4_t) -> bool {
        // SAFETY: `self` proves NEON. Only a NaN differs from itself.
        let numbers = unsafe { vceqq_f32(v, v) };
        // SAFETY: as above.
        unsafe { vminvq_u32(numbers) == 0 }
    }

    #[inline(always)]
    fn relu(self, v: float32x4_t) -> float32x4_t {
        // Of a NaN and a number the instruction gives the NaN.
        self.max(v, self.splat(0.0))
    }

    #[inline(always)]
    fn no_ints(self) -> int32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    fn load_ints(self, src: &[i16]) -> int32x4_t {
        let src = src[..2 * LANES].as_ptr();
        // SAFETY: `self` proves NEON; the slice above has eight numbers of 16 bits.
        let pairs = unsafe { vld1q_s16(src) };
        // SAFETY: as above.
        unsafe { vreinterpretq_s32_s16(pairs) }
    }

    #[inline(always)]
    fn splat_ints(self, pair: [i16; 2]) -> int32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdupq_n_s32(word_of(pair)) }
    }

    #[inline(always)]
    fn dot_ints(self, a: int32x4_t, b: int32x4_t, c: int32x4_t) -> int32x4_t {
        let (a, b) = (self.shorts(a), self.shorts(b));
        // SAFETY: `self` proves NEON.
        let a_low = unsafe { vget_low_s16(a) };
        // SAFETY: as above.
        let b_low = unsafe { vget_low_s16(b) };
        // SAFETY: as above.
        let low = unsafe { vmull_s16(a_low, b_low) };
        // SAFETY: as above.
        let high = unsafe { vmull_high_s16(a, b) };
        // SAFETY: as above.
        let products = unsafe { vpaddq_s32(low, high) };
        // SAFETY: as above.
        unsafe { vaddq_s32(c, products) }
    }

    #[inline(always)]
    fn load_bytes(self, src: &[i8]) -> int32x4_t {
        let src = src[..4 * LANES].as_ptr();
        // SAFETY: `self` proves NEON; the slice above has 16 bytes.
        let fours = unsafe { vld1q_s8(src) };
        // SAFETY: as above.
        unsafe { vreinterpretq_s32_s8(fours) }
    }

    #[inline(always)]
    fn splat_bytes(self, four: [u8; 4]) -> int32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdupq_n_s32(word_of_four(four)) }
    }

    #[inline(always)]
    fn dot_bytes(self, a: int32x4_t, b: int32x4_t, c: int32x4_t) -> int32x4_t {
        // Bytes of 7 bits have the same value with a sign.
        let (a, b, c) = (self.bytes(a), self.bytes(b), self.shorts(c));
        // SAFETY: `self` proves NEON.
        let a_low = unsafe { vget_low_s8(a) };
        // SAFETY: as above.
        let b_low = unsafe { vget_low_s8(b) };
        // SAFETY: as above.
        let low = unsafe { vmull_s8(a_low, b_low) };
        // SAFETY: as above.
        let high = unsafe { vmull_high_s8(a, b) };
        // SAFETY: as above.
        let products = unsafe { vpaddq_s16(low, high) };
        // SAFETY: as above.
        let sums = unsafe { vaddq_s16(c, products) };
        // SAFETY: as above.
        unsafe { vreinterpretq_s32_s16(sums) }
    }

    #[inline(always)]
    fn dot_fours(self, a: [u8; 4], b: int32x4_t, c: int32x4_t) -> int32x4_t {
        if !DOT {
            return emulated::dot_fours(self, a, b, c);
        }
        // SAFETY: `DOT`, as asked above.
        unsafe { self.dot_signed(self.splat_bytes(a), b, c) }
    }

    #[inline(always)]
    fn start_fours(self, weights: &[i8], step: usize) -> int32x4_t {
        let mut totals = self.no_ints();
        if !DOT {
            return totals;
        }
        let ones = self.splat_bytes([1; 4]);
        for weights in weights.chunks(step) {
            // SAFETY: `DOT`, as asked above.
            totals = unsafe { self.dot_signed(ones, self.load_bytes(weights), totals) };
        }
        // SAFETY: `self` proves NEON.
        unsafe { vshlq_n_s32::<7>(totals) }
    }

    #[inline(always)]
    fn widen_shorts(self, a: int32x4_t, c: int32x4_t) -> int32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vpadalq_s16(c, self.shorts(a)) }
    }

    #[inline(always)]
    fn round_to_bytes<E: Element>(
        self,
        src: &[E],
        scale: (float32x4_t, float32x4_t),
        dst: &mut [u8],
    ) {
        let src = &src[..Self::BYTES];
        let low = self.round_eight(src, scale);
        let high = self.round_eight(&src[2 * LANES..], scale);
        // SAFETY: `self` proves NEON.
        let low = unsafe { vqmovun_s16(low) };
        // SAFETY: as above.
        let high = unsafe { vqmovun_s16(high) };
        // SAFETY: as above.
        let bytes = unsafe { vcombine_u8(low, high) };
        let dst = dst[..Self::BYTES].as_mut_ptr();
        // SAFETY: as above; the slice above has 16 bytes.
        unsafe { vst1q_u8(dst, bytes) }
    }

    #[inline(always)]
    fn ints_to_floats(self, sums: int32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vcvtq_f32_s32(sums) }
    }

    emulated::bf16!();
}
