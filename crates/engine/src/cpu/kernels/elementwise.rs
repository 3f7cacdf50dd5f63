//! What is done to each value alone, in f32.
//!
//! Plain loops over slices: LLVM vectorises them for the instruction set that they are inlined into.

use super::{Element, Isa, isa::Kernel, simd::Simd};

/// `out = a + b`.
///
/// # Panics
/// When the lengths differ.
pub fn add<E: Element>(isa: Isa, a: &[E], b: &[E], out: &mut [E]) {
    assert!(
        a.len() == out.len() && b.len() == out.len(),
        "lengths differ"
    );
    isa.run(Add { a, b, out });
}

/// `dst = max(src, 0)`; a NaN stays one.
///
/// # Panics
/// When the lengths differ.
pub fn relu<E: Element>(isa: Isa, src: &[E], dst: &mut [E]) {
    assert_eq!(src.len(), dst.len(), "lengths differ");
    isa.run(Relu { src, dst });
}

/// `dst = 1 / (1 + exp(-src))`, within 1e-6; of a NaN it is unspecified.
///
/// # Panics
/// When the lengths differ.
pub fn sigmoid<E: Element>(isa: Isa, src: &[E], dst: &mut [E]) {
    assert_eq!(src.len(), dst.len(), "lengths differ");
    isa.run(Sigmoid { src, dst });
}

/// `dst = trunc(255 sigmoid(src))`: the network's output as bytes.
///
/// # Panics
/// When the lengths differ.
pub fn sigmoid_to_u8<E: Element>(isa: Isa, src: &[E], dst: &mut [u8]) {
    assert_eq!(src.len(), dst.len(), "lengths differ");
    isa.run(SigmoidToU8 { src, dst });
}

struct Add<'a, E> {
    a: &'a [E],
    b: &'a [E],
    out: &'a mut [E],
}

impl<E: Element> Kernel for Add<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for ((out, a), b) in self.out.iter_mut().zip(self.a).zip(self.b) {
            *out = E::from_f32(a.to_f32() + b.to_f32());
        }
    }
}

struct Relu<'a, E> {
    src: &'a [E],
    dst: &'a mut [E],
}

impl<E: Element> Kernel for Relu<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (dst, &x) in self.dst.iter_mut().zip(self.src) {
            let x = x.to_f32();
            *dst = E::from_f32(if 0.0 > x { 0.0 } else { x });
        }
    }
}

struct Sigmoid<'a, E> {
    src: &'a [E],
    dst: &'a mut [E],
}

impl<E: Element> Kernel for Sigmoid<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (dst, &x) in self.dst.iter_mut().zip(self.src) {
            *dst = E::from_f32(sigmoid_of::<S>(x.to_f32()));
        }
    }
}

struct SigmoidToU8<'a, E> {
    src: &'a [E],
    dst: &'a mut [u8],
}

impl<E: Element> Kernel for SigmoidToU8<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (dst, &x) in self.dst.iter_mut().zip(self.src) {
            *dst = truncate(255.0 * sigmoid_of::<S>(x.to_f32()));
        }
    }
}

/// The integer part of `x`, which must be in 0..256.
///
/// `x as u8` also has to deal with all other floats, and does not vectorise.
#[inline(always)]
fn truncate(x: f32) -> u8 {
    /// Added to a small number that is not negative, leaves its nearest integer in the low bits.
    const ROUND: f32 = 8_388_608.0; // 2^23
    let rounded = x + ROUND;
    let too_large = u8::from(rounded - ROUND > x);
    rounded.to_bits().to_le_bytes()[0].wrapping_sub(too_large)
}

#[inline(always)]
fn sigmoid_of<S: Simd>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<S>(-x))
}

/// `exp(x)` within 2 units in the last place, `x` being clamped to what keeps it a normal number.
///
/// # Source
/// The classic of Cephes' `expf`: `x = n ln 2 + r` with `|r| <= ln 2 / 2`, a polynomial for `exp(r)`, and
/// `n` added to the exponent's bits. Branch-free, so that loops around it vectorise.
#[inline(always)]
fn exp<S: Simd>(x: f32) -> f32 {
    /// Added to a small number, leaves its nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    /// ln 2 in two parts, of which the first has so few bits that its products are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 87.0 { 87.0 } else { x };
    let rounded = mul_add::<S>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = mul_add::<S>(n, -LN_2_HIGH, x);
    let r = mul_add::<S>(n, -LN_2_LOW, r);
    let mut p = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
        1.0,
        1.0,
    ] {
        p = mul_add::<S>(p, r, coefficient);
    }
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()) << 23;
    f32::from_bits(p.to_bits().wrapping_add(exponent))
}

/// `a * b + c`, fused where that is one instruction.
#[inline(always)]
fn mul_add<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FUSED { a.mul_add(b, c) } else { a * b + c }
}
