//! How much of a block runs at once.

use std::{fs, path::Path, sync::LazyLock};

use crate::{
    Int8Kind, Steps,
    cpu::kernels::{Element, Integers, Isa},
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
    /// In bytes of this kind, where that is faster, in these steps; in 16-bit integers or bf16 in the others.
    Int8(Int8Kind, Steps),
    /// In these integers, whatever that costs.
    #[cfg(test)]
    Everywhere(Integers),
}

/// Fewest inputs and outputs of a product for which it pays to round its inputs to 16-bit integers first. On Zen 3
/// that takes 0.12 to 0.26 ns an input; 32 outputs of an input save less.
const MIN_INT16: (usize, usize) = (32, 48);

/// As [`MIN_INT16`], to bytes of one kind. With VNNI, products are so fast that rounding is what counts: on Zen 5 16
/// outputs take less time in f32, and 32 in bf16.
const fn min_int8(kind: Int8Kind) -> (usize, usize) {
    match kind {
        Int8Kind::Narrow => (32, 16),
        Int8Kind::Full => (32, 32),
        Int8Kind::FullBf16 => (64, 64),
    }
}

impl Products {
    /// Those of step `number` of a plan of `n_steps`.
    pub fn of_step(self, number: usize, n_steps: usize) -> Self {
        match self {
            Self::Int8(_, steps) if !steps.contains(number, n_steps) => Self::Int16,
            _ => self,
        }
    }

    /// Packs `weights`, `[n_out][n_in]`, and `bias`.
    pub fn pack<E: Element>(
        self,
        isa: Isa,
        weights: &[f32],
        bias: &[f32],
        n_in: usize,
    ) -> E::Matrix {
        let n_out = bias.len();
        let pays = |least: (usize, usize)| n_in >= least.0 && n_out >= least.1;
        let integers = match self {
            Self::Stored => None,
            Self::Int16 => pays(MIN_INT16).then_some(Integers::Shorts),
            Self::Int8(kind, _) => pays(min_int8(kind)).then_some(Integers::Bytes(kind)),
            #[cfg(test)]
            Self::Everywhere(integers) => Some(integers),
        };
        match integers {
            Some(integers) => E::pack_ints(isa, integers, (weights, bias), (n_out, n_in)),
            None => E::pack(isa, weights, bias, n_out, n_in),
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
    /// Cache that the wide tensors of two rows should fit in, in bytes, or be cut into tiles of some columns; `None`:
    /// they never are.
    pub tile_bytes: Option<usize>,
    /// Fewest columns of a tile: each computes two columns twice.
    pub tile_columns: usize,
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
            tile_bytes: tile_bytes(second_level_cache()),
            tile_columns: 24,
        }
    }
}

/// Half of a second-level cache that is smaller than 1 MiB. In a larger one two rows of all known networks have room, and
/// nobody has measured tiles there.
fn tile_bytes(cache: Option<usize>) -> Option<usize> {
    cache.filter(|&bytes| bytes < 1024 * 1024).map(|b| b / 2)
}

/// Bytes of the second-level cache of the first core, where Linux says.
fn second_level_cache() -> Option<usize> {
    static BYTES: LazyLock<Option<usize>> = LazyLock::new(|| {
        let folder = Path::new("/sys/devices/system/cpu/cpu0/cache/index2");
        let read = |name| fs::read_to_string(folder.join(name)).ok();
        let is_second = read("level")?.trim() == "2";
        parse_kib(read("size")?.trim()).filter(|_| is_second)
    });
    *BYTES
}

/// Bytes of `512K`.
fn parse_kib(text: &str) -> Option<usize> {
    let kib: usize = text.strip_suffix('K')?.parse().ok()?;
    kib.checked_mul(1024).filter(|&bytes| bytes > 0)
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

    /// Rows of the result that a strip of a tile has.
    pub const TILE_ROWS: usize = 2;

    /// How many columns of its result a tile of a block should have; see [`rows`](Self::rows). Tiles of a block read its
    /// weights as often as there are tiles, so that those with many weights have one.
    pub fn columns<E: Element>(
        &self,
        [shape, out]: [Shape; 2],
        (wide, stride): (usize, usize),
        n_weights: usize,
    ) -> usize {
        let Some(bytes) = self.tile_bytes else {
            return out.w;
        };
        let n_rows = Self::TILE_ROWS * stride + 3 - stride;
        let column =
            n_rows * stride * wide * size_of::<E::Wide>() + Self::TILE_ROWS * wide * size_of::<E>();
        let fitting = bytes / column;
        if n_weights > LARGE_WEIGHTS || fitting >= out.w || shape.h < n_rows {
            return out.w;
        }
        // All tiles about as wide.
        let n_tiles = out.w.div_ceil(fitting.max(self.tile_columns));
        out.w.div_ceil(n_tiles.max(1))
    }

    /// How many rows as wide as `width` are lifted at once, of a strip that needs up to `n_rows`.
    pub fn lifted_rows(&self, width: usize, n_rows: usize) -> usize {
        (self.lifted_pixels / width).clamp(1, n_rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_cache_is_read_and_a_large_one_needs_no_tiles() {
        assert_eq!(parse_kib("512K"), Some(512 * 1024));
        for odd in ["", "K", "0K", "1M", "-1K", "512"] {
            assert_eq!(parse_kib(odd), None, "{odd}");
        }
        assert_eq!(tile_bytes(Some(512 * 1024)), Some(256 * 1024));
        assert_eq!(tile_bytes(Some(1024 * 1024)), None);
        assert_eq!(tile_bytes(None), None);
    }

    #[test]
    fn only_rows_that_do_not_fit_are_cut_into_tiles_of_one_width() {
        let limits = StripLimits {
            tile_bytes: Some(256 * 1024),
            ..StripLimits::default()
        };
        let shape = |c, size| Shape {
            c,
            h: size,
            w: size,
        };
        let columns = |size, wide, stride, n_weights| {
            let shapes = [shape(32, size), shape(16, size / stride)];
            limits.columns::<f32>(shapes, (wide, stride), n_weights)
        };
        assert_eq!(columns(320, 128, 1, 6_000), 80);
        assert_eq!(columns(160, 128, 1, 8_000), 80);
        assert_eq!(columns(320, 64, 2, 4_000), 80);
        assert_eq!(columns(80, 128, 1, 16_000), 80, "it fits");
        assert_eq!(columns(20, 1024, 1, 400_000), 20, "many weights");
        assert_eq!(columns(160, 100_000, 1, 1), 23, "no narrower than it pays");
    }
}
