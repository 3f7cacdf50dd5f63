//! Convolutions.

use lipsync_core::saturate::u32_of;

use super::memory::{BadAddress, Memory, Pixels};
use crate::cuda::{
    args::{DepthwiseArgs, GemmArgs},
    pack::{N_MULTIPLE, packed_line},
};

/// A convolution as a product of matrices.
pub(super) fn gemm(g: &GemmArgs, windowed: bool, memory: &mut Memory) -> Result<(), BadAddress> {
    let (n, k) = (g.n as usize, g.k as usize);
    let lines = windows(g, windowed, memory)?;
    let padded = n.next_multiple_of(N_MULTIPLE);
    let stride = g.weights_stride as usize;
    let packed = memory.halves(g.weights, padded * stride)?;
    // From [line][k] to [k][channel].
    let mut weights = vec![0.0; k * n];
    for channel in 0..n {
        let line = &packed[packed_line(channel) * stride..][..k];
        for (i, w) in line.iter().enumerate() {
            weights[i * n + channel] = *w;
        }
    }
    let bias = memory.floats(g.bias, padded)?;
    let added = added(g, memory)?;
    let mut out = vec![0.0; lines.len() / k * n];
    for (p, (out, line)) in out
        .chunks_exact_mut(n)
        .zip(lines.chunks_exact(k))
        .enumerate()
    {
        out.copy_from_slice(&bias[..n]);
        for (x, weights) in line.iter().zip(weights.chunks_exact(n)) {
            out.iter_mut()
                .zip(weights)
                .for_each(|(sum, w)| *sum += x * w);
        }
        for (channel, y) in out.iter_mut().enumerate() {
            if let Some(added) = &added {
                *y += added[p * n + channel];
            }
            if g.relu != 0 {
                *y = y.max(0.0);
            }
        }
    }
    memory.write(Pixels::new(g.out, g.m, g.n, g.out_stride), &out)
}

/// The left matrix: for every pixel of the result what its window sees, taps of channels rounded up
/// to eight.
fn windows(g: &GemmArgs, windowed: bool, memory: &Memory) -> Result<Vec<f32>, BadAddress> {
    let channels = g.channels as usize;
    let (k, depth) = (g.k as usize, channels.next_multiple_of(8));
    let (in_plane, out_plane) = (g.in_h * g.in_w, g.out_h * g.out_w);
    let n_frames = g.m / out_plane;
    let n_read = if windowed { n_frames * in_plane } else { g.m };
    let input = memory.read(Pixels::new(g.a, n_read, g.channels, g.a_stride))?;
    let mut lines = vec![0.0; g.m as usize * k];
    for (m, line) in lines.chunks_exact_mut(k).enumerate() {
        for (tap, values) in line.chunks_mut(depth).enumerate() {
            let pixel = if windowed {
                let tap = u32_of(tap);
                window_pixel(g, u32_of(m), tap)
            } else {
                Some(m)
            };
            if let Some(pixel) = pixel {
                values[..channels].copy_from_slice(&input[pixel * channels..][..channels]);
            }
        }
    }
    Ok(lines)
}

/// The pixel of the input that tap `tap` of result `m` sees, if it is no border.
fn window_pixel(g: &GemmArgs, m: u32, tap: u32) -> Option<usize> {
    let (frame, place) = (m / (g.out_h * g.out_w), m % (g.out_h * g.out_w));
    let y = (place / g.out_w * g.stride_h + tap / g.kernel_w).checked_sub(g.pad_top)?;
    let x = (place % g.out_w * g.stride_w + tap % g.kernel_w).checked_sub(g.pad_left)?;
    (y < g.in_h && x < g.in_w).then_some(((frame * g.in_h + y) * g.in_w + x) as usize)
}

/// What is added, densely, resized where it is smaller.
fn added(g: &GemmArgs, memory: &Memory) -> Result<Option<Vec<f32>>, BadAddress> {
    if g.added == 0 {
        return Ok(None);
    }
    if g.low_h == 0 {
        return memory
            .read(Pixels::new(g.added, g.m, g.n, g.added_stride))
            .map(Some);
    }
    let n_frames = g.m / (g.out_h * g.out_w);
    let pixels = Pixels::new(g.added, n_frames * g.low_h * g.low_w, g.n, g.added_stride);
    let low = memory.read(pixels)?;
    let sizes = [[g.low_h, g.low_w], [g.out_h, g.out_w]];
    Ok(Some(resized(&low, n_frames, g.n as usize, sizes)))
}

/// Bilinear resizing with aligned corners, of dense pixels: first along rows of pixels, then columns.
pub(super) fn resized(
    low: &[f32],
    n_frames: u32,
    channels: usize,
    [[in_h, in_w], [out_h, out_w]]: [[u32; 2]; 2],
) -> Vec<f32> {
    let mut out = Vec::with_capacity((n_frames * out_h * out_w) as usize * channels);
    for (frame, y, x) in positions(n_frames, out_h, out_w) {
        let ([y0, y1], fy) = between(y, in_h, out_h);
        let ([x0, x1], fx) = between(x, in_w, out_w);
        let pixel = |y: u32, x: u32| {
            &low[((frame * in_h + y) * in_w + x) as usize * channels..][..channels]
        };
        for c in 0..channels {
            let column = |x: u32| {
                let (top, bottom) = (pixel(y0, x)[c], pixel(y1, x)[c]);
                top + (bottom - top) * fy
            };
            let (left, right) = (column(x0), column(x1));
            out.push(left + (right - left) * fx);
        }
    }
    out
}

/// Frame, row and column of every pixel.
pub(super) fn positions(frames: u32, h: u32, w: u32) -> impl Iterator<Item = (u32, u32, u32)> {
    (0..frames).flat_map(move |n| (0..h).flat_map(move |y| (0..w).map(move |x| (n, y, x))))
}

/// The two positions that position `i` of `n_out` lies between, of `n_in`, and how far.
#[expect(
    clippy::cast_precision_loss,
    reason = "maps are far narrower than 2^24"
)]
fn between(i: u32, n_in: u32, n_out: u32) -> ([u32; 2], f32) {
    let (last_in, last_out) = (n_in - 1, (n_out - 1).max(1));
    let first = i * last_in / last_out;
    let fraction = (i * last_in % last_out) as f32 / last_out as f32;
    ([first, (first + 1).min(last_in)], fraction)
}

/// A depthwise 3x3 convolution.
pub(super) fn depthwise(d: &DepthwiseArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    let channels = d.chunks * 8;
    let depth = channels as usize;
    let n_read = d.frames * d.in_h * d.in_w;
    let input = memory.read(Pixels::new(d.input, n_read, channels, d.in_stride))?;
    let weights = memory.floats(d.weights, 9 * depth)?;
    let bias = memory.floats(d.bias, depth)?;
    let n_out = d.frames * d.out_h * d.out_w;
    let added = match d.added {
        0 => None,
        address => Some(memory.read(Pixels::new(address, n_out, channels, d.added_stride))?),
    };
    let mut out = Vec::with_capacity(n_out as usize * depth);
    for (frame, y, x) in positions(d.frames, d.out_h, d.out_w) {
        let place = out.len();
        out.extend_from_slice(&bias);
        let sums = &mut out[place..];
        for (tap, weights) in weights.chunks_exact(depth).enumerate() {
            let (ky, kx) = (
                u32::from(tap >= 3) + u32::from(tap >= 6),
                [0, 1, 2][tap % 3],
            );
            let (Some(iy), Some(ix)) = (
                (y * d.stride + ky).checked_sub(1),
                (x * d.stride + kx).checked_sub(1),
            ) else {
                continue;
            };
            if iy < d.in_h && ix < d.in_w {
                let pixel = ((frame * d.in_h + iy) * d.in_w + ix) as usize;
                let values = &input[pixel * depth..][..depth];
                for ((sum, x), w) in sums.iter_mut().zip(values).zip(weights) {
                    *sum = x.mul_add(*w, *sum);
                }
            }
        }
        for (c, y) in sums.iter_mut().enumerate() {
            *y += added.as_ref().map_or(0.0, |added| added[place + c]);
            if d.relu != 0 {
                *y = y.max(0.0);
            }
        }
    }
    memory.write(Pixels::new(d.out, n_out, channels, d.out_stride), &out)
}
