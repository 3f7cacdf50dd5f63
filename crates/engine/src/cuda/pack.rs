//! Weights in the form in which the kernels read them.
//!
//! A product's weights are fp16 lines of one result channel each, a multiple of [`K_MULTIPLE`] long and
//! [`N_MULTIPLE`] in number. Within 32 lines they are ordered so that the thread that gets columns `2t` and
//! `2t + 1` of four neighbouring 8-column tiles of tensor-core results holds channels `8t..8t + 8`: it reads
//! and writes them as one vector of 16 bytes.

use super::half;
use crate::graph::Conv;

/// Channels of a result that a line of tiles covers are rounded up to this.
pub(crate) const N_MULTIPLE: usize = 32;
/// Products that a block does between two barriers; lines of packed weights are multiples of it.
pub(crate) const K_MULTIPLE: u32 = 32;
/// Arrays begin at multiples of this, in bytes.
const ALIGNMENT: usize = 256;

/// All weights of a network, as they lie on the device.
#[derive(Debug)]
pub(crate) struct Weights {
    bytes: Vec<u8>,
}

/// The line that the weights of a result channel are in.
pub(super) fn packed_line(channel: usize) -> usize {
    let (group, column) = (channel / N_MULTIPLE, channel % N_MULTIPLE);
    let (thread, tile, odd) = (column / 8, column % 8 / 2, column % 2);
    group * N_MULTIPLE + tile * 8 + thread * 2 + odd
}

impl Weights {
    /// No weights yet. What is added gets an offset from the start, never 0.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; ALIGNMENT],
        }
    }

    /// What is to be copied to the device.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Hands them out.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn begin(&mut self) -> u64 {
        self.bytes
            .resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        self.bytes.len() as u64
    }

    /// Floats, followed by zeros up to `len`.
    pub fn add_floats(&mut self, floats: &[f32], len: usize) -> u64 {
        let start = self.begin();
        self.bytes
            .extend(floats.iter().flat_map(|x| x.to_ne_bytes()));
        let missing = len.saturating_sub(floats.len());
        self.bytes
            .resize(self.bytes.len() + missing * size_of::<f32>(), 0);
        start
    }

    /// The last convolution, of `channels`: eight channels of each of its results, then the next eight; zeros behind the
    /// last.
    pub fn add_head(&mut self, weights: &[f32], channels: usize) -> u64 {
        let n = weights.len() / channels;
        let mut chunks = vec![0.0; channels.div_ceil(8) * n * 8];
        for (i, line) in weights.chunks_exact(channels).enumerate() {
            for (c, &w) in line.iter().enumerate() {
                chunks[(c / 8 * n + i) * 8 + c % 8] = w;
            }
        }
        self.add_floats(&chunks, 0)
    }

    /// A convolution without groups: packed weights and bias.
    pub fn add_matrix(&mut self, conv: &Conv) -> [u64; 2] {
        let n = conv.bias.len();
        let taps = conv.window.kernel[0] * conv.window.kernel[1];
        let channels = conv.weights.len() / (n * taps);
        let depth = channels.next_multiple_of(8);
        let (k, padded) = (taps * depth, n.next_multiple_of(N_MULTIPLE));
        let stride = k.next_multiple_of(K_MULTIPLE as usize);
        let mut lines = vec![0_u16; padded * stride];
        for (channel, weights) in conv.weights.chunks_exact(channels * taps).enumerate() {
            let line = &mut lines[packed_line(channel) * stride..][..k];
            for (i, &w) in weights.iter().enumerate() {
                line[i % taps * depth + i / taps] = half::from_f32(w);
            }
        }
        let start = self.begin();
        self.bytes
            .extend(lines.iter().flat_map(|half| half.to_ne_bytes()));
        [start, self.add_floats(&conv.bias, padded)]
    }

    /// A depthwise 3x3 convolution: weights `[9][channels]` and bias, channels rounded up to eight.
    pub fn add_depthwise(&mut self, conv: &Conv) -> [u64; 2] {
        let depth = conv.bias.len().next_multiple_of(8);
        let mut taps = vec![0.0; 9 * depth];
        for (i, &w) in conv.weights.iter().enumerate() {
            taps[i % 9 * depth + i / 9] = w;
        }
        [
            self.add_floats(&taps, taps.len()),
            self.add_floats(&conv.bias, depth),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::Window;

    #[test]
    fn thirty_two_lines_are_a_permutation_of_their_channels() {
        let mut lines: Vec<usize> = (32..64).map(packed_line).collect();
        // Thread 1 holds columns 2 and 3 of the four tiles: channels 8 to 15.
        assert_eq!(lines[8..16], [34, 35, 42, 43, 50, 51, 58, 59]);
        lines.sort_unstable();
        assert!(lines.into_iter().eq(32..64));
    }

    #[test]
    fn a_line_holds_its_taps_one_after_the_other() {
        let conv = Conv {
            // Channel 1 of the result, channel 0 of the input: 100 to 103.
            weights: (0..24).map(|i| [i, 100 + i - 12][i / 12] as f32).collect(),
            bias: vec![0.5, 1.5],
            window: Window {
                kernel: [2, 2],
                ..Window::POINT
            },
            groups: 1,
            relu: false,
        };
        let mut weights = Weights::new();
        let [start, _] = weights.add_matrix(&conv);
        let start = usize::try_from(start).unwrap() + packed_line(1) * 64;
        let half = |i: usize| {
            let b = &weights.bytes()[start + 2 * i..];
            half::to_f32(u16::from_ne_bytes([b[0], b[1]]))
        };
        let line: Vec<f32> = (0..32).map(half).collect();
        // Four taps of three channels and five zeros each.
        assert_eq!(line[..8], [100.0, 104.0, 108.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(line[24..27], [103.0, 107.0, 111.0]);
    }
}
