//! The operators of a [`Graph`](super::Graph).

/// What a node computes.
#[derive(Debug, Clone)]
pub enum Op {
    /// A convolution; a second input, where there is one, is added before the activation.
    Conv(Conv),
    /// A transposed convolution in one group: every input pixel adds its kernel to the output, `stride`
    /// pixels from one to the next; `pads` are cut off at the top and left, and the output's shape says
    /// where it ends. Weights are `[c_out, c_in, kernel_h, kernel_w]` as those of a [`Conv`].
    ConvTranspose(Conv),
    /// `x * scale + shift`, one pair per channel: a normalisation that no convolution took up.
    Affine {
        /// Factor per channel.
        scale: Vec<f32>,
        /// Summand per channel.
        shift: Vec<f32>,
    },
    /// The sum of two values of one shape.
    Add,
    /// The product of a value and one of a single channel, which all channels of a pixel meet.
    Gate,
    /// One number of all channels of each pixel.
    Reduce(Reduction),
    /// A function of each float.
    Activation(Activation),
    /// All inputs one after the other along the channels.
    Concat,
    /// Bilinear resizing whose corner samples stay corners (`align_corners`).
    ResizeBilinear,
    /// A border of a constant around each channel.
    Pad {
        /// Rows above, columns left, rows below, columns right.
        pads: [usize; 4],
        /// The border's value.
        value: f32,
    },
    /// A sliding maximum or mean.
    Pool(Pool),
    /// The same floats, in NCHW order, under another shape.
    Reshape,
}

/// What becomes of the channels of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean.
    Mean,
    /// The largest.
    Max,
}

impl Reduction {
    /// The number of the channels `values`, at least one.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "the sum is f64, the result f32; channels are few"
    )]
    pub fn of(self, values: impl ExactSizeIterator<Item = f32>) -> f32 {
        let n = values.len();
        match self {
            Self::Mean => (values.map(f64::from).sum::<f64>() / n as f64) as f32,
            Self::Max => values.fold(f32::NEG_INFINITY, f32::max),
        }
    }
}

/// A function applied to each float.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x` where it is positive, `slope * x` elsewhere.
    LeakyRelu {
        /// Factor of negative values.
        slope: f32,
    },
    /// `x` limited to a range.
    Clip {
        /// Lower limit.
        min: f32,
        /// Upper limit.
        max: f32,
    },
}

impl Activation {
    /// The function's value.
    #[must_use]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::LeakyRelu { slope } if x < 0.0 => slope * x,
            Self::LeakyRelu { .. } => x,
            Self::Clip { min, max } => x.max(min).min(max),
        }
    }
}

/// A two-dimensional convolution, dense, depthwise or grouped.
#[derive(Debug, Clone)]
pub struct Conv {
    /// Weights, `[c_out, c_in / groups, kernel_h, kernel_w]`, row-major.
    pub weights: Vec<f32>,
    /// One summand per output channel.
    pub bias: Vec<f32>,
    /// Where the window moves.
    pub window: Window,
    /// Number of groups that channels are split into.
    pub groups: usize,
    /// Whether negative results become zero.
    pub relu: bool,
}

/// The moving window of a convolution or a pool: height first, then width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Size.
    pub kernel: [usize; 2],
    /// Step.
    pub stride: [usize; 2],
    /// Rows above, columns left, rows below, columns right.
    pub pads: [usize; 4],
}

impl Window {
    /// A window of one position, as pointwise convolutions have.
    pub const POINT: Self = Self {
        kernel: [1, 1],
        stride: [1, 1],
        pads: [0; 4],
    };

    /// Rows and columns of positions on a `h x w` map, or `None` where the window does not fit.
    #[must_use]
    pub fn output_size(&self, h: usize, w: usize) -> Option<(usize, usize)> {
        let along = |size: usize, axis: usize| {
            let padded = size
                .checked_add(self.pads[axis])?
                .checked_add(self.pads[axis + 2])?;
            let room = padded.checked_sub(self.kernel[axis])?;
            room.checked_div(self.stride[axis])?.checked_add(1)
        };
        Some((along(h, 0)?, along(w, 1)?))
    }
}

impl Conv {
    /// Whether it is a matrix product over the channels of each pixel.
    #[must_use]
    pub fn is_pointwise(&self) -> bool {
        self.groups == 1 && self.window == Window::POINT
    }

    /// Whether it is a depthwise 3x3 convolution that keeps the size, or halves it (rounding up).
    #[must_use]
    pub fn is_depthwise_3x3(&self) -> bool {
        let Window {
            kernel,
            stride,
            pads,
        } = self.window;
        self.groups == self.bias.len()
            && self.weights.len() == 9 * self.groups
            && kernel == [3, 3]
            && pads == [1; 4]
            && (stride == [1, 1] || stride == [2, 2])
    }
}

/// A pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// What is computed over the window.
    pub kind: PoolKind,
    /// Where the window moves.
    pub window: Window,
}

/// What a pool computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest value; the border does not count.
    Max,
    /// The mean.
    Average {
        /// Whether the border counts, as zeros.
        include_pad: bool,
    },
}
