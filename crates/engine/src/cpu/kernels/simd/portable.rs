//! Four floats in plain Rust: what SSE2 and NEON hold in a register.
//!
//! LLVM turns the loops over four lanes into vector instructions of the base instruction set.

use super::{Simd, emulated};

const LANES: usize = 4;

/// The vectors that every CPU of the architecture has.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

/// Four floats.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
pub struct Four([f32; LANES]);

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

    const LANES: usize = LANES;
    const TILE_ROWS: usize = 4;
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
    fn relu(self, v: Four) -> Four {
        zip(v, v, |x, _| if 0.0 > x { 0.0 } else { x })
    }

    emulated::bf16!();
}
