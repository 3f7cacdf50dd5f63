//! How much of a device's memory a launch touches.

use super::args::{Args, BlockArgs, DepthwiseArgs, GemmArgs};

/// Bytes that a launch reads and writes, every value once. What is read again meanwhile (weights by every block,
/// borders by neighbouring ones) is found in the caches.
pub(super) fn bytes(args: &Args) -> u64 {
    match args {
        Args::GemmArgs(a) => product(a),
        Args::DepthwiseArgs(a) => depthwise(a),
        Args::BlockArgs(a) => block(a),
        Args::PackFaceArgs(a) => {
            u64::from(a.frames) * (count([a.crop, a.crop, 3]) + count([a.region, a.region, 8 * 2]))
        }
        Args::PackFloatsArgs(a) => {
            let n_pixels = count([a.frames, a.plane]);
            n_pixels * (u64::from(a.channels) * 4 + u64::from(a.out_stride) * 2)
        }
        Args::HeadArgs(a) => halves([a.pixels, 1], a.channels) + count([a.pixels, 3]),
        Args::EntryArgs(a) => 2 * halves([a.frames, a.plane], a.chunks * 8),
        Args::ResizeArgs(a) => {
            halves([a.frames * a.in_h, a.in_w], a.channels)
                + halves([a.frames * a.out_h, a.out_w], a.channels)
        }
        Args::ElementwiseArgs(a) => {
            let n_maps = 2 + u64::from(a.other != 0);
            n_maps * halves([a.pixels, 1], a.channels)
        }
        Args::WindowArgs(a) => {
            let in_channels = match a.kind {
                0 => a.channels / a.group_out * a.group_in,
                _ => a.channels,
            };
            let out = halves([a.frames * a.out_h, a.out_w], a.channels);
            let n_out = 1 + u64::from(a.added != 0);
            halves([a.frames * a.in_h, a.in_w], in_channels) + n_out * out
        }
        Args::ReshapeArgs(a) => 2 * halves([a.frames, 1], a.len),
    }
}

fn count<const N: usize>(sizes: [u32; N]) -> u64 {
    sizes.into_iter().map(u64::from).product()
}

/// Pixels of fp16 channels, in eights.
fn halves([rows, columns]: [u32; 2], channels: u32) -> u64 {
    count([rows, columns, channels.next_multiple_of(8)]) * 2
}

/// What is added to a product: nothing, as many pixels as it has, or fewer.
fn added(address: u64, pixels: u64, low: u64, channels: u32) -> u64 {
    let n_pixels = match (address, low) {
        (0, _) => 0,
        (_, 0) => pixels,
        _ => low,
    };
    n_pixels * u64::from(channels.next_multiple_of(8)) * 2
}

/// Packed weights and a bias.
fn matrix(n: u32, k: u32) -> u64 {
    let padded = n.next_multiple_of(32);
    count([padded, k.next_multiple_of(32)]) * 2 + u64::from(padded) * 4
}

fn product(a: &GemmArgs) -> u64 {
    let frames = a.m / (a.out_h * a.out_w);
    let low = count([frames, a.low_h, a.low_w]);
    halves([frames * a.in_h, a.in_w], a.channels)
        + matrix(a.n, a.k)
        + added(a.added, u64::from(a.m), low, a.n)
        + halves([a.m, 1], a.n)
}

fn depthwise(a: &DepthwiseArgs) -> u64 {
    let (channels, out) = (a.chunks * 8, [a.frames * a.out_h, a.out_w]);
    let n_out = 1 + u64::from(a.added != 0);
    halves([a.frames * a.in_h, a.in_w], channels)
        + count([10, channels, 4])
        + n_out * halves(out, channels)
}

fn block(a: &BlockArgs) -> u64 {
    let out = [a.frames * a.out_h, a.out_w];
    let low = count([a.frames, a.low_h, a.low_w]);
    // A block's input is often added to its result: it was read a moment ago.
    let other = if a.added == a.input { 0 } else { a.added };
    halves([a.frames * a.in_h, a.in_w], a.channels)
        + matrix(a.expanded, a.channels)
        + low * u64::from(a.lifted_channels.next_multiple_of(8)) * 2
        + matrix(
            if a.lifted == 0 { 0 } else { a.expanded },
            a.lifted_channels,
        )
        + count([10, a.expanded.next_multiple_of(8), 4])
        + matrix(a.n, a.expanded)
        + added(other, count(out), 0, a.n)
        + halves(out, a.n)
}
