//! Numbers stored as f32: what they are computed with, too.

use super::{
    Element, Epilogue, Integers, Isa, MatMut, MatRef, PackedBytes, PackedMatrix, PackedShorts,
    Weights, Windows, convolve, gemm, gemm_int8, gemm_int16, simd::Simd,
};

/// Packed weights that are multiplied with f32 activations.
#[derive(Debug)]
pub enum PackedProduct {
    /// As they are.
    Floats(PackedMatrix),
    /// Both rounded to 16-bit integers.
    Shorts(PackedShorts),
    /// Both rounded to bytes.
    Bytes(PackedBytes),
}

impl PackedProduct {
    fn weights(&self) -> &dyn Weights {
        match self {
            Self::Floats(m) => m,
            Self::Shorts(m) => m,
            Self::Bytes(m) => m,
        }
    }
}

impl Weights for PackedProduct {
    fn numbers(&self) -> &'static str {
        self.weights().numbers()
    }

    fn convolves(&self) -> bool {
        matches!(self, Self::Floats(_))
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

impl Element for f32 {
    const NAME: &'static str = "f32";
    const ZERO: Self = 0.0;
    const ZEROS: &'static [Self; 16] = &[0.0; 16];

    type Wide = Self;
    type Matrix = PackedProduct;

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    fn pack(isa: Isa, weights: &[f32], bias: &[f32], n_out: usize, n_in: usize) -> PackedProduct {
        PackedProduct::Floats(PackedMatrix::pack(isa, weights, bias, n_out, n_in))
    }

    fn pack_ints(
        isa: Isa,
        integers: Integers,
        (weights, bias): (&[f32], &[f32]),
        (n_out, n_in): (usize, usize),
    ) -> PackedProduct {
        match integers {
            Integers::Bytes(kind) if n_in <= PackedBytes::MAX_INPUTS => {
                let m = PackedBytes::pack((isa, kind), (weights, bias), (n_out, n_in));
                PackedProduct::Bytes(m)
            }
            _ if n_in <= PackedShorts::MAX_INPUTS => {
                PackedProduct::Shorts(PackedShorts::pack(isa, weights, bias, n_out, n_in))
            }
            _ => Self::pack(isa, weights, bias, n_out, n_in),
        }
    }

    fn gemm<O: Element>(
        m: &PackedProduct,
        a: MatRef<'_>,
        out: MatMut<'_, O>,
        epilogue: Epilogue<'_>,
    ) {
        match m {
            PackedProduct::Floats(m) => gemm(m, a, out, epilogue),
            PackedProduct::Shorts(m) => gemm_int16(m, a, out, epilogue),
            PackedProduct::Bytes(m) => gemm_int8(m, a, out, epilogue),
        }
    }

    fn convolve<O: Element>(
        m: &PackedProduct,
        windows: Windows<'_>,
        out: MatMut<'_, O>,
        epilogue: Epilogue<'_>,
    ) {
        if let PackedProduct::Floats(m) = m {
            convolve(m, windows, out, epilogue);
        }
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, src: &[Self]) -> S::Vector {
        s.load(src)
    }

    #[inline(always)]
    fn load_part<S: Simd>(s: S, src: &[Self], n: usize) -> S::Vector {
        s.load_part(src, n)
    }

    #[inline(always)]
    fn store<S: Simd>(s: S, dst: &mut [Self], v: S::Vector) {
        s.store(dst, v);
    }

    #[inline(always)]
    fn store_part<S: Simd>(s: S, dst: &mut [Self], n: usize, v: S::Vector) {
        s.store_part(dst, n, v);
    }
}
