//! Random products, and blocks of them.

use lipsync_core::saturate::u32_of;

use super::Draft;
use crate::{
    cuda::{
        args::{Args, BlockArgs, GemmArgs},
        cases::{Case, Content},
        launch::{BlockTile, Launch, Tile},
        pack::{K_MULTIPLE, Weights},
    },
    graph::{Conv, op::Window},
};

impl Draft<'_> {
    /// A 1x1 convolution whose results are about as large as what it reads.
    fn pointwise(&mut self, channels: u32, n: u32) -> Conv {
        let scale = 2.0 / (channels as f32).sqrt();
        Conv {
            weights: self.random.floats((n * channels) as usize, -scale, scale),
            bias: self.random.floats(n as usize, -1.0, 1.0),
            window: Window::POINT,
            groups: 1,
            relu: false,
        }
    }

    #[expect(clippy::too_many_lines, reason = "one structure, field by field")]
    pub(super) fn product(mut self, tile: Tile, windowed: bool) -> Case {
        let frames = self.pick(1, 3);
        let [in_h, in_w] = [self.pick(3, 14), self.pick(3, 14)];
        let window = if windowed {
            let [kernel_h, kernel_w] = [self.pick(1, 3), self.pick(1, 3)].map(|k| k as usize);
            Window {
                kernel: [kernel_h, kernel_w],
                // Audio encoders have rows three apart.
                stride: [self.pick(1, 3), self.pick(1, 3)].map(|s| s as usize),
                pads: [self.pick(0, 2), self.pick(0, 2), 1, 1].map(|p| p as usize),
            }
        } else {
            Window::POINT
        };
        let size = window.output_size(in_h as usize, in_w as usize);
        let [out_h, out_w] = size.map_or([1, 1], |(h, w)| [u32_of(h), u32_of(w)]);
        let channels = self.pick(1, 140);
        let n = self.pick(1, 2 * tile.size().1);
        let taps = window.kernel[0] * window.kernel[1];
        let n_weights = n as usize * channels as usize * taps;
        let scale = 1.0 / (channels as f32 * taps as f32).sqrt();
        let conv = Conv {
            weights: self.random.floats(n_weights, -2.0 * scale, 2.0 * scale),
            bias: self.random.floats(n as usize, -1.0, 1.0),
            window,
            groups: 1,
            relu: false,
        };
        let mut weights = Weights::new();
        let [packed, bias] = weights.add_matrix(&conv);
        let base = self.bytes(weights.bytes(), Content::Exact);
        let (a_stride, out_stride) = (self.stride(channels), self.stride(n));
        let added_stride = self.stride(n);
        let m = frames * out_h * out_w;
        let [low_h, low_w] = match self.pick(0, 2) {
            0 if !windowed => [out_h.div_ceil(2), out_w.div_ceil(2)],
            _ => [0, 0],
        };
        let is_added = low_h > 0 || self.chance();
        let n_added = if low_h > 0 { frames * low_h * low_w } else { m };
        let k = u32_of(taps * (channels as usize).next_multiple_of(8));
        let args = GemmArgs {
            a: self.pixels(frames * in_h * in_w, channels, a_stride),
            weights: base + packed,
            bias: base + bias,
            added: if is_added {
                self.halves(n_added * added_stride, Content::Exact)
            } else {
                0
            },
            out: self.halves(m * out_stride, Content::Halves),
            m,
            n,
            k,
            weights_stride: k.next_multiple_of(K_MULTIPLE),
            a_stride,
            added_stride,
            out_stride,
            channels,
            relu: self.flag(),
            in_h,
            in_w,
            out_h,
            out_w,
            kernel_w: u32_of(window.kernel[1]),
            stride_h: u32_of(window.stride[0]),
            stride_w: u32_of(window.stride[1]),
            pad_top: u32_of(window.pads[0]),
            pad_left: u32_of(window.pads[1]),
            low_h,
            low_w,
        };
        self.done(Launch::gemm_tiled(args, windowed, tile))
    }

    #[expect(clippy::too_many_lines, reason = "one structure, field by field")]
    pub(super) fn block(mut self, tile: BlockTile) -> Case {
        let stride = tile.stride();
        let (frames, channels) = (self.pick(1, 2), self.pick(1, 64));
        let (expanded, n) = (
            self.pick(1, 100),
            self.pick(tile.results() - 31, tile.results()),
        );
        // Half of them have blocks that end below the picture and neither on the left nor on the right of it.
        let widths = if self.chance() { (33, 50) } else { (1, 35) };
        let [in_h, in_w] = [self.pick(1, 21), self.pick(widths.0, widths.1)];
        let [out_h, out_w] = [in_h, in_w].map(|n| n.div_ceil(stride));
        let [expand, project] =
            [[channels, expanded], [expanded, n]].map(|[from, to]| self.pointwise(from, to));
        let depthwise = Conv {
            weights: self.random.floats(9 * expanded as usize, -0.7, 0.7),
            ..self.pointwise(1, expanded)
        };
        let is_lifted = stride == 1 && self.chance();
        let lifted_channels = if is_lifted { self.pick(1, 64) } else { 0 };
        let lift = self.pointwise(lifted_channels.max(1), expanded);
        let mut weights = Weights::new();
        let [lift_weights, _] = weights.add_matrix(&lift);
        let [expand_weights, expand_bias] = weights.add_matrix(&expand);
        let [depthwise_weights, depthwise_bias] = weights.add_depthwise(&depthwise);
        let [project_weights, project_bias] = weights.add_matrix(&project);
        let base = self.bytes(weights.bytes(), Content::Exact);
        let [in_stride, lifted_stride] = [channels, lifted_channels].map(|c| self.stride(c));
        let [added_stride, out_stride] = [n; 2].map(|c| self.stride(c));
        let n_out = frames * out_h * out_w;
        // The largest that may be lifted, as networks have it, or any smaller one.
        let is_half = self.chance();
        let low = [in_h, in_w].map(|n| n.div_ceil(2));
        let low = if is_half {
            low
        } else {
            low.map(|n| self.pick(1, n))
        };
        let [low_h, low_w] = if is_lifted { low } else { [0; 2] };
        let n_low = frames * low_h * low_w;
        let is_added = self.chance();
        let args = BlockArgs {
            input: self.pixels(frames * in_h * in_w, channels, in_stride),
            expand_weights: base + expand_weights,
            expand_bias: base + expand_bias,
            lift_weights: base + lift_weights,
            lifted: if is_lifted {
                self.pixels(n_low, lifted_channels, lifted_stride)
            } else {
                0
            },
            depthwise_weights: base + depthwise_weights,
            depthwise_bias: base + depthwise_bias,
            project_weights: base + project_weights,
            project_bias: base + project_bias,
            added: if is_added {
                self.pixels(n_out, n, added_stride)
            } else {
                0
            },
            out: self.halves(n_out * out_stride, Content::Halves),
            frames,
            channels,
            lifted_channels,
            expanded,
            n,
            in_h,
            in_w,
            out_h,
            out_w,
            in_stride,
            lifted_stride,
            added_stride,
            out_stride,
            low_h,
            low_w,
            stride,
            expand_relu: self.flag(),
            depthwise_relu: self.flag(),
            relu: self.flag(),
        };
        self.done(Launch::of(Args::BlockArgs(args)))
    }
}
