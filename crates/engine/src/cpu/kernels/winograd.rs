//! Dense 3x3 convolutions that keep the size, with a quarter of the multiplications.
//!
//! Winograd's minimal filtering, F(4x4, 3x3): a tile of 4x4 results depends on 6x6 inputs. Both are values of
//! polynomials of degree 5 in two variables, and such a product is known from its values at 6x6 points: there
//! it is one multiplication a point instead of nine a result. So inputs are *spread* to the 36 points, each
//! point is a matrix product over the channels ([`gemm`](super::gemm()), with the tiles as its rows), and the
//! products are *gathered* to results.
//!
//! The points are 0, 3/4, -3/4, 3/2, -3/2 and infinity. Every constant of the transforms is then exact, and
//! the error in f32 is half of what the usual points 0, 1, -1, 2, -2 give: some 7e-7 of the norm for 256
//! channels, where direct sums have 2e-7.
//!
//! # Source
//! Lavin and Gray, "Fast algorithms for convolutional neural networks" (2015); for the choice of points, Barabasz
//! et al., "Error analysis and improving the accuracy of Winograd convolution" (2018).

use super::{
    Element, Epilogue, Isa, MatMut, MatRef, PackedMatrix, Weights, gemm, isa::Kernel, simd::Simd,
};

/// Results of a tile along an axis.
pub const TILE: usize = 4;
/// Inputs of a tile along an axis, and points.
const SIDE: usize = 6;
/// Points of a tile.
const POINTS: usize = SIDE * SIDE;
/// Channels must be a multiple of this: whole vectors on every instruction set.
pub const CHANNELS_MULTIPLE: usize = 16;

/// The points beside 0 and infinity, with either sign.
const NEAR: f32 = 0.75;
const FAR: f32 = 1.5;
const NEAR_2: f32 = NEAR * NEAR;
const FAR_2: f32 = FAR * FAR;
/// An input that is a zero beyond the edge.
const OUTSIDE: usize = usize::MAX;

/// The weights of a 3x3 convolution at all points.
#[derive(Debug)]
pub struct PackedWinograd {
    isa: Isa,
    /// `[c_out][c_in]` for each point, row by row.
    points: Vec<PackedMatrix>,
    bias: Vec<f32>,
    c_in: usize,
    c_out: usize,
}

impl PackedWinograd {
    /// Packs `weights`, `[c_out][c_in][3][3]`, and `bias`, `[c_out]`, for `isa`.
    ///
    /// # Panics
    /// When a length does not fit, or channels are no multiple of [`CHANNELS_MULTIPLE`].
    #[must_use]
    pub fn pack(isa: Isa, weights: &[f32], bias: &[f32], c_in: usize) -> Self {
        let c_out = bias.len();
        assert_eq!(
            weights.len(),
            c_out * c_in * 9,
            "weights are [c_out][c_in][3][3]"
        );
        let fits = [c_in, c_out]
            .iter()
            .all(|c| c.is_multiple_of(CHANNELS_MULTIPLE));
        assert!(
            fits,
            "{c_in} to {c_out} channels are no multiples of {CHANNELS_MULTIPLE}"
        );
        let no_bias = vec![0.0; c_out];
        let at = |(y, x): (usize, usize)| {
            let values: Vec<f32> = weights.chunks_exact(9).map(|w| value_at(w, y, x)).collect();
            PackedMatrix::pack(isa, &values, &no_bias, c_out, c_in)
        };
        let points = (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x)));
        Self {
            isa,
            points: points.map(at).collect(),
            bias: bias.to_vec(),
            c_in,
            c_out,
        }
    }

    /// Bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let points: usize = self.points.iter().map(PackedMatrix::bytes).sum();
        points + self.bias.len() * size_of::<f32>()
    }

    /// Channels of the input.
    #[must_use]
    pub fn c_in(&self) -> usize {
        self.c_in
    }

    /// Channels of the result.
    #[must_use]
    pub fn c_out(&self) -> usize {
        self.c_out
    }

    /// Numbers of working memory for `n_tiles` tiles at once.
    #[must_use]
    pub fn scratch_len(&self, n_tiles: usize) -> usize {
        POINTS * n_tiles * (self.c_in + self.c_out)
    }
}

/// The three coefficients of a polynomial of degree 2 that give its value at a point, divided by what the
/// interpolation of degree 5 divides that point's product by.
fn at_point(point: usize) -> [f64; 3] {
    let (near, far) = (f64::from(NEAR_2), f64::from(FAR_2));
    let at = |x: f64, divisor: f64| [1.0 / divisor, x / divisor, x * x / divisor];
    match point {
        0 => at(0.0, near * far),
        1 => at(f64::from(NEAR), 2.0 * near * (near - far)),
        2 => at(f64::from(-NEAR), 2.0 * near * (near - far)),
        3 => at(f64::from(FAR), 2.0 * far * (far - near)),
        4 => at(f64::from(-FAR), 2.0 * far * (far - near)),
        _ => [0.0, 0.0, 1.0],
    }
}

/// The value of a 3x3 kernel at a point.
#[expect(
    clippy::cast_possible_truncation,
    reason = "summed in f64, multiplied in f32"
)]
fn value_at(kernel: &[f32], y: usize, x: usize) -> f32 {
    let (rows, columns) = (at_point(y), at_point(x));
    let row = |r: usize| -> f64 {
        let weights = kernel[3 * r..3 * r + 3].iter().zip(columns);
        weights.map(|(&w, c)| f64::from(w) * c).sum()
    };
    rows.iter()
        .enumerate()
        .map(|(r, c)| c * row(r))
        .sum::<f64>() as f32
}

/// What a convolution reads and writes, besides its weights.
#[derive(Debug)]
pub struct Maps<'a, E> {
    /// A whole tensor, `[h][w][c_in]`.
    pub input: &'a [E],
    /// Rows and columns, of the input as of the result.
    pub size: (usize, usize),
    /// The result: pixels of `c_out` channels, `stride` elements from one to the next.
    pub out: &'a mut [E],
    /// See `out`.
    pub stride: usize,
    /// What is added to it: one row a pixel.
    pub added: Option<MatRef<'a, E>>,
    /// Negative results become zero, after the addition.
    pub relu: bool,
}

/// `out = act(conv(input) + bias + added)`, with zeros around the input, `at_once` tiles at a time.
///
/// `scratch` has [`PackedWinograd::scratch_len`] numbers.
///
/// # Panics
/// When a length does not fit.
pub fn winograd<E: Element>(
    m: &PackedWinograd,
    mut maps: Maps<'_, E>,
    at_once: usize,
    scratch: &mut [f32],
) {
    let (h, w) = maps.size;
    let n_pixels = h * w;
    assert_eq!(maps.input.len(), n_pixels * m.c_in, "input is [h][w][c_in]");
    if n_pixels == 0 {
        return;
    }
    assert!(maps.stride >= m.c_out, "out: pixels overlap");
    let needed = (n_pixels - 1) * maps.stride + m.c_out;
    assert!(maps.out.len() >= needed, "out: {needed} elements needed");
    if let Some(added) = &maps.added {
        added.check(m.c_out, "added");
        assert_eq!(added.rows, n_pixels, "added has a row a pixel");
    }
    let columns = w.div_ceil(TILE);
    let n_tiles = h.div_ceil(TILE) * columns;
    let (spread, products) = scratch.split_at_mut(POINTS * at_once * m.c_in);
    let products = &mut products[..POINTS * at_once * m.c_out];
    for first in (0..n_tiles).step_by(at_once) {
        let n = at_once.min(n_tiles - first);
        let tiles = Tiles {
            first,
            n,
            columns,
            at_once,
        };
        m.isa.run(Spread {
            m,
            maps: &maps,
            tiles,
            spread: &mut *spread,
        });
        let inputs = spread.chunks_exact(at_once * m.c_in);
        let outputs = products.chunks_exact_mut(at_once * m.c_out);
        for ((matrix, data), out) in m.points.iter().zip(inputs).zip(outputs) {
            let rows = MatRef {
                data,
                rows: n,
                stride: m.c_in,
            };
            gemm(
                matrix,
                rows,
                MatMut::new(out, m.c_out),
                Epilogue::new(false),
            );
        }
        m.isa.run(Gather {
            m,
            maps: &mut maps,
            tiles,
            products: &*products,
        });
    }
}

/// Tiles that are computed together.
#[derive(Debug, Clone, Copy)]
struct Tiles {
    first: usize,
    n: usize,
    /// Tiles of a row.
    columns: usize,
    /// Tiles that a point has room for.
    at_once: usize,
}

impl Tiles {
    /// Row and column of the first result of tile `t` of these.
    #[inline(always)]
    fn place(self, t: usize) -> (usize, usize) {
        let tile = self.first + t;
        (tile / self.columns * TILE, tile % self.columns * TILE)
    }
}

struct Spread<'a, 'm, E> {
    m: &'a PackedWinograd,
    maps: &'a Maps<'m, E>,
    tiles: Tiles,
    /// `[POINTS][at_once][c_in]`.
    spread: &'a mut [f32],
}

impl<E: Element> Kernel for Spread<'_, '_, E> {
    const BF16: bool = E::IS_BF16;

    #[expect(
        clippy::needless_range_loop,
        reason = "a closure over registers may not be inlined"
    )]
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let c_in = self.m.c_in;
        let plane = self.tiles.at_once * c_in;
        for t in 0..self.tiles.n {
            let places = self.places(t);
            for c in (0..c_in).step_by(S::LANES) {
                let mut columns = [[s.splat(0.0); SIDE]; SIDE];
                for (x, column) in columns.iter_mut().enumerate() {
                    let mut inputs = [s.splat(0.0); SIDE];
                    for (y, input) in inputs.iter_mut().enumerate() {
                        let place = places[y * SIDE + x];
                        if place != OUTSIDE {
                            *input = E::load(s, &self.maps.input[place + c..]);
                        }
                    }
                    *column = spread(s, inputs);
                }
                for y in 0..SIDE {
                    let mut row = [s.splat(0.0); SIDE];
                    for (x, value) in row.iter_mut().enumerate() {
                        *value = columns[x][y];
                    }
                    let row = spread(s, row);
                    let start = y * SIDE * plane + t * c_in + c;
                    for (x, &value) in row.iter().enumerate() {
                        s.store(&mut self.spread[start + x * plane..], value);
                    }
                }
            }
        }
    }
}

impl<E: Element> Spread<'_, '_, E> {
    /// Where the inputs of a tile are.
    #[inline(always)]
    fn places(&self, t: usize) -> [usize; POINTS] {
        let (h, w) = self.maps.size;
        let (top, left) = self.tiles.place(t);
        let mut places = [OUTSIDE; POINTS];
        for (i, place) in places.iter_mut().enumerate() {
            // One row and one column before the first result.
            let (y, x) = (top + i / SIDE, left + i % SIDE);
            if (1..=h).contains(&y) && (1..=w).contains(&x) {
                *place = ((y - 1) * w + x - 1) * self.m.c_in;
            }
        }
        places
    }
}

struct Gather<'a, 'm, E> {
    m: &'a PackedWinograd,
    maps: &'a mut Maps<'m, E>,
    tiles: Tiles,
    /// `[POINTS][at_once][c_out]`.
    products: &'a [f32],
}

impl<E: Element> Kernel for Gather<'_, '_, E> {
    const BF16: bool = E::IS_BF16;

    #[expect(
        clippy::needless_range_loop,
        reason = "a closure over registers may not be inlined"
    )]
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let c_out = self.m.c_out;
        let plane = self.tiles.at_once * c_out;
        for t in 0..self.tiles.n {
            for c in (0..c_out).step_by(S::LANES) {
                let mut columns = [[s.splat(0.0); TILE]; SIDE];
                for (x, column) in columns.iter_mut().enumerate() {
                    let mut values = [s.splat(0.0); SIDE];
                    for (y, value) in values.iter_mut().enumerate() {
                        let start = (y * SIDE + x) * plane + t * c_out + c;
                        *value = s.load(&self.products[start..]);
                    }
                    *column = gather(s, values);
                }
                for y in 0..TILE {
                    let mut row = [s.splat(0.0); SIDE];
                    for (x, value) in row.iter_mut().enumerate() {
                        *value = columns[x][y];
                    }
                    self.finish(s, (t, y, c), gather(s, row));
                }
            }
        }
    }
}

impl<E: Element> Gather<'_, '_, E> {
    /// Writes the results of row `y` of a tile, as far as they are on the map.
    #[inline(always)]
    fn finish<S: Simd>(
        &mut self,
        s: S,
        (t, y, c): (usize, usize, usize),
        results: [S::Vector; TILE],
    ) {
        let (h, w) = self.maps.size;
        let (top, left) = self.tiles.place(t);
        if top + y >= h {
            return;
        }
        let bias = s.load(&self.m.bias[c..]);
        for (x, &result) in results.iter().enumerate() {
            if left + x >= w {
                break;
            }
            let pixel = (top + y) * w + left + x;
            let mut result = s.add(result, bias);
            if let Some(added) = &self.maps.added {
                let added = E::load(s, &added.data[pixel * added.stride + c..]);
                result = s.add(result, added);
            }
            if self.maps.relu {
                result = s.relu(result);
            }
            E::store(
                s,
                &mut self.maps.out[pixel * self.maps.stride + c..],
                result,
            );
        }
    }
}

/// Six inputs along an axis, spread to six points.
#[inline(always)]
fn spread<S: Simd>(s: S, d: [S::Vector; SIDE]) -> [S::Vector; SIDE] {
    let times = |x, factor, y| s.mul_add(x, s.splat(factor), y);
    let (near_even, near_odd) = (times(d[2], -FAR_2, d[4]), times(d[1], -FAR_2, d[3]));
    let (far_even, far_odd) = (times(d[2], -NEAR_2, d[4]), times(d[1], -NEAR_2, d[3]));
    let ends = |a, b, c| times(a, NEAR_2 * FAR_2, times(b, -(NEAR_2 + FAR_2), c));
    [
        ends(d[0], d[2], d[4]),
        times(near_odd, NEAR, near_even),
        times(near_odd, -NEAR, near_even),
        times(far_odd, FAR, far_even),
        times(far_odd, -FAR, far_even),
        ends(d[1], d[3], d[5]),
    ]
}

/// The products at six points along an axis, gathered to four results.
#[inline(always)]
fn gather<S: Simd>(s: S, m: [S::Vector; SIDE]) -> [S::Vector; TILE] {
    let times = |x, factor, y| s.mul_add(x, s.splat(factor), y);
    let nothing = s.splat(0.0);
    let (near_even, near_odd) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (far_even, far_odd) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    [
        s.add(s.add(m[0], near_even), far_even),
        times(near_odd, NEAR, times(far_odd, FAR, nothing)),
        times(near_even, NEAR_2, times(far_even, FAR_2, nothing)),
        times(near_odd, NEAR_2 * NEAR, times(far_odd, FAR_2 * FAR, m[5])),
    ]
}
