//! The CUDA engine: the same networks on NVIDIA devices.
//!
//! It is always compiled in and needs nothing but the driver, which is looked for when the program
//! runs. [`Devices::discover`] says what there is, [`Cuda::open`] opens one device, and
//! [`load_generator`](crate::load_generator) with [`LoadOptions::device`](crate::LoadOptions::device)
//! loads a generator for it. [`load_audio_encoder`](crate::load_audio_encoder) does the same for an AVE encoder; those
//! that are networks over sequences run on the host.
//!
//! A device's memory holds weights once, an entry for every background frame that is kept, and one
//! arena for each worker: [`Footprint`] says how much before anything is loaded, and [`encoder_bytes`] what an audio
//! encoder adds.

mod apart;
mod args;
mod bucket;
mod cases;
mod context;
mod devices;
mod driver;
mod encoder;
mod entries;
mod flight;
mod footprint;
mod generator;
mod half;
mod launch;
mod network;
mod pack;
mod profile;
mod program;
mod saturation;
mod stage;
mod traffic;
mod twin;
mod windows;
mod worker;

/// Launches of every kernel over random shapes, as the emulator of `tools/cuda-kernels` reads them.
#[must_use]
pub fn kernel_cases(seed: u64, rounds: usize) -> Vec<u8> {
    let cases = cases::draw(seed, rounds);
    cases.iter().flat_map(cases::Case::to_bytes).collect()
}

pub use apart::{Apart, Effort, take_apart};
pub use bucket::{BUCKETS, bucket_of};
pub use context::Cuda;
pub use devices::{DeviceInfo, Devices};
pub use driver::{
    DeviceOptions,
    fake::{Call, FakeDevice, Fault},
};
pub(crate) use encoder::CudaEncoder;
pub use encoder::{encoder_bytes, runs_encoder};
pub use footprint::{Footprint, kept_bytes};
pub(crate) use generator::CudaGenerator;
pub use profile::{LaunchShape, LaunchTime, launches, profile};
pub use program::Blocks;
pub(crate) use worker::Worker;

#[cfg(test)]
mod source_tests;
