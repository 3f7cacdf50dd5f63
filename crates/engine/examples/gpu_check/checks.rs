//! What is right or wrong: numerics, bits, memory.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use lipsync_engine::{CpuIsa, EngineError, Workspace, cuda::Cuda, load_generator};
use serde_json::{Value, json};

use crate::subject::{Subject, run_ahead};

/// Most that a face may differ from the f32 CPU engine's, as relative L2.
const MAX_RELATIVE_L2: f64 = 1e-2;
/// Streams whose bits are compared; a server's workers.
const N_STREAMS: usize = 8;

/// How far faces are from those of the f32 CPU engine: decibels and relative L2.
pub fn numerics(subject: &Subject, cuda: &Arc<Cuda>) -> Result<Value, EngineError> {
    let frames = subject.frames(4);
    let (mut actual, mut expected) = (vec![], vec![]);
    subject
        .load(cuda, true)?
        .infer(&mut Workspace::new(), &frames, &mut actual)?;
    load_generator(&subject.onnx, CpuIsa::Auto)?.infer(
        &mut Workspace::new(),
        &frames,
        &mut expected,
    )?;
    let (mut error, mut norm, mut n) = (0.0, 0.0, 0.0);
    for (&a, &e) in actual.iter().flatten().zip(expected.iter().flatten()) {
        error += (f64::from(a) - f64::from(e)).powi(2);
        norm += f64::from(e).powi(2);
        n += 1.0;
    }
    let relative_l2 = f64::sqrt(error / f64::max(norm, 1e-9));
    Ok(json!({
        "psnr_db": 10.0 * (255.0_f64.powi(2) * n / f64::max(error, 1e-9)).log10(),
        "relative_l2": relative_l2,
        "is_right": n > 0.0 && relative_l2 <= MAX_RELATIVE_L2,
    }))
}

/// Whether frames are the same alone and in batches, with and without what is kept, on several streams
/// at once, again and again for as long as `time`; `n` frames, or as many as there is memory for. Every second stream
/// starts each batch behind the one before.
pub fn equality(
    subject: &Subject,
    cuda: &Arc<Cuda>,
    n: usize,
    time: Duration,
) -> Result<Value, EngineError> {
    let n = subject.largest_batch(cuda, n, N_STREAMS)?;
    let frames = subject.frames(n);
    let alone = subject.load(cuda, false)?;
    let mut workspace = Workspace::new();
    let mut expected = vec![];
    for frame in &frames {
        let mut face = vec![];
        alone.infer(&mut workspace, &[*frame], &mut face)?;
        expected.append(&mut face);
    }
    let kept = subject.load(cuda, true)?;
    let begun = Instant::now();
    let run = |stream: usize| {
        let mut workspace = Workspace::new();
        let mut faces = vec![];
        let (mut n_compared, mut n_different) = (0, 0);
        // Batches of every size, in another order on each stream.
        for size in (1..=n).cycle().skip(stream * n / N_STREAMS) {
            for generator in [&alone, &kept] {
                let mut all = vec![];
                let batches = frames.chunks(size);
                if stream.is_multiple_of(2) {
                    run_ahead(&**generator, &mut workspace, batches, &mut all)?;
                } else {
                    for frames in batches {
                        generator.infer(&mut workspace, frames, &mut faces)?;
                        all.append(&mut faces);
                    }
                }
                n_compared += n;
                n_different += all.iter().zip(&expected).filter(|(a, e)| a != e).count();
            }
            if begun.elapsed() >= time {
                break;
            }
        }
        Ok::<_, EngineError>((n_compared, n_different))
    };
    let (mut n_compared, mut n_different) = (0, 0);
    thread::scope(|scope| {
        let run = &run;
        let streams: Vec<_> = (0..N_STREAMS)
            .map(|n| scope.spawn(move || run(n)))
            .collect();
        streams.into_iter().try_for_each(|stream| {
            // A stream that panics has compared nothing.
            let (compared, different) = stream.join().unwrap_or(Ok((1, 1)))?;
            n_compared += compared;
            n_different += different;
            Ok::<_, EngineError>(())
        })
    })?;
    Ok(json!({
        "streams": N_STREAMS,
        "largest_batch": n,
        "frames": n_compared,
        "different": n_different,
        "is_right": n_compared > 0 && n_different == 0,
    }))
}

/// Whether the memory in use stays within a hundredth over many loads, runs and unloads. It is looked at after each
/// of the numbers of loads in `cycles`; the first of them lets the driver take what it keeps for itself, which may
/// go on for some loads more, so all of the figures are told.
pub fn memory(subject: &Subject, cuda: &Arc<Cuda>, cycles: &[usize]) -> Result<Value, EngineError> {
    let mut used = vec![];
    let mut n_loads = 0;
    for &cycle in cycles {
        while n_loads < cycle {
            let generator = subject.load(cuda, true)?;
            generator.infer(&mut Workspace::new(), &subject.frames(2), &mut vec![])?;
            n_loads += 1;
        }
        let (free, total) = cuda.memory()?;
        used.push(total - free);
    }
    // Of the last two: a leak goes on, what the driver keeps does not.
    let [.., before, after] = used[..] else {
        return Ok(json!({ "cycles": cycles, "used_bytes": used, "is_right": used.len() == 1 }));
    };
    Ok(json!({
        "cycles": cycles,
        "used_bytes": used,
        "is_right": after <= before + before / 100,
    }))
}
