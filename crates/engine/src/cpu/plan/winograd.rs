//! When a convolution runs by Winograd's algorithm, and on how much of the map at once.

use std::fmt;

use super::{
    strips::Products,
    tensor::{Source, Target},
};
use crate::{
    cpu::{
        arena::ScratchSize,
        kernels::{CHANNELS_MULTIPLE, Element, Isa, Maps, PackedWinograd, TILE, winograd},
    },
    graph::{Conv, Shape, op::Window},
};

/// Fewest tiles of a map for which it pays: each set of tiles reads four times the weights of a direct
/// convolution.
const MIN_TILES: usize = 9;
/// Numbers at all points of the tiles that run at once: a second-level cache of 512 KiB.
const CACHED_NUMBERS: usize = 128 * 1024;
/// Tiles that run at once at least, since all of them together read the weights once. Whole register tiles on
/// every instruction set.
const MIN_AT_ONCE: usize = 24;
const REGISTER_ROWS: usize = 12;

/// A packed convolution.
#[derive(Debug)]
pub(super) struct Winograd {
    packed: PackedWinograd,
    relu: bool,
    at_once: usize,
}

impl Winograd {
    /// Packs a convolution to `out` where that is faster than a direct one.
    ///
    /// Not for bf16, whose products are as fast and take a quarter of the weights; nor for 16-bit integers,
    /// which would have to be rounded at every point.
    pub fn pack<E: Element>(
        (isa, products): (Isa, Products),
        conv: &Conv,
        [shape, out]: [Shape; 2],
    ) -> Option<Self> {
        let window = Window {
            kernel: [3; 2],
            stride: [1; 2],
            pads: [1; 4],
        };
        let n_tiles = out.h.div_ceil(TILE) * out.w.div_ceil(TILE);
        let fits = conv.groups == 1
            && conv.window == window
            && [shape.c, out.c]
                .iter()
                .all(|c| c.is_multiple_of(CHANNELS_MULTIPLE));
        if !fits || n_tiles < MIN_TILES || E::IS_BF16 || products != Products::Stored {
            return None;
        }
        let packed = PackedWinograd::pack(isa, &conv.weights, &conv.bias, shape.c);
        let cached = CACHED_NUMBERS / packed.scratch_len(1) / REGISTER_ROWS * REGISTER_ROWS;
        Some(Self {
            packed,
            relu: conv.relu,
            at_once: cached.max(MIN_AT_ONCE).min(n_tiles),
        })
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// Working memory.
    pub fn scratch(&self) -> ScratchSize {
        ScratchSize {
            floats: self.packed.scratch_len(self.at_once),
            ..ScratchSize::default()
        }
    }

    /// Multiplications and additions of a pixel, counted in pairs, as the file has them.
    pub fn macs_per_pixel(&self) -> usize {
        9 * self.packed.c_in() * self.packed.c_out()
    }

    /// Runs one frame.
    pub fn run<E: Element>(
        &self,
        (input, added): (Source<'_, E>, Option<Source<'_, E>>),
        target: &mut Target<'_, E>,
        scratch: &mut [f32],
    ) {
        let Shape { h, w, .. } = target.shape;
        let maps = Maps {
            input: input.dense(),
            size: (h, w),
            stride: target.stride,
            out: &mut *target.data,
            added: added.map(|added| added.rows(0..h)),
            relu: self.relu,
        };
        let n_floats = self.packed.scratch_len(self.at_once);
        winograd(&self.packed, maps, self.at_once, &mut scratch[..n_floats]);
    }
}

impl fmt::Display for Winograd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "conv 3x3 {}-{} / 1x1",
            self.packed.c_in(),
            self.packed.c_out()
        )
    }
}
