//! Where a network's time goes on a device.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Cuda,
    args::Args,
    launch::Launch,
    program::{Bases, Blocks, Phase, Program},
    stage::Stage,
    traffic,
};
use crate::{EngineError, contract::GeneratorGraph};

/// One launch of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchShape {
    /// Whether it runs for every frame, or only where what depends on a background frame is not kept.
    pub is_visual: bool,
    /// The kernel's name.
    pub kernel: &'static str,
    /// Sizes, in words.
    pub shape: String,
    /// Blocks, threads of a block, and bytes of shared memory that a block has.
    pub grid: [u32; 3],
    /// What the kernel is told, as it is passed. Addresses stand for something, but nothing is there.
    pub args: Vec<u8>,
    /// Multiplications and additions, in pairs.
    pub macs: u64,
    /// Bytes that are read and written in the device's memory, every value once.
    pub bytes: u64,
}

/// A launch and how long it takes.
#[derive(Debug, Clone)]
pub struct LaunchTime {
    /// Which.
    pub launch: LaunchShape,
    /// The mean of many in a row.
    pub time: Duration,
}

/// The launches of a generator for batches of `bucket` frames; needs no device.
///
/// # Errors
/// As [`load_generator`](crate::load_generator).
pub fn launches(
    onnx: &[u8],
    blocks: Blocks,
    bucket: usize,
) -> Result<Vec<LaunchShape>, EngineError> {
    let program = Program::new(GeneratorGraph::read(onnx)?, blocks)?;
    // No address is 0, which would say that there is nothing.
    let bases = Bases {
        weights: 1 << 40,
        arena: 1 << 48,
        table: 1 << 41,
        audio: 1 << 42,
        results: 1 << 43,
    };
    let of = |phase| {
        let launches = program.launches(phase, &bases, bucket).into_iter();
        launches.map(move |launch| describe(phase, &launch))
    };
    Ok(of(Phase::Visual).chain(of(Phase::Frame)).collect())
}

/// Times every launch of a generator for batches of `bucket` frames, each `n_runs` times in a row. Inputs and
/// entries are whatever memory holds.
///
/// # Errors
/// As [`load_generator`](crate::load_generator).
pub fn profile(
    cuda: &Arc<Cuda>,
    onnx: &[u8],
    blocks: Blocks,
    (bucket, n_runs): (usize, u32),
) -> Result<Vec<LaunchTime>, EngineError> {
    let stage = Stage::new(cuda, onnx, blocks, bucket)?;
    let mut stream = Arc::clone(cuda.driver()).stream()?;
    let mut times = vec![];
    for phase in [Phase::Visual, Phase::Frame] {
        for launch in stage.launches(phase) {
            stream.launch(&launch)?;
            stream.synchronize()?;
            let begun = Instant::now();
            for _ in 0..n_runs {
                stream.launch(&launch)?;
            }
            stream.synchronize()?;
            times.push(LaunchTime {
                launch: describe(phase, &launch),
                time: begun.elapsed() / n_runs.max(1),
            });
        }
    }
    Ok(times)
}

fn describe(phase: Phase, launch: &Launch) -> LaunchShape {
    let (shape, macs) = sizes(launch);
    LaunchShape {
        is_visual: phase == Phase::Visual,
        kernel: launch.kernel.entry(),
        shape,
        grid: [launch.blocks, launch.threads, launch.shared_bytes],
        args: launch.args.to_bytes(),
        macs,
        bytes: traffic::bytes(&launch.args),
    }
}

/// In words, and multiplications.
fn sizes(launch: &Launch) -> (String, u64) {
    let count = |sizes: &[u32]| sizes.iter().copied().map(u64::from).product::<u64>();
    match launch.args {
        Args::GemmArgs(a) => {
            let added = match (a.added, a.low_h) {
                (0, _) => "",
                (_, 0) => ", a sum",
                _ => ", a sum with what is resized",
            };
            let text = format!("{} pixels, {} to {}{added}", a.m, a.k, a.n);
            (text, count(&[a.m, a.n, a.k]))
        }
        Args::DepthwiseArgs(a) => {
            let (pixels, channels) = (a.frames * a.out_h * a.out_w, a.chunks * 8);
            let text = format!("{pixels} pixels, {channels} channels, stride {}", a.stride);
            (text, count(&[pixels, channels, 9]))
        }
        Args::BlockArgs(a) => {
            let [low, seen, pixels] = [[a.low_h, a.low_w], [a.in_h, a.in_w], [a.out_h, a.out_w]]
                .map(|[h, w]| a.frames * h * w);
            let lifted = match a.lifted_channels {
                0 => String::new(),
                n => format!(" and {n} lifted"),
            };
            let added = if a.added == 0 { "" } else { ", a sum" };
            let text = format!(
                "{pixels} pixels, {}{lifted} to {} to {}{added}, stride {}",
                a.channels, a.expanded, a.n, a.stride
            );
            let expanded = count(&[seen, a.channels, a.expanded])
                + count(&[low, a.lifted_channels, a.expanded]);
            let convolved = count(&[pixels, a.expanded]) * u64::from(9 + a.n);
            (text, expanded + convolved)
        }
        _ => (format!("{} blocks", launch.blocks), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cuda::FakeDevice, oracle::network_writer::variants::write_variant};

    /// Bytes a frame of the full-size network: those of every frame, and those of a background frame.
    fn traffic(blocks: Blocks) -> [u64; 2] {
        let onnx = write_variant("328-ave").unwrap();
        let launches = launches(&onnx, blocks, 16).unwrap();
        [false, true].map(|is_visual| {
            let phase = launches
                .iter()
                .filter(|launch| launch.is_visual == is_visual);
            phase.map(|launch| launch.bytes).sum::<u64>() / 16
        })
    }

    #[test]
    fn fused_blocks_halve_what_crosses_the_memory() {
        let (fused, separate) = (traffic(Blocks::Fused), traffic(Blocks::Separate));
        assert!(
            fused[0] < 80_000_000 && fused[0] * 2 < separate[0],
            "{fused:?} {separate:?}"
        );
        assert!(fused[1] * 2 < separate[1], "{fused:?} {separate:?}");
    }

    #[test]
    fn every_launch_is_timed() {
        let device = FakeDevice::new(0, 1 << 30);
        let onnx = write_variant("small-opset13").unwrap();
        let times = profile(&device.open(), &onnx, Blocks::Fused, (1, 1)).unwrap();
        let n_macs: u64 = times.iter().map(|time| time.launch.macs).sum();
        assert!(
            times.iter().any(|time| time.launch.is_visual) && n_macs > 1_000_000,
            "{n_macs}"
        );
        assert_eq!(device.used_bytes(), 0);
    }
}
