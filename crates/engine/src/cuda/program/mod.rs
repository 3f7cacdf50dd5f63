//! A generator as launches of kernels: the same graph and the same placing as on the CPU.
//!
//! A generator's program has two parts. The *visual* part turns a face crop into what depends on it alone and leaves
//! that in the frame's entry; the *frame* part makes a face of an entry and an audio window. Every frame
//! runs both or, where its entry is kept, the second only: the values are the same, so the bits are.
//! The cheap first block runs in both, since its result would be two thirds of an entry.
//!
//! An entry is the crop, as bytes, and then the kept values, fp16 and dense. Frames of a batch lie one
//! after the other in every tensor, so a tensor's place for a batch is its place for one frame times
//! the number of frames. Kernels get addresses of entries through a table, so that captured launches
//! serve whatever frames there are.
//!
//! An audio encoder's program has a frame part only, and no entries: a *frame* is a patch of spectrogram, and its result
//! a feature step in fp16.

mod fuse;
mod lower;
mod split;

use lipsync_core::saturate::u32_of;

use super::{
    args::{Args, EntryArgs},
    launch::Launch,
    pack::Weights,
    windows::AUDIO_TABLE_BYTES,
};
use crate::{
    EngineError,
    contract::{EncoderGraph, GeneratorGraph},
    graph::Shape,
};

/// A network's launches for any batch, and its packed weights.
#[derive(Debug)]
pub(crate) struct Program {
    weights: Weights,
    /// Of an audio window, or of a patch of spectrogram.
    pub audio: Shape,
    /// Floats of the steps that windows are made of, if they are.
    pub step_floats: Option<usize>,
    /// Bytes of a face crop.
    pub crop_bytes: usize,
    /// Bytes of a frame's result: a face, or a step.
    pub result_bytes: usize,
    /// Bytes of what is kept of a frame.
    pub entry_bytes: usize,
    /// Whether an entry holds more than the crop.
    pub keeps_values: bool,
    visual: Part,
    frame: Part,
}

/// How inverted residual blocks run on a CUDA device. Results are the same, bit for bit, wherever tensor cores
/// add the same products in the same order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Blocks {
    /// By one kernel, where there is one for the block's sizes: what is expanded stays on the chip.
    #[default]
    Fused,
    /// By three: expansion, depthwise convolution, projection. To compare.
    Separate,
}

/// Which launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// From crops in entries to values in entries.
    Visual,
    /// From entries and audio to faces.
    Frame,
}

/// Launches that run one after the other, and the memory that they need.
#[derive(Debug, Default)]
struct Part {
    steps: Vec<Step>,
    /// Elements of the arena for one frame.
    arena_len: usize,
}

/// A launch for one frame, without addresses.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Sizes for one frame; addresses of weights from the start of all weights.
    args: Args,
    /// A product that reads windows, or a copy from entries.
    is_variant: bool,
    input: Spot,
    /// What is added.
    other: Option<Spot>,
    /// What a block lifts.
    lifted: Option<Spot>,
    output: Spot,
}

/// Where a step reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    /// A tensor that starts at element `start` of one frame's arena, from a channel on.
    Arena { start: usize, channel: usize },
    /// Entries, through the table.
    Entries,
    /// The audio windows, behind the table of where they begin.
    Audio,
    /// The results that are handed out.
    Results,
}

/// Where things are on the device.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bases {
    pub weights: u64,
    pub arena: u64,
    /// Addresses of entries, one a frame.
    pub table: u64,
    /// A table of where windows begin, and the windows: see [`windows`](super::windows).
    pub audio: u64,
    pub results: u64,
}

impl Program {
    /// Lowers a generator's graph.
    ///
    /// # Errors
    /// [`EngineError::Contract`] where a tensor is larger than kernels can count.
    pub fn new(generator: GeneratorGraph, blocks: Blocks) -> Result<Self, EngineError> {
        lower::lower(generator, blocks)
    }

    /// Lowers an audio encoder's graph.
    ///
    /// # Errors
    /// As [`new`](Self::new), and for operators that no kernel of the device executes.
    pub fn of_encoder(encoder: EncoderGraph) -> Result<Self, EngineError> {
        lower::lower_encoder(encoder)
    }

    /// The packed weights, which nothing else needs: they are handed out once.
    pub fn take_weights(&mut self) -> Vec<u8> {
        self.weights.take()
    }

    /// Bytes of the packed weights, until they are taken.
    pub fn weights_bytes(&self) -> usize {
        self.weights.bytes().len()
    }

    fn part(&self, phase: Phase) -> &Part {
        match phase {
            Phase::Visual => &self.visual,
            Phase::Frame => &self.frame,
        }
    }

    /// The launches of a phase for `bucket` frames.
    pub fn launches(&self, phase: Phase, bases: &Bases, bucket: usize) -> Vec<Launch> {
        let steps = self.part(phase).steps.iter();
        steps.map(|step| step.bind(bases, bucket)).collect()
    }

    /// Launches of a phase; as many for every bucket.
    pub fn n_launches(&self, phase: Phase) -> usize {
        self.part(phase).steps.len()
    }

    /// Whether a phase has anything to do.
    pub fn has(&self, phase: Phase) -> bool {
        !self.part(phase).steps.is_empty()
    }

    /// Bytes of the arena for `bucket` frames.
    pub fn arena_bytes(&self, bucket: usize) -> usize {
        self.visual.arena_len.max(self.frame.arena_len) * bucket * size_of::<u16>()
    }
}

impl Spot {
    fn address(self, bases: &Bases, bucket: usize) -> u64 {
        match self {
            Self::Arena { start, channel } => {
                bases.arena + ((start * bucket + channel) * size_of::<u16>()) as u64
            }
            Self::Entries => bases.table,
            Self::Audio => bases.audio,
            Self::Results => bases.results,
        }
    }
}

impl Step {
    /// The launch for `bucket` frames, told where things are.
    fn bind(&self, bases: &Bases, bucket: usize) -> Launch {
        let at = |spot: Spot| spot.address(bases, bucket);
        let (input, output) = (at(self.input), at(self.output));
        let added = self.other.map_or(0, at);
        let frames = u32_of(bucket);
        // Of all addresses only those of weights are known, and none of them is offset 0.
        let of_weights = |offset: u64| match offset {
            0 => 0,
            _ => bases.weights + offset,
        };
        match self.args.with_addresses(of_weights) {
            Args::GemmArgs(mut a) => {
                (a.a, a.added, a.out) = (input, added, output);
                a.m *= frames;
                Launch::gemm(a, self.is_variant)
            }
            Args::DepthwiseArgs(mut a) => {
                (a.input, a.added, a.out, a.frames) = (input, added, output, frames);
                Launch::of(Args::DepthwiseArgs(a))
            }
            Args::BlockArgs(mut a) => {
                (a.input, a.added, a.out, a.frames) = (input, added, output, frames);
                a.lifted = self.lifted.map_or(0, at);
                Launch::of(Args::BlockArgs(a))
            }
            Args::PackFaceArgs(mut a) => {
                (a.table, a.out, a.frames) = (input, output, frames);
                Launch::of(Args::PackFaceArgs(a))
            }
            Args::PackFloatsArgs(mut a) => {
                (a.table, a.input) = (input, input + AUDIO_TABLE_BYTES as u64);
                (a.out, a.frames) = (output, frames);
                Launch::of(Args::PackFloatsArgs(a))
            }
            Args::HeadArgs(mut a) => {
                (a.input, a.out) = (input, output);
                a.pixels *= frames;
                Launch::of(Args::HeadArgs(a))
            }
            Args::EntryArgs(mut a) => {
                a.frames = frames;
                self.bind_entry(a, [input, output])
            }
            Args::ResizeArgs(mut a) => {
                (a.input, a.out, a.frames) = (input, output, frames);
                Launch::of(Args::ResizeArgs(a))
            }
            Args::ElementwiseArgs(mut a) => {
                (a.input, a.other, a.out) = (input, added, output);
                a.pixels *= frames;
                Launch::of(Args::ElementwiseArgs(a))
            }
            Args::WindowArgs(mut a) => {
                (a.input, a.added, a.out, a.frames) = (input, added, output, frames);
                Launch::of(Args::WindowArgs(a))
            }
            Args::ReshapeArgs(mut a) => {
                (a.input, a.out, a.frames) = (input, output, frames);
                Launch::of(Args::ReshapeArgs(a))
            }
        }
    }

    /// A copy to entries or from them.
    fn bind_entry(&self, a: EntryArgs, [input, output]: [u64; 2]) -> Launch {
        let with = |[table, tensor]: [u64; 2]| EntryArgs { table, tensor, ..a };
        if self.is_variant {
            Launch::restore(with([input, output]))
        } else {
            Launch::of(Args::EntryArgs(with([output, input])))
        }
    }
}

#[cfg(test)]
mod tests;
