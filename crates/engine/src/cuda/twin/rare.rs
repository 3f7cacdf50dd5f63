//! What networks of the family seldom have.

use super::{
    memory::{BadAddress, Memory, Pixels},
    product::positions,
};
use crate::cuda::args::{ElementwiseArgs, ReshapeArgs, WindowArgs};

/// A function of each element.
pub(super) fn elementwise(a: &ElementwiseArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    let channels = a.channels as usize;
    let mut values = memory.read(Pixels::new(a.input, a.pixels, a.channels, a.in_stride))?;
    if a.scale != 0 {
        let scale = memory.floats(a.scale, channels)?;
        let shift = memory.floats(a.shift, channels)?;
        for pixel in values.chunks_exact_mut(channels) {
            for ((x, s), t) in pixel.iter_mut().zip(&scale).zip(&shift) {
                *x = x.mul_add(*s, *t);
            }
        }
    }
    if a.other != 0 {
        let other = memory.read(Pixels::new(a.other, a.pixels, a.channels, a.other_stride))?;
        values.iter_mut().zip(other).for_each(|(x, y)| *x += y);
    }
    for x in &mut values {
        *x = match a.activation {
            1 => x.max(0.0),
            2 => 1.0 / (1.0 + (-*x).exp()),
            3 if *x < 0.0 => a.low * *x,
            4 => x.max(a.low).min(a.high),
            _ => *x,
        };
    }
    memory.write(
        Pixels::new(a.out, a.pixels, a.channels, a.out_stride),
        &values,
    )
}

/// Something of the window of each pixel.
pub(super) fn window(a: &WindowArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    let in_channels = if a.kind == 0 {
        a.channels / a.group_out * a.group_in
    } else {
        a.channels
    };
    let n_read = a.frames * a.in_h * a.in_w;
    let input = memory.read(Pixels::new(a.input, n_read, in_channels, a.in_stride))?;
    let n_out = a.frames * a.out_h * a.out_w;
    let taps = (a.kernel_h * a.kernel_w) as usize;
    let (mut weights, mut bias, mut added) = (vec![], vec![], None);
    if a.kind == 0 {
        weights = memory.floats(a.weights, a.channels as usize * a.group_in as usize * taps)?;
        bias = memory.floats(a.bias, a.channels as usize)?;
        if a.added != 0 {
            let pixels = Pixels::new(a.added, n_out, a.channels, a.added_stride);
            added = Some(memory.read(pixels)?);
        }
    }
    let mut out = Vec::with_capacity(n_out as usize * a.channels as usize);
    for (frame, y, x) in positions(a.frames, a.out_h, a.out_w) {
        let inside = inside(a, y, x);
        let value = |tap: usize, channel: usize| {
            let place = ((frame * a.in_h * a.in_w) as usize + tap) * in_channels as usize;
            input[place + channel]
        };
        for c in 0..a.channels as usize {
            let y = if a.kind == 0 {
                let first = c / a.group_out as usize * a.group_in as usize;
                let mut sum = bias[c];
                for &(tap, pixel) in &inside {
                    for i in 0..a.group_in as usize {
                        let w = weights[(c * a.group_in as usize + i) * taps + tap];
                        sum = value(pixel, first + i).mul_add(w, sum);
                    }
                }
                sum += added
                    .as_ref()
                    .map_or(0.0, |added: &Vec<f32>| added[out.len()]);
                if a.relu != 0 { sum.max(0.0) } else { sum }
            } else {
                pooled(
                    a,
                    inside.iter().map(|&(_, pixel)| value(pixel, c)),
                    inside.len(),
                )
            };
            out.push(y);
        }
    }
    memory.write(Pixels::new(a.out, n_out, a.channels, a.out_stride), &out)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a window has far fewer than 2^24 samples"
)]
fn pooled(a: &WindowArgs, samples: impl Iterator<Item = f32>, n_inside: usize) -> f32 {
    match a.kind {
        1 => samples.fold(f32::NEG_INFINITY, f32::max),
        2 => samples.sum::<f32>() / n_inside as f32,
        3 => samples.sum::<f32>() / (a.kernel_h * a.kernel_w) as f32,
        _ => {
            let mut samples = samples;
            samples.next().unwrap_or(a.value)
        }
    }
}

/// Number of the tap, and the pixel of the frame, of all that a window sees inside the map.
fn inside(a: &WindowArgs, y: u32, x: u32) -> Vec<(usize, usize)> {
    let tap = |(_, ky, kx): (u32, u32, u32)| {
        let iy = (y * a.stride_h + ky).checked_sub(a.pad_top)?;
        let ix = (x * a.stride_w + kx).checked_sub(a.pad_left)?;
        let is_inside = iy < a.in_h && ix < a.in_w;
        is_inside.then_some(((ky * a.kernel_w + kx) as usize, (iy * a.in_w + ix) as usize))
    };
    positions(1, a.kernel_h, a.kernel_w)
        .filter_map(tap)
        .collect()
}

/// The same floats under another shape.
pub(super) fn reshape(a: &ReshapeArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    let (in_c, out_c) = (a.len / a.in_plane, a.len / a.out_plane);
    let input = memory.read(Pixels::new(
        a.input,
        a.frames * a.in_plane,
        in_c,
        a.in_stride,
    ))?;
    let len = a.len as usize;
    let place = |i: usize, plane: u32, channels: u32| {
        i % plane as usize * channels as usize + i / plane as usize
    };
    let mut out = vec![0.0; input.len()];
    for (to, from) in out.chunks_exact_mut(len).zip(input.chunks_exact(len)) {
        for i in 0..len {
            to[place(i, a.out_plane, out_c)] = from[place(i, a.in_plane, in_c)];
        }
    }
    memory.write(
        Pixels::new(a.out, a.frames * a.out_plane, out_c, a.out_stride),
        &out,
    )
}
