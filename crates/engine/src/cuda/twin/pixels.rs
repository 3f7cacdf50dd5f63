//! The network's ends, entries, and resizing.

use super::{
    memory::{BadAddress, Memory, Pixels},
    product::{positions, resized},
};
use crate::cuda::args::{EntryArgs, HeadArgs, PackFaceArgs, PackFloatsArgs, ResizeArgs};

/// Face crops to pixels of eight.
pub(super) fn pack_face(a: &PackFaceArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    let table = memory.addresses(a.table, a.frames as usize)?;
    let plane = a.region * a.region;
    for (frame, entry) in (0..a.frames).zip(table).filter(|(_, entry)| *entry != 0) {
        let crop = memory.bytes(entry, (a.crop * a.crop * 3) as usize)?;
        let mut out = Vec::with_capacity(plane as usize * 8);
        for (_, y, x) in positions(1, a.region, a.region) {
            let place = ((y + a.ring) * a.crop + x + a.ring) as usize * 3;
            let is_masked =
                (a.mask_x0..a.mask_x1).contains(&x) && (a.mask_y0..a.mask_y1).contains(&y);
            let bgr = [0, 1, 2].map(|i| f32::from(crop[place + i]) / 255.0);
            out.extend(bgr);
            out.extend(if is_masked { [0.0; 3] } else { bgr });
            out.extend([0.0; 2]);
        }
        let to = a.out + u64::from(frame) * u64::from(plane) * 16;
        memory.write(Pixels::new(to, plane, 8, 8), &out)?;
    }
    Ok(())
}

/// Floats in NCHW to pixels, channels rounded up with zeros.
pub(super) fn pack_floats(a: &PackFloatsArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    let (channels, plane) = (a.channels as usize, a.plane as usize);
    let mut out = vec![];
    for start in memory.words(a.table, a.frames as usize)? {
        let frame = memory.floats(a.input + u64::from(start) * 4, channels * plane)?;
        for p in 0..plane {
            let value = |c: usize| {
                if c < channels {
                    frame[c * plane + p]
                } else {
                    0.0
                }
            };
            out.extend((0..a.out_stride as usize).map(value));
        }
    }
    memory.write(
        Pixels::new(a.out, a.frames * a.plane, a.out_stride, a.out_stride),
        &out,
    )
}

/// The last convolution and the conversion to bytes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is limited to 0..=255, and the contract truncates"
)]
pub(super) fn head(a: &HeadArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    let channels = a.channels as usize;
    let depth = channels.next_multiple_of(8);
    let input = memory.read(Pixels::new(a.input, a.pixels, a.channels, a.in_stride))?;
    let convolution = match a.weights {
        0 => None,
        address => Some((
            memory.floats(address, 3 * depth)?,
            memory.floats(a.bias, 3)?,
        )),
    };
    let mut bytes = Vec::with_capacity(a.pixels as usize * 3);
    for pixel in input.chunks_exact(channels) {
        for i in 0..3 {
            let mut y = match &convolution {
                None => pixel[i],
                Some((weights, bias)) => {
                    let weight = |c: usize| weights[(c / 8 * 3 + i) * 8 + c % 8];
                    let products = pixel.iter().enumerate();
                    products.fold(bias[i], |sum, (c, x)| x.mul_add(weight(c), sum))
                }
            };
            if a.relu != 0 {
                y = y.max(0.0);
            }
            if a.sigmoid != 0 {
                y = 1.0 / (1.0 + (-y).exp());
            }
            bytes.push((255.0 * y.clamp(0.0, 1.0)) as u8);
        }
    }
    memory
        .bytes_mut(a.out, bytes.len())?
        .copy_from_slice(&bytes);
    Ok(())
}

/// A value of each frame to its entry.
pub(super) fn save_entry(a: &EntryArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    for (value, kept) in places(a, memory)? {
        let pixels = memory.read(value)?;
        memory.write(kept, &pixels)?;
    }
    Ok(())
}

/// A value of each frame from its entry.
pub(super) fn restore_entry(a: &EntryArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    for (value, kept) in places(a, memory)? {
        let pixels = memory.read(kept)?;
        memory.write(value, &pixels)?;
    }
    Ok(())
}

/// For each frame that has an entry, the value in the tensor and in the entry.
fn places(a: &EntryArgs, memory: &Memory) -> Result<Vec<(Pixels, Pixels)>, BadAddress> {
    let table = memory.addresses(a.table, a.frames as usize)?;
    let channels = a.chunks * 8;
    let frame_bytes = u64::from(a.plane) * u64::from(a.stride) * 2;
    let place = |(frame, entry): (u64, u64)| {
        let tensor = Pixels::new(a.tensor + frame * frame_bytes, a.plane, channels, a.stride);
        let kept = Pixels::new(entry + u64::from(a.offset), a.plane, channels, channels);
        (tensor, kept)
    };
    Ok((0..)
        .zip(table)
        .filter(|(_, entry)| *entry != 0)
        .map(place)
        .collect())
}

/// Bilinear resizing.
pub(super) fn resize(a: &ResizeArgs, memory: &mut Memory) -> Result<(), BadAddress> {
    let n_read = a.frames * a.in_h * a.in_w;
    let input = memory.read(Pixels::new(a.input, n_read, a.channels, a.in_stride))?;
    let sizes = [[a.in_h, a.in_w], [a.out_h, a.out_w]];
    let out = resized(&input, a.frames, a.channels as usize, sizes);
    let n_written = a.frames * a.out_h * a.out_w;
    memory.write(
        Pixels::new(a.out, n_written, a.channels, a.out_stride),
        &out,
    )
}
