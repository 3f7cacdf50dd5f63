//! Which kernel computes an inverted residual block, and which blocks are computed so.

use lipsync_core::saturate::u32_of;

use crate::{
    cuda::{args::BlockArgs, pack::K_MULTIPLE},
    graph::Shape,
};

/// Columns of the result that four warps compute.
const COLUMNS: u32 = 16;
/// Warps of a block.
const WARPS: u32 = 4;
/// Bytes of a line of shared memory: a slice of one pixel or of one result channel.
const LINE_BYTES: u32 = 2 * K_MULTIPLE;
/// Channels of the input up to which all that is seen of it fits into shared memory.
const MAX_CHANNELS: usize = 64;
/// Channels of the result up to which the sums fit into registers.
const MAX_RESULTS: usize = 64;

/// A kernel for blocks: its stride, and the channels of the result that it has sums for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BlockTile {
    S1N32,
    S1N64,
    S2N32,
    S2N64,
}

impl BlockTile {
    /// Every kernel.
    pub const ALL: [Self; 4] = [Self::S1N32, Self::S1N64, Self::S2N32, Self::S2N64];

    /// Whether a block is computed by one kernel, by its sizes alone, so that all batches are the same: channels
    /// of its input and of its result, rows and columns of the result. Maps smaller than a tile are left to the
    /// separate kernels, and so are wide blocks, whose weights cross the device's memory and not their maps.
    pub fn suits(channels: usize, n: usize, [out_h, out_w]: [usize; 2]) -> bool {
        let is_narrow = channels <= MAX_CHANNELS && n <= MAX_RESULTS;
        is_narrow && out_h >= 8 && out_w >= COLUMNS as usize
    }

    /// Whether a map of this shape can be lifted onto one of `expanded`: what a tile sees of it fits.
    pub fn lifts(low: Shape, expanded: Shape) -> bool {
        let is_half = |low: usize, n: usize| low <= n.div_ceil(2);
        low.c <= MAX_CHANNELS && is_half(low.h, expanded.h) && is_half(low.w, expanded.w)
    }

    /// The kernel for a block.
    pub fn of(stride: u32, n: u32) -> Self {
        match (stride, n) {
            (1, ..=32) => Self::S1N32,
            (1, _) => Self::S1N64,
            (_, ..=32) => Self::S2N32,
            _ => Self::S2N64,
        }
    }

    /// The entry's name.
    pub fn entry(self) -> &'static str {
        match self {
            Self::S1N32 => "block_s1n32",
            Self::S1N64 => "block_s1n64",
            Self::S2N32 => "block_s2n32",
            Self::S2N64 => "block_s2n64",
        }
    }

    /// Pixels of the input from result to result.
    pub fn stride(self) -> u32 {
        match self {
            Self::S1N32 | Self::S1N64 => 1,
            Self::S2N32 | Self::S2N64 => 2,
        }
    }

    /// Rows of the result that four warps compute.
    fn rows(self) -> u32 {
        8 / self.stride()
    }

    /// Sums of so many channels.
    pub fn results(self) -> u32 {
        match self {
            Self::S1N32 | Self::S2N32 => 32,
            Self::S1N64 | Self::S2N64 => 64,
        }
    }

    pub(super) fn threads() -> u32 {
        WARPS * 32
    }

    pub(super) fn blocks(self, a: &BlockArgs) -> u32 {
        a.frames * a.out_h.div_ceil(self.rows()) * a.out_w.div_ceil(COLUMNS)
    }

    /// Shared memory for an input of so many channels, and so many that are lifted: what `kernels/block.cu` lays
    /// out there.
    fn shared_bytes(self, channels: u32, lifted: u32) -> u32 {
        let (stride, rows) = (self.stride(), self.rows());
        let [seen_h, seen_w] = [rows, COLUMNS].map(|n| (n - 1) * stride + 3);
        let expanded = seen_h * seen_w * LINE_BYTES;
        let convolved = (expanded + rows * COLUMNS * LINE_BYTES).next_multiple_of(128);
        let taps = 10 * K_MULTIPLE * 4;
        let projection = self.results() * LINE_BYTES;
        // Pixels and weights of both.
        let n_slices = [channels, lifted]
            .map(|n| n.div_ceil(K_MULTIPLE))
            .iter()
            .sum::<u32>();
        convolved + taps + projection + n_slices * (expanded + 32 * LINE_BYTES)
    }

    /// Shared memory that a block of this kernel needs.
    pub(super) fn shared_bytes_for(self, a: &BlockArgs) -> u32 {
        let lifted = if a.lifted == 0 { 0 } else { a.lifted_channels };
        self.shared_bytes(a.channels, lifted)
    }

    /// The most shared memory that it is ever started with.
    pub fn max_shared_bytes(self) -> u32 {
        let most = u32_of(MAX_CHANNELS);
        self.shared_bytes(most, if self.stride() == 1 { most } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is lifted for a tile fits the rows and columns that `kernels/block.cu` keeps of it, wherever the tile is
    /// and however large the maps are.
    #[test]
    fn what_a_tile_sees_of_a_smaller_map_fits() {
        for n_seen in [10, 18] {
            for n in 2..700_usize {
                // Of all that may be lifted, the largest has its pixels the furthest apart.
                let low = n.div_ceil(2);
                let first = |i: usize| i * (low - 1) / (n - 1);
                for start in 0..n {
                    let last = (start + n_seen - 1).min(n - 1);
                    let between = (first(last) + 1).min(low - 1);
                    assert!(between - first(start) < n_seen / 2 + 2, "{start} of {n}");
                }
            }
        }
    }

    #[test]
    fn every_card_has_the_shared_memory() {
        for tile in BlockTile::ALL {
            // Compute capabilities 8.6 and 8.9 let a block have 99 KB.
            assert!(tile.max_shared_bytes() <= 99 * 1024, "{tile:?}");
        }
        // What the largest maps of the full-size network take: two fit onto a multiprocessor of these cards,
        // of whose 100 KB the driver keeps one for each.
        assert!(BlockTile::S1N32.shared_bytes(32, 32) <= 49 * 1024);
    }
}
