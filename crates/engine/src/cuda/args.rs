//! What kernels are told: one structure each, laid out as the CUDA sources declare it.
//!
//! Addresses come first, then 32-bit numbers, so that nothing is padded in the middle. A test compares
//! every field with `kernels/args.cuh`.

/// A kernel's arguments: a structure that C lays out the same way.
macro_rules! kernel_args {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$wide_doc:meta])* $wide:ident: u64,)*;
        $($(#[$field_doc:meta])* $field:ident: $kind:ident,)*
    })*) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub(crate) struct $name {
            $($(#[$wide_doc])* pub $wide: u64,)*
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl $name {
            /// Name and fields as the CUDA sources declare them.
            #[cfg(test)]
            pub const LAYOUT: (&str, &[(&str, &str)]) = (
                stringify!($name),
                &[$((stringify!($wide), "u64"),)* $((stringify!($field), stringify!($kind)),)*],
            );

            /// The structure's bytes in C's layout.
            pub fn to_bytes(self) -> Vec<u8> {
                let mut bytes = vec![];
                $(bytes.extend(self.$wide.to_ne_bytes());)*
                $(bytes.extend(self.$field.to_ne_bytes());)*
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                bytes
            }
        })*

        /// The arguments of any kernel.
        #[expect(clippy::enum_variant_names, reason = "variants are named as their structures")]
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub(crate) enum Args {
            $($(#[$doc])* $name($name),)*
        }

        impl Args {
            /// The arguments' bytes in C's layout.
            pub fn to_bytes(self) -> Vec<u8> {
                match self {
                    $(Self::$name(args) => args.to_bytes(),)*
                }
            }

            /// The same with every address changed.
            pub fn with_addresses(self, change: impl Fn(u64) -> u64) -> Self {
                match self {
                    $(Self::$name(args) => Self::$name($name {
                        $($wide: change(args.$wide),)*
                        ..args
                    }),)*
                }
            }

            /// All structures; see [`GemmArgs::LAYOUT`].
            #[cfg(test)]
            pub const LAYOUTS: &[(&str, &[(&str, &str)])] = &[$($name::LAYOUT),*];
        }
    };
}

kernel_args! {
    /// A convolution as a product of matrices, with what is added to it.
    GemmArgs {
        /// fp16 `[m or frames x in_h x in_w][a_stride]`.
        a: u64,
        /// fp16, packed: see [`pack`](super::pack).
        weights: u64,
        /// f32, padded with zeros as the weights are. Sums begin with it.
        bias: u64,
        /// fp16 `[m][added_stride]`, or where `low_h` is not 0 `[frames x low_h x low_w][added_stride]`; 0
        /// where nothing is added.
        added: u64,
        /// fp16 `[m][out_stride]`.
        out: u64,;
        /// Pixels of all frames.
        m: u32,
        /// Channels of the result.
        n: u32,
        /// Products a result: taps times channels, the channels rounded up to 8.
        k: u32,
        /// Length of a line of packed weights.
        weights_stride: u32,
        /// Elements from pixel to pixel.
        a_stride: u32,
        /// Elements from pixel to pixel.
        added_stride: u32,
        /// Elements from pixel to pixel.
        out_stride: u32,
        /// Channels of the input.
        channels: u32,
        /// Whether negative results become zero.
        relu: u32,
        /// Rows of the input.
        in_h: u32,
        /// Columns of the input.
        in_w: u32,
        /// Rows of the result.
        out_h: u32,
        /// Columns of the result.
        out_w: u32,
        /// Columns of the window.
        kernel_w: u32,
        /// Rows from window to window.
        stride_h: u32,
        /// Columns from window to window.
        stride_w: u32,
        /// Rows of zeros above.
        pad_top: u32,
        /// Columns of zeros on the left.
        pad_left: u32,
        /// Rows of what is resized and then added; 0 where it is added as it is.
        low_h: u32,
        /// Columns of that.
        low_w: u32,
    }
    /// A depthwise 3x3 convolution with a border of one zero.
    DepthwiseArgs {
        /// fp16 `[frames x in_h x in_w][in_stride]`.
        input: u64,
        /// f32 `[9][chunks x 8]`.
        weights: u64,
        /// f32 `[chunks x 8]`.
        bias: u64,
        /// fp16 `[frames x out_h x out_w][added_stride]`, or 0.
        added: u64,
        /// fp16 `[frames x out_h x out_w][out_stride]`.
        out: u64,;
        /// Frames.
        frames: u32,
        /// Channels in eights.
        chunks: u32,
        /// Rows of the input.
        in_h: u32,
        /// Columns of the input.
        in_w: u32,
        /// Rows of the result.
        out_h: u32,
        /// Columns of the result.
        out_w: u32,
        /// Elements from pixel to pixel.
        in_stride: u32,
        /// Elements from pixel to pixel.
        added_stride: u32,
        /// Elements from pixel to pixel.
        out_stride: u32,
        /// 1 or 2.
        stride: u32,
        /// Whether negative results become zero.
        relu: u32,
    }
    /// An inverted residual block: 1x1 expansion, depthwise 3x3 convolution with a border of one zero, 1x1
    /// projection.
    BlockArgs {
        /// fp16 `[frames x in_h x in_w][in_stride]`.
        input: u64,
        /// As [`GemmArgs::weights`].
        expand_weights: u64,
        /// As [`GemmArgs::bias`].
        expand_bias: u64,
        /// fp16 `[frames x low_h x low_w][lifted_stride]`: resized, its channels are expanded as if they came before
        /// the input's. 0 where there is no such thing, as always where the stride is 2.
        lifted: u64,
        /// As [`GemmArgs::weights`].
        lift_weights: u64,
        /// As [`DepthwiseArgs::weights`].
        depthwise_weights: u64,
        /// As [`DepthwiseArgs::bias`].
        depthwise_bias: u64,
        /// As [`GemmArgs::weights`].
        project_weights: u64,
        /// As [`GemmArgs::bias`].
        project_bias: u64,
        /// fp16 `[frames x out_h x out_w][added_stride]`, or 0.
        added: u64,
        /// fp16 `[frames x out_h x out_w][out_stride]`.
        out: u64,;
        /// Frames.
        frames: u32,
        /// Channels of the input.
        channels: u32,
        /// Channels of what is lifted.
        lifted_channels: u32,
        /// Channels in between.
        expanded: u32,
        /// Channels of the result.
        n: u32,
        /// Rows of the input.
        in_h: u32,
        /// Columns of the input.
        in_w: u32,
        /// Rows of the result.
        out_h: u32,
        /// Columns of the result.
        out_w: u32,
        /// Elements from pixel to pixel.
        in_stride: u32,
        /// Elements from pixel to pixel.
        lifted_stride: u32,
        /// Elements from pixel to pixel.
        added_stride: u32,
        /// Elements from pixel to pixel.
        out_stride: u32,
        /// Rows of what is lifted; at most half of the input's, rounded up.
        low_h: u32,
        /// Columns of that.
        low_w: u32,
        /// 1 or 2.
        stride: u32,
        /// Whether negative expanded values become zero.
        expand_relu: u32,
        /// Whether negative convolved values become zero.
        depthwise_relu: u32,
        /// Whether negative results become zero.
        relu: u32,
    }
    /// Face crops to the network's six channels, in pixels of eight.
    PackFaceArgs {
        /// Addresses of entries, whose first bytes are the crop; 0: the frame is left alone.
        table: u64,
        /// fp16 `[frames x region x region][8]`; the last two are zeros.
        out: u64,;
        /// Frames.
        frames: u32,
        /// Side of the region.
        region: u32,
        /// Side of the crop.
        crop: u32,
        /// Width of the ring around the region.
        ring: u32,
        /// The mask.
        mask_x0: u32,
        /// Its end.
        mask_x1: u32,
        /// The mask.
        mask_y0: u32,
        /// Its end.
        mask_y1: u32,
    }
    /// Floats in NCHW to pixels.
    PackFloatsArgs {
        /// u32 `[frames]`: where each frame begins, in floats from `input` on. Frames may share floats.
        table: u64,
        /// f32, of each frame `[channels][plane]`.
        input: u64,
        /// fp16 `[frames x plane][out_stride]`.
        out: u64,;
        /// Frames.
        frames: u32,
        /// Channels.
        channels: u32,
        /// Pixels of a frame.
        plane: u32,
        /// Elements from pixel to pixel.
        out_stride: u32,
    }
    /// The last convolution, 1x1 to three channels, and the conversion to bytes.
    HeadArgs {
        /// fp16 `[pixels][in_stride]`.
        input: u64,
        /// f32 `[channels in eights][3][8]`; 0: the input is the result already, its first three channels.
        weights: u64,
        /// f32 `[3]`.
        bias: u64,
        /// Bytes `[pixels][3]`: `trunc(255 y)`.
        out: u64,;
        /// Pixels of all frames.
        pixels: u32,
        /// Channels of the input.
        channels: u32,
        /// Elements from pixel to pixel.
        in_stride: u32,
        /// Whether negative results become zero, before the sigmoid.
        relu: u32,
        /// Whether the result is a logit.
        sigmoid: u32,
    }
    /// A value to entries or from them.
    EntryArgs {
        /// Addresses of entries; 0: the frame is left alone.
        table: u64,
        /// fp16 `[frames x plane][stride]`.
        tensor: u64,;
        /// Where the value starts in an entry, in bytes.
        offset: u32,
        /// Frames.
        frames: u32,
        /// Pixels of a frame.
        plane: u32,
        /// Channels in eights; an entry holds them densely.
        chunks: u32,
        /// Elements from pixel to pixel of the tensor.
        stride: u32,
    }
    /// Bilinear resizing whose corners stay corners.
    ResizeArgs {
        /// fp16 `[frames x in_h x in_w][in_stride]`.
        input: u64,
        /// fp16 `[frames x out_h x out_w][out_stride]`.
        out: u64,;
        /// Frames.
        frames: u32,
        /// Channels.
        channels: u32,
        /// Rows of the input.
        in_h: u32,
        /// Columns of the input.
        in_w: u32,
        /// Rows of the result.
        out_h: u32,
        /// Columns of the result.
        out_w: u32,
        /// Elements from pixel to pixel.
        in_stride: u32,
        /// Elements from pixel to pixel.
        out_stride: u32,
    }
    /// `act(x * scale + shift + other)`, each of the last three optional.
    ElementwiseArgs {
        /// fp16 `[pixels][in_stride]`.
        input: u64,
        /// fp16 `[pixels][other_stride]`, or 0.
        other: u64,
        /// f32, one a channel, or 0.
        scale: u64,
        /// f32, one a channel, where there is a scale.
        shift: u64,
        /// fp16 `[pixels][out_stride]`.
        out: u64,;
        /// Pixels of all frames.
        pixels: u32,
        /// Channels.
        channels: u32,
        /// Elements from pixel to pixel.
        in_stride: u32,
        /// Elements from pixel to pixel.
        other_stride: u32,
        /// Elements from pixel to pixel.
        out_stride: u32,
        /// 0 nothing, 1 `ReLU`, 2 sigmoid, 3 leaky with slope `low`, 4 limited to `low..=high`.
        activation: u32,
        /// See there.
        low: f32,
        /// See there.
        high: f32,
    }
    /// Anything that reads a window of each pixel, channel by channel or group by group.
    WindowArgs {
        /// fp16 `[frames x in_h x in_w][in_stride]`.
        input: u64,
        /// f32 `[channels][channels / groups of the input][kernel_h][kernel_w]`, for a convolution.
        weights: u64,
        /// f32, one a channel, for a convolution.
        bias: u64,
        /// fp16 `[frames x out_h x out_w][added_stride]`, or 0; for a convolution.
        added: u64,
        /// fp16 `[frames x out_h x out_w][out_stride]`.
        out: u64,;
        /// 0 convolution, 1 maximum, 2 mean of what is inside, 3 mean with the border, 4 a border of `value`.
        kind: u32,
        /// Frames.
        frames: u32,
        /// Channels of the result.
        channels: u32,
        /// Input channels that a result reads; 1 except for a convolution.
        group_in: u32,
        /// Result channels of a group.
        group_out: u32,
        /// Rows of the input.
        in_h: u32,
        /// Columns of the input.
        in_w: u32,
        /// Rows of the result.
        out_h: u32,
        /// Columns of the result.
        out_w: u32,
        /// Rows of the window.
        kernel_h: u32,
        /// Columns of the window.
        kernel_w: u32,
        /// Rows from window to window.
        stride_h: u32,
        /// Columns from window to window.
        stride_w: u32,
        /// Rows of border above.
        pad_top: u32,
        /// Columns of border on the left.
        pad_left: u32,
        /// Elements from pixel to pixel.
        in_stride: u32,
        /// Elements from pixel to pixel.
        added_stride: u32,
        /// Elements from pixel to pixel.
        out_stride: u32,
        /// Whether negative results become zero.
        relu: u32,
        /// The border's value.
        value: f32,
    }
    /// The same floats, in NCHW order, under another shape.
    ReshapeArgs {
        /// fp16 `[frames x in_plane][in_stride]`.
        input: u64,
        /// fp16 `[frames x out_plane][out_stride]`.
        out: u64,;
        /// Frames.
        frames: u32,
        /// Floats of a frame.
        len: u32,
        /// Pixels of a frame of the input.
        in_plane: u32,
        /// Pixels of a frame of the result.
        out_plane: u32,
        /// Elements from pixel to pixel.
        in_stride: u32,
        /// Elements from pixel to pixel.
        out_stride: u32,
    }
}
