//! How much of a block runs at once.

use crate::{graph::Shape, kernels::Element};

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
    /// For a second-level cache of 1 MiB, of which strips get half.
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
