//! Inverted residual blocks: what the separate kernels would do, one after the other.

use super::{
    memory::{BadAddress, Memory},
    product,
};
use crate::cuda::args::{BlockArgs, DepthwiseArgs, GemmArgs};

/// What is lifted, expansion, depthwise convolution, projection.
pub(super) fn block(b: &BlockArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    let depth = b.expanded.next_multiple_of(8);
    let maps = [[b.low_h, b.low_w], [b.in_h, b.in_w], [b.out_h, b.out_w]];
    let between = maps.map(|[h, w]| memory.allocate((b.frames * h * w * depth * 2) as usize));
    let done = all(b, between, memory);
    between.into_iter().for_each(|address| {
        memory.free(address);
    });
    done
}

fn all(
    b: &BlockArgs,
    [low, expanded, convolved]: [u64; 3],
    memory: &mut Memory,
) -> Result<(), BadAddress> {
    let added = if b.lifted == 0 { 0 } else { low };
    if b.lifted != 0 {
        product::gemm(&lift(b, low), false, memory)?;
    }
    product::gemm(&expansion(b, [added, expanded]), false, memory)?;
    product::depthwise(&convolution(b, [expanded, convolved]), memory)?;
    product::gemm(&projection(b, convolved), false, memory)
}

fn lift(b: &BlockArgs, out: u64) -> GemmArgs {
    GemmArgs {
        a: b.lifted,
        weights: b.lift_weights,
        bias: b.lift_bias,
        out,
        m: b.frames * b.low_h * b.low_w,
        n: b.expanded,
        a_stride: b.lifted_stride,
        out_stride: b.expanded.next_multiple_of(8),
        ..point(b.lifted_channels, [b.low_h, b.low_w])
    }
}

fn expansion(b: &BlockArgs, [added, out]: [u64; 2]) -> GemmArgs {
    GemmArgs {
        a: b.input,
        weights: b.expand_weights,
        bias: b.expand_bias,
        added,
        out,
        m: b.frames * b.in_h * b.in_w,
        n: b.expanded,
        a_stride: b.in_stride,
        added_stride: b.expanded.next_multiple_of(8),
        out_stride: b.expanded.next_multiple_of(8),
        relu: b.expand_relu,
        low_h: b.low_h,
        low_w: b.low_w,
        ..point(b.channels, [b.in_h, b.in_w])
    }
}

fn convolution(b: &BlockArgs, [input, out]: [u64; 2]) -> DepthwiseArgs {
    let depth = b.expanded.next_multiple_of(8);
    DepthwiseArgs {
        input,
        weights: b.depthwise_weights,
        bias: b.depthwise_bias,
        out,
        frames: b.frames,
        chunks: depth / 8,
        in_h: b.in_h,
        in_w: b.in_w,
        out_h: b.out_h,
        out_w: b.out_w,
        in_stride: depth,
        out_stride: depth,
        stride: b.stride,
        relu: b.depthwise_relu,
        ..DepthwiseArgs::default()
    }
}

fn projection(b: &BlockArgs, a: u64) -> GemmArgs {
    GemmArgs {
        a,
        weights: b.project_weights,
        bias: b.project_bias,
        added: b.added,
        out: b.out,
        m: b.frames * b.out_h * b.out_w,
        n: b.n,
        a_stride: b.expanded.next_multiple_of(8),
        added_stride: b.added_stride,
        out_stride: b.out_stride,
        relu: b.relu,
        ..point(b.expanded, [b.out_h, b.out_w])
    }
}

/// A product with single pixels of so many channels.
fn point(channels: u32, [h, w]: [u32; 2]) -> GemmArgs {
    let k = channels.next_multiple_of(8);
    GemmArgs {
        k,
        weights_stride: k.next_multiple_of(crate::cuda::pack::K_MULTIPLE),
        channels,
        in_h: h,
        in_w: w,
        out_h: h,
        out_w: w,
        kernel_w: 1,
        stride_h: 1,
        stride_w: 1,
        ..GemmArgs::default()
    }
}
