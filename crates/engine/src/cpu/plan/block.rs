//! The inverted residual block as one step.
//!
//! Expansion, depthwise convolution and projection run on strips of rows, so that the expanded
//! tensor, which is the largest by far, never leaves the second-level cache. Rows that the next strip
//! needs again stay where they are: its own take the places of the others. Where even two rows are too much for that
//! cache, the strips are cut into [tiles](Tile) of some columns.
//!
//! What is added to the expansion (see [`Lift`]), the packing of an input and the last convolution
//! with the conversion of its result run on the same strips.

use std::{fmt, ops::Range};

use super::{
    ends::{Drain, Feed},
    lift::Lift,
    ring,
    strips::{PlanOptions, StripLimits},
    tensor::{Source, Target},
    units::BlockNodes,
};
use crate::{
    cpu::arena::{Scratch, ScratchSize},
    cpu::kernels::{
        Added, Element, Epilogue, Isa, MatMut, MatRef, PackedDepthwise, Strip, Weights,
        depthwise3x3,
    },
    graph::{Conv, Graph, Op, Shape},
};

/// A block's packed weights and the height of its strips.
#[derive(Debug)]
pub(super) struct Block<E: Element> {
    isa: Isa,
    expand: E::Matrix,
    depthwise: PackedDepthwise,
    project: E::Matrix,
    relu: [bool; 3],
    stride: usize,
    /// Rows of the depthwise convolution's result that a strip has.
    pub strip_rows: usize,
    /// Columns of the result that a tile has.
    pub tile_columns: usize,
    shape: Shape,
    /// Of the projection's result.
    out: Shape,
    pub lift: Option<Lift<E>>,
    head: Option<Head<E>>,
}

/// A 1x1 convolution of what the projection gives.
#[derive(Debug)]
struct Head<E: Element> {
    matrix: E::Matrix,
    relu: bool,
}

/// Columns that are computed together, from the first row to the last: as many as let a strip's wide tensors stay in
/// the second-level cache.
#[derive(Debug)]
struct Tile {
    /// Of the block's result.
    out: Range<usize>,
    /// Of the expanded tensor: those that the result needs. What lies beyond a tile inside the tensor counts as zero, so
    /// the columns of the filtered tensor next to it are wrong, and left out.
    input: Range<usize>,
    /// Columns of the filtered tensor.
    filtered_columns: usize,
    /// Those of them before the result's.
    n_skipped: usize,
    /// Whether it is the whole result.
    is_whole: bool,
}

/// What a block reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Input<'a, E> {
    Tensor(Source<'a, E>),
    Feed(Feed<'a>),
}

/// What a block writes.
#[derive(Debug)]
pub(super) enum Output<'a, 'd, E> {
    Tensor(Target<'a, E>),
    /// Of a block with a head.
    Drain(&'a mut Drain<'d>),
}

/// Everything that a run of a block reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs<'a, E> {
    pub main: Input<'a, E>,
    pub lifted: Option<Source<'a, E>>,
    pub residual: Option<Source<'a, E>>,
}

impl<'a, E: Element> Input<'a, E> {
    /// The value, if it is in memory.
    pub fn tensor(&self) -> Option<Source<'a, E>> {
        match self {
            Self::Tensor(source) => Some(*source),
            Self::Feed(_) => None,
        }
    }
}

/// Columns and rows of the tiles of a block.
fn tile_of<E: Element>(
    limits: &StripLimits,
    (shapes, vectors, n_weights): ([Shape; 2], (usize, usize), usize),
    is_streamed: bool,
) -> (usize, usize) {
    let out = shapes[1];
    let columns = if is_streamed {
        out.w
    } else {
        limits.columns::<E>(shapes, vectors, n_weights)
    };
    let rows = if columns == out.w {
        limits.rows::<E>(shapes, vectors, n_weights)
    } else {
        StripLimits::TILE_ROWS.min(out.h)
    };
    (columns, rows)
}

impl<E: Element> Block<E> {
    /// Packs the nodes of a block.
    pub fn pack(isa: Isa, graph: &Graph, nodes: BlockNodes, options: &PlanOptions) -> Option<Self> {
        let conv = |index: usize| match &graph.nodes[index].op {
            Op::Conv(conv) => Some(conv),
            _ => None,
        };
        let PlanOptions {
            strips: limits,
            products,
        } = options;
        let matrix = |conv: &Conv, n_in| products.pack::<E>(isa, &conv.weights, &conv.bias, n_in);
        let [expand, depthwise, project] = nodes.convs;
        let shape = graph.shapes[graph.nodes[expand].inputs[0]];
        let out = graph.shapes[graph.nodes[project].output];
        let [expand, depthwise, project] = [conv(expand)?, conv(depthwise)?, conv(project)?];
        let wide = depthwise.groups;
        let n_weights = expand.weights.len() + project.weights.len();
        let stride = depthwise.window.stride[0];
        let vectors = wide.next_multiple_of(isa.lanes());
        // What comes in or leaves row by row has all columns.
        let is_streamed = nodes.head.is_some()
            || graph
                .inputs
                .contains(&graph.nodes[nodes.convs[0]].inputs[0]);
        let block = ([shape, out], (vectors, stride), n_weights);
        let (tile_columns, strip_rows) = tile_of::<E>(limits, block, is_streamed);
        let lift = match nodes.lift {
            Some(node) => {
                let low = graph.shapes[graph.nodes[node].inputs[0]];
                let width = (tile_columns * stride).min(shape.w);
                let most_rows = limits.lifted_rows(width, strip_rows * stride + 1);
                let at_once = (most_rows, limits.chunk_pixels);
                let conv = conv(node)?;
                Some(Lift::pack(isa, matrix(conv, low.c), [low, shape], at_once))
            }
            None => None,
        };
        let head = match nodes.head {
            Some(node) => {
                let head = conv(node)?;
                Some(Head {
                    matrix: matrix(head, out.c),
                    relu: head.relu,
                })
            }
            None => None,
        };
        let depthwise_filter =
            PackedDepthwise::pack(isa, &depthwise.weights, &depthwise.bias, wide);
        Some(Self {
            isa,
            expand: matrix(expand, shape.c),
            depthwise: depthwise_filter,
            project: matrix(project, wide),
            relu: [expand, depthwise, project].map(|conv| conv.relu),
            stride,
            strip_rows,
            tile_columns,
            shape,
            out,
            lift,
            head,
        })
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        let head = self.head.as_ref().map_or(0, |head| head.matrix.bytes());
        let lift = self.lift.as_ref().map_or(0, Lift::bytes);
        self.expand.bytes() + self.depthwise.bytes() + self.project.bytes() + head + lift
    }

    /// What its larger products are computed in: `int16` where both are.
    pub fn numbers(&self) -> &'static str {
        let (expand, project) = (self.expand.numbers(), self.project.numbers());
        if expand == project { expand } else { "mixed" }
    }

    /// Multiplications and additions of a frame, counted in pairs.
    pub fn macs(&self) -> u64 {
        let depthwise = 9 * self.depthwise.channels() * self.out.h * self.out.w;
        depthwise as u64 + self.products().map(|(_, macs)| macs).sum::<u64>()
    }

    /// As [`macs`](Self::macs), of the products that are computed in `numbers`.
    pub fn macs_in(&self, numbers: &str) -> u64 {
        let products = self.products().filter(|(m, _)| m.numbers() == numbers);
        products.map(|(_, macs)| macs).sum()
    }

    /// Its matrix products, with their multiplications a frame.
    fn products(&self) -> impl Iterator<Item = (&E::Matrix, u64)> {
        let lift = self.lift.as_ref().map(|lift| (lift.matrix(), lift.macs()));
        let pixels = |shape: Shape| shape.h * shape.w;
        let product = |(m, pixels): (&'_ E::Matrix, usize)| m.n_in() * m.n_out() * pixels;
        let of_pixels = [
            Some((&self.expand, pixels(self.shape))),
            Some((&self.project, pixels(self.out))),
            self.head
                .as_ref()
                .map(|head| (&head.matrix, pixels(self.out))),
        ];
        let of_pixels = of_pixels.into_iter().flatten();
        let of_pixels = of_pixels.map(move |(m, pixels)| (m, product((m, pixels))));
        of_pixels.chain(lift).map(|(m, macs)| (m, macs as u64))
    }

    /// Working memory that [`run`](Self::run) needs.
    pub fn scratch(&self) -> ScratchSize {
        let lift = self.lift.as_ref().map_or(0, Lift::scratch_len);
        let head = self.head.as_ref().map_or(0, |head| head.matrix.n_out());
        ScratchSize {
            wide: self.expanded_rows() * self.expanded_row(),
            narrow: (self.filtered_len() + self.projected_len())
                .max(self.expanded_rows() * self.shape.w * self.shape.c),
            floats: lift + self.strip_rows * self.out.w * head,
        }
    }

    /// Most rows of the expanded tensor that a strip needs.
    fn expanded_rows(&self) -> usize {
        (self.strip_rows * self.stride + 3 - self.stride).min(self.shape.h)
    }

    /// Most numbers of a row of a tile of it.
    fn expanded_row(&self) -> usize {
        let columns = (self.tile_columns + 2) * self.stride;
        columns.min(self.shape.w) * self.wide_channels()
    }

    /// Channels of the wide middle, in whole vectors.
    fn wide_channels(&self) -> usize {
        self.depthwise.channels().next_multiple_of(self.isa.lanes())
    }

    fn filtered_len(&self) -> usize {
        // A tile has a column more on both sides.
        let columns = (self.tile_columns + 2).min(self.out.w);
        self.strip_rows * columns * self.wide_channels()
    }

    /// Length of a strip of the projection's result, where it is not written straight to a tensor.
    fn projected_len(&self) -> usize {
        match self.head {
            Some(_) => self.strip_rows * self.out.w * self.out.c,
            None => 0,
        }
    }

    /// Runs one frame.
    pub fn run(
        &self,
        inputs: Inputs<'_, E>,
        out: &mut Output<'_, '_, E>,
        scratch: &mut Scratch<E>,
    ) {
        for tile in self.tiles() {
            self.run_tile(&tile, inputs, out, scratch);
        }
    }

    /// The columns of the result, in parts.
    fn tiles(&self) -> impl Iterator<Item = Tile> {
        let (stride, n) = (self.stride, self.tile_columns);
        (0..self.out.w).step_by(n).map(move |first| {
            let out = first..(first + n).min(self.out.w);
            // One column more on both sides, and at stride 2 one more before, so that the tile's first column is even.
            let input = (first * stride).saturating_sub(stride)
                ..(out.end * stride + 2 - stride).min(self.shape.w);
            Tile {
                filtered_columns: input.len().div_ceil(stride),
                n_skipped: (first * stride - input.start) / stride,
                is_whole: out.len() == self.out.w,
                input,
                out,
            }
        })
    }

    /// Computes a tile, from the first row to the last.
    fn run_tile(
        &self,
        tile: &Tile,
        inputs: Inputs<'_, E>,
        out: &mut Output<'_, '_, E>,
        scratch: &mut Scratch<E>,
    ) {
        let (width, places) = (tile.input.len(), self.expanded_rows());
        let plane_row = width * self.isa.lanes();
        let expanded = &mut scratch.wide[..places * width * self.wide_channels()];
        let n_products = self.lift.as_ref().map_or(0, Lift::scratch_len);
        let (products, floats) = scratch.floats.split_at_mut(n_products);
        let mut lifted = match (&self.lift, inputs.lifted) {
            (Some(lift), Some(source)) => {
                Some((lift, lift.start(source, tile.input.clone(), products)))
            }
            _ => None,
        };
        let most = self.lift.as_ref().map_or(places, |lift| lift.most_rows);
        // Rows of the expanded tensor that are there.
        let mut held = 0..0;
        for start in (0..self.out.h).step_by(self.strip_rows) {
            let rows = start..(start + self.strip_rows).min(self.out.h);
            let needed = (start * self.stride).saturating_sub(1)
                ..((rows.end - 1) * self.stride + 2).min(self.shape.h);
            for (fresh, place) in ring::parts(held.end..needed.end, places, most) {
                let added = match &mut lifted {
                    Some((lift, lifted)) => Added::Resized(lift.rows(lifted, fresh.clone())),
                    None => Added::Nothing,
                };
                let to = (&mut expanded[place * plane_row..], places * plane_row);
                self.expand(tile, (inputs.main, fresh), (added, to), &mut scratch.narrow);
            }
            held = needed;

            let strip = Strip {
                data: expanded,
                plane: Some(places * plane_row),
                rows: held.clone(),
                width,
                height: self.shape.h,
            };
            let working = (&mut scratch.narrow[..], &mut *floats);
            self.finish(tile, (strip, rows), (inputs.residual, out), working);
        }
    }

    /// Rows `rows` of a tile of the expanded tensor, to planes of which each is `plane` elements.
    fn expand(
        &self,
        tile: &Tile,
        (input, rows): (Input<'_, E>, Range<usize>),
        (added, (out, plane)): (Added<'_, E>, (&mut [E::Wide], usize)),
        packed: &mut [E],
    ) {
        let lanes = self.isa.lanes();
        let source = match input {
            Input::Tensor(source) => source,
            Input::Feed(feed) => {
                let Shape { c, w, .. } = self.shape;
                let packed = &mut packed[..rows.len() * w * c];
                feed.rows(self.isa, self.shape, rows.clone(), packed);
                let matrix = MatRef {
                    data: &*packed,
                    rows: rows.len() * w,
                    stride: c,
                };
                let epilogue = Epilogue {
                    relu: self.relu[0],
                    added,
                };
                let out = MatMut::planes(out, plane, lanes);
                return E::gemm(&self.expand, matrix, out, epilogue);
            }
        };
        let first = rows.start;
        for run in ring::runs(rows, tile.input.len() == self.shape.w) {
            let row = run.start - first;
            let added = match added {
                Added::Resized(resized) => Added::Resized(resized.from_row(row, lanes)),
                other => other,
            };
            let epilogue = Epilogue {
                relu: self.relu[0],
                added,
            };
            let out = &mut out[row * tile.input.len() * lanes..];
            let out = MatMut::planes(out, plane, lanes);
            let matrix = source.part(run, tile.input.clone());
            E::gemm(&self.expand, matrix, out, epilogue);
        }
    }

    /// Rows `rows` of a tile of the block's result, given the rows of the expanded tensor that they need.
    fn finish(
        &self,
        tile: &Tile,
        (strip, rows): (Strip<'_, E::Wide>, Range<usize>),
        (residual, out): (Option<Source<'_, E>>, &mut Output<'_, '_, E>),
        (narrow, floats): (&mut [E], &mut [f32]),
    ) {
        let wide = self.wide_channels();
        let (filtered, projected) = narrow.split_at_mut(self.filtered_len());
        let filtered = &mut filtered[..rows.len() * tile.filtered_columns * wide];
        let relu = self.relu[1];
        depthwise3x3(
            &self.depthwise,
            strip,
            rows.clone(),
            self.stride,
            relu,
            filtered,
        );
        let filtered = Source {
            data: &*filtered,
            stride: wide,
            shape: Shape {
                c: wide,
                h: rows.len(),
                w: tile.filtered_columns,
            },
        };
        if let Some(head) = &self.head {
            let residual = residual.map(|r| r.rows(rows.clone()));
            let epilogue = Epilogue::with_residual(self.relu[2], residual);
            let matrix = filtered.rows(0..rows.len());
            let n_pixels = matrix.rows;
            let data = &mut *projected;
            E::gemm(
                &self.project,
                matrix,
                MatMut::new(data, self.out.c),
                epilogue,
            );
            let projected = MatRef {
                data: &*projected,
                rows: n_pixels,
                stride: self.out.c,
            };
            return self.apply_head(head, projected, (rows, out), floats);
        }
        let Output::Tensor(target) = out else { return };
        for run in ring::runs(rows.clone(), tile.is_whole) {
            let residual = residual.map(|r| r.part(run.clone(), tile.out.clone()));
            let epilogue = Epilogue::with_residual(self.relu[2], residual);
            let of_strip = run.start - rows.start..run.end - rows.start;
            let columns = tile.n_skipped..tile.n_skipped + tile.out.len();
            let matrix = filtered.part(of_strip, columns);
            E::gemm(
                &self.project,
                matrix,
                target.part(run, tile.out.start),
                epilogue,
            );
        }
    }

    fn apply_head(
        &self,
        head: &Head<E>,
        projected: MatRef<'_, E>,
        (rows, out): (Range<usize>, &mut Output<'_, '_, E>),
        floats: &mut [f32],
    ) {
        let epilogue = Epilogue::new(head.relu);
        match out {
            Output::Tensor(target) => E::gemm(&head.matrix, projected, target.rows(rows), epilogue),
            Output::Drain(drain) => {
                let stride = head.matrix.n_out();
                let values = &mut floats[..projected.rows * stride];
                let data = &mut *values;
                E::gemm(&head.matrix, projected, MatMut::new(data, stride), epilogue);
                let shape = Shape {
                    c: stride,
                    ..self.out
                };
                drain.rows(self.isa, shape, rows, values);
            }
        }
    }
}

impl<E: Element> fmt::Display for Block<E> {
    /// Its convolutions, with their channels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matrix = |m: &E::Matrix| format!("1x1 {}-{}", m.n_in(), m.n_out());
        let (expand, project) = (matrix(&self.expand), matrix(&self.project));
        if let Some(lift) = &self.lift {
            write!(f, "resize({}) + ", matrix(lift.matrix()))?;
        }
        write!(f, "{expand}, 3x3 / {}, {project}", self.stride)?;
        match &self.head {
            Some(head) => write!(f, ", {}", matrix(&head.matrix)),
            None => Ok(()),
        }
    }
}
