//! How much of a block runs at once.

use crate::{
    cpu::kernels::{Element, Isa, PackedShorts},
    graph::Shape,
};

/// What a plan is made with, besides the graph.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PlanOptions {
    pub strips: StripLimits,
    pub products: Products,
}

/// In which numbers matrix products are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Products {
    /// In those that activations are stored as.
    #[default]
    Stored,
    /// In 16-bit integers, where that is faster.
    Int16,
    /// In 16-bit integers, whatever that costs.
    #[cfg(test)]
    Int16Everywhere,
}

/// Fewest inputs and outputs of a product for which it pays to round its inputs to integers first. On Zen 3
/// that takes 0.12 to 0.26 ns an input; 32 outputs of an input save less.
const MIN_INT16: (usize, usize) = (32, 48);

impl Products {
    /// Packs `weights`, `[n_out][n_in]`, and `bias`.
    pub fn pack<E: Element>(
        self,
        isa: Isa,
        weights: &[f32],
        bias: &[f32],
        n_in: usize,
    ) -> E::Matrix {
        let n_out = bias.len();
        let is_int16 = match self {
            Self::Stored => false,
            Self::Int16 => n_in >= MIN_INT16.0 && n_out >= MIN_INT16.1,
            #[cfg(test)]
            Self::Int16Everywhere => true,
        };
        if is_int16 && n_in <= PackedShorts::MAX_INPUTS {
            E::pack_int16(isa, weights, bias, n_out, n_in)
        } else {
            E::pack(isa, weights, bias, n_out, n_in)
        }
    }
}

/// What strips of rows are cut by.
#[derive(Debug, Clone, Copy)]
pub(super) struct StripLimits {
    /// Cache that a strip's wide tensors should fit in, in bytes.
    pub cache_bytes: usize,
    /// Pixels that a strip should have at least where weights are large, since each strip reads all
    /// weights again.
    pub pixels: usize,
    /// Pixels that are lifted at once at most: blended rows that are read again while they are in cache.
    pub lifted_pixels: usize,
    /// Pixels of the small tensor that a lift multiplies at once, since each product reads all weights
    /// again.
    pub chunk_pixels: usize,
}

impl Default for StripLimits {
    /// For a second-level cache of 1 MiB, of which strips get half. Where the cache is smaller, lower strips
    /// are no better: on Zen 3 (512 KiB, 32 MiB above it) half the height took 0 to 7 % longer.
    fn default() -> Self {
        Self {
            cache_bytes: 512 * 1024,
            pixels: 192,
            lifted_pixels: 192,
            chunk_pixels: 96,
        }
    }
}

/// Weights from which on they count as large.
const LARGE_WEIGHTS: usize = 64 * 1024;

impl StripLimits {
    /// How many rows of its result a strip of a block should have. The block reads `shape` and writes
    /// `out`; `wide` are the channels in between, in whole vectors.
    pub fn rows<E: Element>(
        &self,
        [shape, out]: [Shape; 2],
        (wide, stride): (usize, usize),
        n_weights: usize,
    ) -> usize {
        let (wide_bytes, narrow_bytes) = (wide * size_of::<E::Wide>(), wide * size_of::<E>());
        let row = stride * shape.w * wide_bytes + out.w * narrow_bytes;
        let kept = (3 - stride) * shape.w * wide_bytes;
        let mut rows = self.cache_bytes.saturating_sub(kept) / row;
        if n_weights > LARGE_WEIGHTS {
            rows = rows.max(self.pixels.div_ceil(out.w));
        }
        // The depthwise convolution is fastest on two rows at once.
        rows.max(3 - stride).clamp(1, out.h)
    }

    /// How many rows as wide as `width` are lifted at once, of a strip that needs up to `n_rows`.
    pub fn lifted_rows(&self, width: usize, n_rows: usize) -> usize {
        (self.lifted_pixels / width).clamp(1, n_rows)
    }
}
