//! bf16 and VNNI for instruction sets that do not know them: what the AVX-512 instructions compute, bf16 in f32 and
//! VNNI in products of 7 bits.
//!
//! Plain loops over lanes, which LLVM vectorises for the instruction set that they are inlined into.

use super::Simd;
use crate::cpu::kernels::{Bf16, Element};

/// Lanes of the widest vector.
const MAX_LANES: usize = 16;

/// Pairs of bf16 as the f32 that they are: the second of each pair, then the first.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<V>([V; 2]);

/// The methods of [`Simd`] that speak of bf16, for an instruction set whose `Pairs` are [`Pairs`].
macro_rules! bf16 {
    () => {
        #[inline(always)]
        fn widen(self, src: &[$crate::cpu::kernels::Bf16], n: usize) -> Self::Vector {
            $crate::cpu::kernels::simd::emulated::widen(self, src, n)
        }

        #[inline(always)]
        fn narrow(self, dst: &mut [$crate::cpu::kernels::Bf16], n: usize, v: Self::Vector) {
            $crate::cpu::kernels::simd::emulated::narrow(self, dst, n, v);
        }

        #[inline(always)]
        fn load_pairs(self, src: &[$crate::cpu::kernels::Bf16]) -> Self::Pairs {
            $crate::cpu::kernels::simd::emulated::load_pairs(self, src)
        }

        #[inline(always)]
        fn splat_pair(self, pair: [$crate::cpu::kernels::Bf16; 2]) -> Self::Pairs {
            $crate::cpu::kernels::simd::emulated::splat_pair(self, pair)
        }

        #[inline(always)]
        fn dot_pairs(self, a: Self::Pairs, b: Self::Pairs, c: Self::Vector) -> Self::Vector {
            $crate::cpu::kernels::simd::emulated::dot_pairs(self, a, b, c)
        }
    };
}
pub(super) use bf16;

/// The first `n <= LANES` numbers of `src`, which must have as many; the other lanes are 0.
#[inline(always)]
pub(super) fn widen<S: Simd>(s: S, src: &[Bf16], n: usize) -> S::Vector {
    let mut lanes = [0.0; MAX_LANES];
    for (lane, x) in lanes[..S::LANES].iter_mut().zip(&src[..n]) {
        *lane = x.to_f32();
    }
    s.load(&lanes)
}

/// Writes the `n <= LANES` first numbers of `dst`, which must have as many.
#[inline(always)]
pub(super) fn narrow<S: Simd>(s: S, dst: &mut [Bf16], n: usize, v: S::Vector) {
    let mut lanes = [0.0; MAX_LANES];
    s.store(&mut lanes, v);
    for (x, &lane) in dst[..n].iter_mut().zip(&lanes[..S::LANES]) {
        *x = Bf16::from_f32(lane);
    }
}

/// The first `LANES` pairs of `src`.
#[inline(always)]
pub(super) fn load_pairs<S: Simd>(s: S, src: &[Bf16]) -> Pairs<S::Vector> {
    let (mut second, mut first) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
    let (pairs, _) = src[..2 * S::LANES].as_chunks::<2>();
    for (i, pair) in pairs.iter().enumerate() {
        (second[i], first[i]) = (pair[1].to_f32(), pair[0].to_f32());
    }
    Pairs([s.load(&second), s.load(&first)])
}

/// The same pair in all lanes.
#[inline(always)]
pub(super) fn splat_pair<S: Simd>(s: S, [first, second]: [Bf16; 2]) -> Pairs<S::Vector> {
    Pairs([second, first].map(|x| s.splat(x.to_f32())))
}

/// `c + a1 b1 + a0 b0`, from left to right. The products are exact in f32, so whether they are
/// rounded before they are added is all the same.
#[inline(always)]
pub(super) fn dot_pairs<S: Simd>(
    s: S,
    a: Pairs<S::Vector>,
    b: Pairs<S::Vector>,
    c: S::Vector,
) -> S::Vector {
    let sum = s.mul_add(a.0[0], b.0[0], c);
    s.mul_add(a.0[1], b.0[1], sum)
}

/// `c + a0 b0 + a1 b1 + a2 b2 + a3 b3`, exact. The 7 lower bits and the eighth are multiplied apart, since two
/// products of either fit 16 bits.
#[inline(always)]
pub(super) fn dot_fours<S: Simd>(s: S, a: [u8; 4], b: S::Ints, c: S::Ints) -> S::Ints {
    let low = s.splat_bytes(a.map(|byte| byte & 0x7f));
    let high = s.splat_bytes(a.map(|byte| byte >> 7));
    let low = s.dot_bytes(low, b, s.no_ints());
    let high = s.dot_bytes(high, b, s.no_ints());
    let c = s.widen_shorts(low, c);
    s.dot_ints(high, s.splat_ints([0x80; 2]), c)
}
