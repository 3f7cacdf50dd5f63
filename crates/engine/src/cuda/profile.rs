//! Where a network's time goes on a device.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Cuda,
    args::Args,
    driver::Allocation,
    launch::Launch,
    program::{Bases, Phase, Program},
    worker::TABLE_BYTES,
};
use crate::{EngineError, load::GeneratorGraph};

/// One launch of a network and how long it takes.
#[derive(Debug, Clone)]
pub struct LaunchTime {
    /// Whether it runs for every frame, or only where what depends on a background frame is not kept.
    pub is_visual: bool,
    /// The kernel's name.
    pub kernel: &'static str,
    /// Sizes, in words.
    pub shape: String,
    /// Multiplications and additions, in pairs.
    pub macs: u64,
    /// The mean of many in a row.
    pub time: Duration,
}

/// Times every launch of a generator for batches of `bucket` frames, each `n_runs` times in a row. Inputs and
/// entries are whatever memory holds.
///
/// # Errors
/// As [`load_generator`](crate::load_generator).
pub fn profile(
    cuda: &Arc<Cuda>,
    onnx: &[u8],
    bucket: usize,
    n_runs: u32,
) -> Result<Vec<LaunchTime>, EngineError> {
    let mut program = Program::new(GeneratorGraph::read(onnx)?)?;
    let packed = program.take_weights();
    let allocate = |n_bytes: usize| Allocation::new(cuda.driver(), n_bytes.max(1));
    let weights = allocate(packed.len())?;
    cuda.driver().write(&packed, weights.address)?;
    let arena = allocate(program.arena_bytes(bucket))?;
    let audio = allocate(program.audio.len() * size_of::<f32>() * bucket)?;
    let faces = allocate(program.geometry.region_bytes() * bucket)?;
    let entries = allocate(program.entry_bytes * bucket)?;
    let table = allocate(TABLE_BYTES)?;
    let addresses = (0..bucket).map(|i| entries.address + (i * program.entry_bytes) as u64);
    let addresses: Vec<u8> = addresses.flat_map(u64::to_ne_bytes).collect();
    cuda.driver().write(&addresses, table.address)?;
    let bases = Bases {
        weights: weights.address,
        arena: arena.address,
        table: table.address,
        audio: audio.address,
        faces: faces.address,
    };
    let mut stream = Arc::clone(cuda.driver()).stream()?;
    let mut times = vec![];
    for phase in [Phase::Visual, Phase::Frame] {
        for launch in program.launches(phase, &bases, bucket) {
            stream.launch(&launch)?;
            stream.synchronize()?;
            let begun = Instant::now();
            for _ in 0..n_runs {
                stream.launch(&launch)?;
            }
            stream.synchronize()?;
            let (shape, macs) = describe(&launch);
            times.push(LaunchTime {
                is_visual: phase == Phase::Visual,
                kernel: launch.kernel.entry(),
                shape,
                macs,
                time: begun.elapsed() / n_runs.max(1),
            });
        }
    }
    Ok(times)
}

fn describe(launch: &Launch) -> (String, u64) {
    match launch.args {
        Args::GemmArgs(a) => {
            let added = match (a.added, a.low_h) {
                (0, _) => "",
                (_, 0) => ", a sum",
                _ => ", a sum with what is resized",
            };
            let macs = u64::from(a.m) * u64::from(a.n) * u64::from(a.k);
            (format!("{} pixels, {} to {}{added}", a.m, a.k, a.n), macs)
        }
        Args::DepthwiseArgs(a) => {
            let (pixels, channels) = (a.frames * a.out_h * a.out_w, a.chunks * 8);
            let text = format!("{pixels} pixels, {channels} channels, stride {}", a.stride);
            (text, u64::from(pixels) * u64::from(channels) * 9)
        }
        _ => (format!("{} blocks", launch.blocks), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cuda::FakeDevice, network_writer::variants::write_variant};

    #[test]
    fn every_launch_is_timed() {
        let device = FakeDevice::new(0, 1 << 30);
        let onnx = write_variant("small-opset13").unwrap();
        let times = profile(&device.open(), &onnx, 1, 1).unwrap();
        let n_macs: u64 = times.iter().map(|time| time.macs).sum();
        assert!(
            times.iter().any(|time| time.is_visual) && n_macs > 1_000_000,
            "{n_macs}"
        );
        assert_eq!(device.used_bytes(), 0);
    }
}
