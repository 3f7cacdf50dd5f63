//! Four floats in plain Rust: what SSE2 holds in a register.
//!
//! LLVM turns the loops over four lanes into vector instructions of the base instruction set.

use super::{
    super::{Element, gemm_int8::nearest_byte},
    Simd, emulated, word_of, word_of_four,
};

const LANES: usize = 4;

/// The vectors that every CPU of the architecture has.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

/// Four floats.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
pub struct Four([f32; LANES]);

/// Four pairs of 16-bit integers, or four sums.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
pub struct FourInts([i32; LANES]);

#[inline(always)]
fn zip(a: Four, b: Four, f: impl Fn(f32, f32) -> f32) -> Four {
    Four([
        f(a.0[0], b.0[0]),
        f(a.0[1], b.0[1]),
        f(a.0[2], b.0[2]),
        f(a.0[3], b.0[3]),
    ])
}

impl Simd for Portable {
    type Vector = Four;
    type Pairs = emulated::Pairs<Four>;
    type Ints = FourInts;

    const LANES: usize = LANES;
    const TILE_ROWS: usize = 4;
    const BYTES: usize = LANES;
    // Where the base instruction set has no fused multiply-add, `f32::mul_add` is a library call.
    const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

    #[inline(always)]
    fn splat(self, x: f32) -> Four {
        Four([x; LANES])
    }

    #[inline(always)]
    fn load(self, src: &[f32]) -> Four {
        Four([src[0], src[1], src[2], src[3]])
    }

    #[inline(always)]
    fn load_part(self, src: &[f32], n: usize) -> Four {
        let mut lanes = [0.0; LANES];
        for (lane, &x) in lanes.iter_mut().zip(&src[..n]) {
            *lane = x;
        }
        Four(lanes)
    }

    #[inline(always)]
    fn store(self, dst: &mut [f32], v: Four) {
        dst[..LANES].copy_from_slice(&v.0);
    }

    #[inline(always)]
    fn store_part(self, dst: &mut [f32], n: usize, v: Four) {
        for (x, &lane) in dst[..n].iter_mut().zip(&v.0) {
            *x = lane;
        }
    }

    #[inline(always)]
    fn mul_add(self, a: Four, b: Four, c: Four) -> Four {
        if Self::FUSED {
            Four([
                a.0[0].mul_add(b.0[0], c.0[0]),
                a.0[1].mul_add(b.0[1], c.0[1]),
                a.0[2].mul_add(b.0[2], c.0[2]),
                a.0[3].mul_add(b.0[3], c.0[3]),
            ])
        } else {
            self.add(zip(a, b, |a, b| a * b), c)
        }
    }

    #[inline(always)]
    fn add(self, a: Four, b: Four) -> Four {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Four, b: Four) -> Four {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn min(self, a: Four, b: Four) -> Four {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: Four, b: Four) -> Four {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn extremes(self, low: Four, high: Four) -> (f32, f32) {
        let least = low.0.into_iter().fold(f32::INFINITY, f32::min);
        (least, high.0.into_iter().fold(f32::NEG_INFINITY, f32::max))
    }

    #[inline(always)]
    fn has_nan(self, v: Four) -> bool {
        v.0.into_iter().any(f32::is_nan)
    }

    #[inline(always)]
    fn relu(self, v: Four) -> Four {
        zip(v, v, |x, _| if 0.0 > x { 0.0 } else { x })
    }

    #[inline(always)]
    fn no_ints(self) -> FourInts {
        FourInts([0; LANES])
    }

    #[inline(always)]
    fn load_ints(self, src: &[i16]) -> FourInts {
        let pair = |i: usize| word_of([src[2 * i], src[2 * i + 1]]);
        FourInts([pair(0), pair(1), pair(2), pair(3)])
    }

    #[inline(always)]
    fn splat_ints(self, pair: [i16; 2]) -> FourInts {
        FourInts([word_of(pair); LANES])
    }

    #[inline(always)]
    fn dot_ints(self, a: FourInts, b: FourInts, c: FourInts) -> FourInts {
        let dot = |i: usize| {
            let ([a0, a1], [b0, b1]) = (pair_of(a.0[i]), pair_of(b.0[i]));
            c.0[i] + i32::from(a0) * i32::from(b0) + i32::from(a1) * i32::from(b1)
        };
        FourInts([dot(0), dot(1), dot(2), dot(3)])
    }

    #[inline(always)]
    fn load_bytes(self, src: &[i8]) -> FourInts {
        let four = |i: usize| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|byte| src[4 * i + byte].cast_unsigned());
            word_of_four([a, b, c, d])
        };
        FourInts([four(0), four(1), four(2), four(3)])
    }

    #[inline(always)]
    fn splat_bytes(self, four: [u8; 4]) -> FourInts {
        FourInts([word_of_four(four); LANES])
    }

    #[inline(always)]
    fn dot_bytes(self, a: FourInts, b: FourInts, c: FourInts) -> FourInts {
        let dot = |i: usize| {
            let (a, b) = (a.0[i].to_le_bytes(), b.0[i].to_le_bytes());
            let product = |k: usize| i16::from(a[k]).wrapping_mul(i16::from(b[k].cast_signed()));
            let [low, high] = pair_of(c.0[i]);
            // The caller keeps the sums within 16 bits.
            let low = low.wrapping_add(product(0)).wrapping_add(product(1));
            let high = high.wrapping_add(product(2)).wrapping_add(product(3));
            word_of([low, high])
        };
        FourInts([dot(0), dot(1), dot(2), dot(3)])
    }

    #[inline(always)]
    fn dot_fours(self, a: [u8; 4], b: FourInts, c: FourInts) -> FourInts {
        emulated::dot_fours(self, a, b, c)
    }

    #[inline(always)]
    fn widen_shorts(self, a: FourInts, c: FourInts) -> FourInts {
        self.dot_ints(a, self.splat_ints([1, 1]), c)
    }

    #[inline(always)]
    fn round_to_bytes<E: Element>(self, src: &[E], (factor, offset): (Four, Four), dst: &mut [u8]) {
        let scaled = self.mul_add(E::load(self, src), factor, offset);
        for (byte, x) in dst[..LANES].iter_mut().zip(scaled.0) {
            *byte = nearest_byte(x);
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "the nearest float is what is asked for"
    )]
    #[inline(always)]
    fn ints_to_floats(self, sums: FourInts) -> Four {
        Four(sums.0.map(|sum| sum as f32))
    }

    emulated::bf16!();
}

/// The pair that [`word_of`] packed.
#[inline(always)]
fn pair_of(word: i32) -> [i16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d])]
}
