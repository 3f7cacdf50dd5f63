//! The time of one batch, taken apart; and what captured launches and entries cost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Cuda,
    driver::{Allocation, Set, Stream},
    program::{Blocks, Phase},
    stage::Stage,
    windows::Windows,
};
use crate::EngineError;

/// Sequences that are captured to see what memory one takes.
const N_CAPTURED: usize = 8;

/// Where the time of one batch goes, and what else costs. All times are medians.
#[derive(Debug, Clone, Copy)]
pub struct Apart {
    /// A wait for a stream on which nothing runs.
    pub empty_wait: Duration,
    /// The captured launches of a batch, and the wait for them.
    pub replay: Duration,
    /// The copies of a batch, audio up and faces down, and the wait for them.
    pub copies: Duration,
    /// All of it, as for a batch whose background frames are kept.
    pub whole: Duration,
    /// Device memory that each captured sequence takes, by the device's own count.
    pub captured_bytes: u64,
    /// Launches in it.
    pub n_captured_launches: usize,
    /// Taking the memory of an entry and giving it back, on an idle device.
    pub entry_idle: Duration,
    /// The same while other streams are busy.
    pub entry_busy: Duration,
}

/// What is taken apart, and how thoroughly.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Frames of the batch.
    pub bucket: usize,
    /// How often each part is timed.
    pub n_runs: u32,
    /// Streams that are busy while memory is taken and given back.
    pub n_busy: usize,
}

/// Takes a batch apart.
///
/// # Errors
/// As [`load_generator`](crate::load_generator).
pub fn take_apart(
    cuda: &Arc<Cuda>,
    onnx: &[u8],
    blocks: Blocks,
    effort: Effort,
) -> Result<Apart, EngineError> {
    let n_runs = effort.n_runs;
    let stage = Stage::new(cuda, onnx, blocks, effort.bucket)?;
    let launches = stage.launches(Phase::Frame);
    let mut stream = Arc::clone(cuda.driver()).stream()?;
    // The windows of frames in a row. Zeros, which are what the table begins and ends with.
    let audio = Windows::in_a_row(&stage.program, stage.bucket).n_bytes();
    let copied = [stage.table.n_bytes, audio, stage.faces.n_bytes];
    stream.staging(Set::First, copied.iter().sum())?.fill(0);
    let captured = stream.capture(&launches)?;
    stream.prepare(&captured)?;
    let copy = |stream: &mut dyn Stream, is_up: bool| -> Result<(), EngineError> {
        let [table, audio, faces] = copied;
        if is_up {
            // The table's own bytes are not in the staging memory: zeros would point nowhere.
            let from = (Set::First, table..table + audio);
            return stream.upload(from, stage.audio.address);
        }
        let start = table + audio;
        stream.download(stage.faces.address, (Set::First, start..start + faces))
    };
    let empty_wait = median(n_runs, || stream.synchronize())?;
    let replay = median(n_runs, || {
        stream.replay(&captured)?;
        stream.synchronize()
    })?;
    let copies = median(n_runs, || {
        copy(&mut *stream, true)?;
        copy(&mut *stream, false)?;
        stream.synchronize()
    })?;
    let whole = median(n_runs, || {
        copy(&mut *stream, true)?;
        stream.replay(&captured)?;
        copy(&mut *stream, false)?;
        stream.synchronize()
    })?;
    let free = || cuda.memory().map(|(free, _)| free);
    let before = free()?;
    let more: Result<Vec<_>, EngineError> = (0..N_CAPTURED)
        .map(|_| {
            let captured = stream.capture(&launches)?;
            stream.prepare(&captured)?;
            Ok(captured)
        })
        .collect();
    stream.synchronize()?;
    let captured_bytes = before.saturating_sub(free()?) / N_CAPTURED as u64;
    drop(more?);
    let (entry_idle, entry_busy) = entries(cuda, &stage, effort)?;
    Ok(Apart {
        empty_wait,
        replay,
        copies,
        whole,
        captured_bytes,
        n_captured_launches: launches.len(),
        entry_idle,
        entry_busy,
    })
}

/// The time of taking and giving back an entry, on an idle device and on a busy one.
fn entries(
    cuda: &Arc<Cuda>,
    stage: &Stage,
    Effort { n_runs, n_busy, .. }: Effort,
) -> Result<(Duration, Duration), EngineError> {
    let take = || Allocation::new(cuda.driver(), stage.program.entry_bytes).map(drop);
    let idle = median(n_runs, take)?;
    // They share the batch's memory: what they compute is nobody's.
    let launches = stage.launches(Phase::Frame);
    let is_over = AtomicBool::new(false);
    let busy = || -> Result<(), EngineError> {
        let mut stream = Arc::clone(cuda.driver()).stream()?;
        let captured = stream.capture(&launches)?;
        while !is_over.load(Ordering::Relaxed) {
            stream.replay(&captured)?;
            stream.synchronize()?;
        }
        Ok(())
    };
    let time = thread::scope(|scope| {
        let workers: Vec<_> = (0..n_busy).map(|_| scope.spawn(busy)).collect();
        let time = median(n_runs, take);
        is_over.store(true, Ordering::Relaxed);
        for worker in workers {
            // One that panicked was not busy; the others were.
            worker.join().unwrap_or(Ok(()))?;
        }
        time
    })?;
    Ok((idle, time))
}

/// The median time of something that is done so many times, once before to warm it up.
fn median(
    n_runs: u32,
    mut run: impl FnMut() -> Result<(), EngineError>,
) -> Result<Duration, EngineError> {
    run()?;
    let mut times = vec![];
    for _ in 0..n_runs.max(1) {
        let begun = Instant::now();
        run()?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cuda::FakeDevice, oracle::network_writer::variants::write_variant};

    #[test]
    fn a_batch_is_taken_apart_and_leaves_nothing() {
        let device = FakeDevice::new(0, 1 << 30);
        let onnx = write_variant("small-opset13").unwrap();
        let effort = Effort {
            bucket: 1,
            n_runs: 1,
            n_busy: 1,
        };
        let apart = take_apart(&device.open(), &onnx, Blocks::Fused, effort).unwrap();
        assert!(
            apart.n_captured_launches > 10 && apart.replay > apart.empty_wait,
            "{apart:?}"
        );
        assert_eq!(device.used_bytes(), 0);
    }
}
