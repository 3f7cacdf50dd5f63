//! Numbers stored as f32: what they are computed with, too.

use super::{Element, Epilogue, Isa, MatMut, MatRef, PackedMatrix, gemm, simd::Simd};

impl Element for f32 {
    const NAME: &'static str = "f32";
    const ZERO: Self = 0.0;
    const ZEROS: &'static [Self; 16] = &[0.0; 16];

    type Wide = Self;
    type Matrix = PackedMatrix;

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    fn pack(isa: Isa, weights: &[f32], bias: &[f32], n_out: usize, n_in: usize) -> PackedMatrix {
        PackedMatrix::pack(isa, weights, bias, n_out, n_in)
    }

    fn gemm<O: Element>(
        m: &PackedMatrix,
        a: MatRef<'_>,
        out: MatMut<'_, O>,
        epilogue: Epilogue<'_>,
    ) {
        gemm(m, a, out, epilogue);
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
