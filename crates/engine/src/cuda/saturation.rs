//! Whether fp16 holds a network's values.
//!
//! Kernels store fp16, and what is beyond its range becomes its largest number. Faces would be wrong, and nothing would
//! say why. So a network is tried on some frames, launch by launch, and what each launch has stored is looked at. Blocks
//! run by separate kernels here: what a fused one expands never leaves the chip, and its bits are the same.

use std::sync::Arc;

use super::{
    Cuda,
    args::Args,
    program::{Blocks, Phase},
    stage::Stage,
};
use crate::{EngineError, FaceInput};

/// The magnitude of fp16's largest number, where kernels stop. Only what is no number would be beyond.
const LARGEST: u16 = 0x7bff;

/// Pixels that a launch writes: address, how many, channels, and elements from one to the next.
struct Stored {
    address: u64,
    n_pixels: u32,
    channels: u32,
    stride: u32,
}

impl Cuda {
    /// Tries on some frames, one after the other, whether fp16 holds the values of a generator. What this takes of the
    /// device's memory it gives back.
    ///
    /// # Errors
    /// [`EngineError::Saturates`] where it does not. [`EngineError::Input`] where lengths do not fit, otherwise as
    /// [`load_generator`](crate::load_generator).
    pub fn try_values(
        self: &Arc<Self>,
        onnx: &[u8],
        frames: &[FaceInput<'_>],
    ) -> Result<(), EngineError> {
        let stage = Stage::new(self, onnx, Blocks::Separate, 1)?;
        let mut stream = Arc::clone(self.driver()).stream()?;
        let launches = [Phase::Visual, Phase::Frame].map(|phase| stage.launches(phase));
        let mut n_values = 0;
        let mut bytes = vec![];
        for frame in frames {
            stage.write(self, frame)?;
            for launch in launches.iter().flatten() {
                stream.launch(launch)?;
                stream.synchronize()?;
                if let Some(stored) = Stored::by(&launch.args) {
                    bytes.resize(stored.n_bytes(), 0);
                    self.driver().read(stored.address, &mut bytes)?;
                    n_values += stored.n_at_limit(&bytes);
                }
            }
        }
        match n_values {
            0 => Ok(()),
            n_values => Err(EngineError::Saturates { n_values }),
        }
    }
}

impl Stored {
    /// What a launch computes and stores; nothing where it copies, or makes bytes.
    fn by(args: &Args) -> Option<Self> {
        let of = |address, n_pixels, channels, stride| {
            Some(Self {
                address,
                n_pixels,
                channels,
                stride,
            })
        };
        match args {
            Args::GemmArgs(a) => of(a.out, a.m, a.n, a.out_stride),
            Args::DepthwiseArgs(a) => of(
                a.out,
                a.frames * a.out_h * a.out_w,
                a.chunks * 8,
                a.out_stride,
            ),
            Args::BlockArgs(a) => of(a.out, a.frames * a.out_h * a.out_w, a.n, a.out_stride),
            Args::PackFloatsArgs(a) => of(a.out, a.frames * a.plane, a.channels, a.out_stride),
            Args::ResizeArgs(a) => of(
                a.out,
                a.frames * a.out_h * a.out_w,
                a.channels,
                a.out_stride,
            ),
            Args::ElementwiseArgs(a) => of(a.out, a.pixels, a.channels, a.out_stride),
            Args::WindowArgs(a) => of(
                a.out,
                a.frames * a.out_h * a.out_w,
                a.channels,
                a.out_stride,
            ),
            Args::PackFaceArgs(_)
            | Args::HeadArgs(_)
            | Args::EntryArgs(_)
            | Args::ReshapeArgs(_) => None,
        }
    }

    fn n_bytes(&self) -> usize {
        let before = self.n_pixels.saturating_sub(1) as usize * self.stride as usize;
        (before + self.channels as usize) * size_of::<u16>()
    }

    /// How many of its values are as large as fp16's largest number.
    fn n_at_limit(&self, bytes: &[u8]) -> u64 {
        let n_written = self.channels as usize * size_of::<u16>();
        let pixels = bytes.chunks(self.stride as usize * size_of::<u16>());
        let halves = pixels.flat_map(|pixel| pixel[..n_written].chunks_exact(size_of::<u16>()));
        let is_at_limit = |half: &[u8]| u16::from_ne_bytes([half[0], half[1]]) & 0x7fff >= LARGEST;
        halves.map(|half| u64::from(is_at_limit(half))).sum()
    }
}
