//! Inverted residual blocks: what the separate kernels would do, one after the other.

use lipsync_core::saturate::u32_of;

use super::{
    memory::{BadAddress, Memory, Pixels},
    product,
};
use crate::cuda::{
    args::{BlockArgs, DepthwiseArgs, GemmArgs},
    pack::{K_MULTIPLE, N_MULTIPLE},
};

/// Resizing, expansion, depthwise convolution, projection.
pub(super) fn block(b: &BlockArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    let depth = b.expanded.next_multiple_of(8);
    let maps = [[b.in_h, b.in_w], [b.out_h, b.out_w]];
    let between = maps.map(|[h, w]| memory.allocate((b.frames * h * w * depth * 2) as usize));
    let done = all(b, between, memory);
    between.into_iter().for_each(|address| {
        memory.free(address);
    });
    done
}

fn all(
    b: &BlockArgs,
    [expanded, convolved]: [u64; 2],
    memory: &mut Memory,
) -> Result<(), BadAddress> {
    if b.lifted == 0 {
        let what = (b.input, b.expand_weights, b.channels, b.in_stride);
        product::gemm(&expansion(b, what, expanded), false, memory)?;
    } else {
        expand_joined(b, expanded, memory)?;
    }
    product::depthwise(&convolution(b, [expanded, convolved]), memory)?;
    product::gemm(&projection(b, convolved), false, memory)
}

/// Expands what is lifted and the input as one tensor, channels of the former first.
fn expand_joined(b: &BlockArgs, out: u64, memory: &mut Memory) -> Result<(), BadAddress> {
    let (n_pixels, n_low) = (b.frames * b.in_h * b.in_w, b.frames * b.low_h * b.low_w);
    let input = memory.read(Pixels::new(b.input, n_pixels, b.channels, b.in_stride))?;
    let low = memory.read(Pixels::new(
        b.lifted,
        n_low,
        b.lifted_channels,
        b.lifted_stride,
    ))?;
    let sizes = [[b.low_h, b.low_w], [b.in_h, b.in_w]];
    let lifted = product::resized(&low, b.frames, b.lifted_channels as usize, sizes);
    let both = b.lifted_channels + b.channels;
    let n_lines = b.expanded.next_multiple_of(u32_of(N_MULTIPLE));
    let weights = |memory: &Memory, address: u64, channels: u32| {
        let stride = channels.next_multiple_of(K_MULTIPLE);
        memory.read(Pixels::new(address, n_lines, channels, stride))
    };
    let of_lifted = weights(memory, b.lift_weights, b.lifted_channels)?;
    let of_input = weights(memory, b.expand_weights, b.channels)?;
    let stride = both.next_multiple_of(K_MULTIPLE);
    let mut join = |parts: [&[f32]; 2], n: u32| {
        let address = memory.allocate((n * stride * 2) as usize);
        memory
            .bytes_mut(address, (n * stride * 2) as usize)?
            .fill(0);
        let channels = [b.lifted_channels, b.channels];
        for (i, (part, channels)) in parts.into_iter().zip(channels).enumerate() {
            let first = if i == 0 {
                0
            } else {
                u64::from(b.lifted_channels) * 2
            };
            memory.write(Pixels::new(address + first, n, channels, stride), part)?;
        }
        Ok::<_, BadAddress>(address)
    };
    let pixels = join([&lifted, &input], n_pixels)?;
    let lines = join([&of_lifted, &of_input], n_lines)?;
    product::gemm(
        &expansion(b, (pixels, lines, both, stride), out),
        false,
        memory,
    )?;
    for address in [pixels, lines] {
        memory.free(address);
    }
    Ok(())
}

/// The expansion of a tensor: where it is, its weights, channels, and how far pixels are apart.
fn expansion(
    b: &BlockArgs,
    (input, weights, channels, a_stride): (u64, u64, u32, u32),
    out: u64,
) -> GemmArgs {
    GemmArgs {
        a: input,
        weights,
        bias: b.expand_bias,
        out,
        m: b.frames * b.in_h * b.in_w,
        n: b.expanded,
        a_stride,
        out_stride: b.expanded.next_multiple_of(8),
        relu: b.expand_relu,
        ..point(channels, [b.in_h, b.in_w])
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
        weights_stride: k.next_multiple_of(K_MULTIPLE),
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
