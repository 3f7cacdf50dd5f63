//! The 16-bit float that is the upper half of an f32.

use super::{
    Element, Epilogue, Integers, Isa, MatMut, MatRef, PackedBytes, PackedPairs, Weights, gemm_bf16,
    gemm_int8, simd::Simd,
};

/// A bf16: sign, the 8 exponent bits of an f32, 7 bits of mantissa.
///
/// Rounding is that of the AVX-512 instruction, so that every instruction set stores the same bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Bf16 {
    /// The bits.
    #[inline(always)]
    #[must_use]
    pub fn to_bits(self) -> u16 {
        self.0
    }
}

/// Packed weights that are multiplied with bf16 activations.
#[derive(Debug)]
pub enum PackedBf16Product {
    /// In bf16.
    Pairs(PackedPairs),
    /// Both rounded to bytes.
    Bytes(PackedBytes),
}

impl PackedBf16Product {
    fn weights(&self) -> &dyn Weights {
        match self {
            Self::Pairs(m) => m,
            Self::Bytes(m) => m,
        }
    }
}

impl Weights for PackedBf16Product {
    fn numbers(&self) -> &'static str {
        self.weights().numbers()
    }

    fn bytes(&self) -> usize {
        self.weights().bytes()
    }

    fn n_in(&self) -> usize {
        self.weights().n_in()
    }

    fn n_out(&self) -> usize {
        self.weights().n_out()
    }
}

impl Element for Bf16 {
    const NAME: &'static str = "bf16";
    const IS_BF16: bool = true;
    const ZERO: Self = Self(0);
    const ZEROS: &'static [Self; 16] = &[Self(0); 16];

    // Rounding the widest tensors would cost time and digits, and they never leave the cache.
    type Wide = f32;
    type Matrix = PackedBf16Product;

    /// The nearest bf16, the even one of two. Denormal numbers become zeros of their sign, a NaN
    /// stays one.
    ///
    /// # Source
    /// `convert_fp32_to_bfloat16` of `VCVTNEPS2BF16` in Intel's Software Developer's Manual.
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        let bits = x.to_bits();
        let is_odd = bits >> 16 & 1;
        let mut rounded = bits.wrapping_add(0x7fff + is_odd) >> 16;
        if bits & 0x7f80_0000 == 0 {
            rounded = bits >> 16 & 0x8000;
        }
        if x.is_nan() {
            rounded = bits >> 16 | 0x40;
        }
        let [low, high, ..] = rounded.to_le_bytes();
        Self(u16::from_le_bytes([low, high]))
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    fn pack(
        isa: Isa,
        weights: &[f32],
        bias: &[f32],
        n_out: usize,
        n_in: usize,
    ) -> PackedBf16Product {
        PackedBf16Product::Pairs(PackedPairs::pack(isa, weights, bias, n_out, n_in))
    }

    /// bf16 itself takes the place of 16-bit integers: it is as fast.
    fn pack_ints(
        isa: Isa,
        integers: Integers,
        (weights, bias): (&[f32], &[f32]),
        (n_out, n_in): (usize, usize),
    ) -> PackedBf16Product {
        match integers {
            Integers::Bytes(kind) if n_in <= PackedBytes::MAX_INPUTS => {
                let m = PackedBytes::pack((isa, kind), (weights, bias), (n_out, n_in));
                PackedBf16Product::Bytes(m)
            }
            _ => Self::pack(isa, weights, bias, n_out, n_in),
        }
    }

    fn gemm<O: Element>(
        m: &PackedBf16Product,
        a: MatRef<'_, Self>,
        out: MatMut<'_, O>,
        epilogue: Epilogue<'_, Self>,
    ) {
        match m {
            PackedBf16Product::Pairs(m) => gemm_bf16(m, a, out, epilogue),
            PackedBf16Product::Bytes(m) => gemm_int8(m, a, out, epilogue),
        }
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, src: &[Self]) -> S::Vector {
        s.widen(src, S::LANES)
    }

    #[inline(always)]
    fn load_part<S: Simd>(s: S, src: &[Self], n: usize) -> S::Vector {
        s.widen(src, n)
    }

    #[inline(always)]
    fn store<S: Simd>(s: S, dst: &mut [Self], v: S::Vector) {
        s.narrow(dst, S::LANES, v);
    }

    #[inline(always)]
    fn store_part<S: Simd>(s: S, dst: &mut [Self], n: usize, v: S::Vector) {
        s.narrow(dst, n, v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_the_nearest_and_halves_to_even() {
        let cases = [
            (1.0, 1.0),
            // 1 + 2^-8 lies half-way between 1 and 1 + 2^-7.
            (1.0 + 1.0 / 256.0, 1.0),
            (1.003_907, 1.007_812_5),
            (1.0 + 3.0 / 256.0, 1.015_625),
            (-1.0 - 3.0 / 256.0, -1.015_625),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
        ];
        for (x, expected) in cases {
            assert_eq!(Bf16::from_f32(x).to_f32(), expected, "{x}");
        }
        let zero = Bf16::from_f32(-f32::MIN_POSITIVE / 2.0);
        assert_eq!(zero.to_bits(), 0x8000, "a denormal becomes a zero");
        for nan in [f32::NAN, f32::from_bits(0xff80_0001)] {
            assert!(Bf16::from_f32(nan).to_f32().is_nan());
        }
    }

    #[test]
    fn every_bf16_that_is_no_denormal_survives() {
        for bits in 0..=u16::MAX {
            let x = Bf16(bits).to_f32();
            if !x.is_nan() && !x.is_subnormal() {
                assert_eq!(Bf16::from_f32(x).to_bits(), bits);
            }
        }
    }
}
