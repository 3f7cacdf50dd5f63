//! A full-size audio encoder: what it computes, and how fast beside the host.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use lipsync_core::SplitMix64;
use lipsync_engine::{
    AudioEncoder, CpuIsa, EngineError, LoadOptions, Workspace,
    cuda::Cuda,
    encoder::{N_MELS, N_ROWS},
    load_audio_encoder,
    network_writer::variants::write_variant,
};
use serde_json::{Value, json};

/// Most that steps may differ from those of the f32 CPU engine, as relative L2.
const MAX_RELATIVE_L2: f64 = 1e-2;
/// Threads that ask at once: as many as a machine has cores for audio and pictures.
const N_THREADS: usize = 8;
/// Patches at once: a step of a session, a batch of one, a whole clip.
const BATCHES: [usize; 3] = [1, 8, 32];

/// Compares it with the CPU, and its batches with each other; then times both.
pub fn check(
    cuda: &Arc<Cuda>,
    is_quick: bool,
    time: Duration,
    add: &mut dyn FnMut(Result<Value, EngineError>),
) {
    let (device, host) = match load(cuda) {
        Ok(both) => both,
        Err(error) => return add(Err(error)),
    };
    let n_patches = if is_quick { 3 } else { 70 };
    let patches = SplitMix64::new(3).floats(n_patches * N_MELS * N_ROWS, -4.0, 4.0);
    add(compare(&*device, &*host, &patches));
    let batches = if is_quick {
        &BATCHES[..1]
    } else {
        &BATCHES[..]
    };
    for &batch in batches {
        let patches = patches[..batch * N_MELS * N_ROWS].to_vec();
        for n_threads in [1, N_THREADS] {
            add(speed(&*device, &patches, n_threads, time).map(
                |speed| json!({ "batch": batch, "threads": n_threads, "steps_per_second": speed }),
            ));
        }
    }
    add(speed(&*host, &patches[..N_MELS * N_ROWS], 1, time)
        .map(|speed| json!({ "on_one_core_of_the_host": true, "steps_per_second": speed })));
}

type Encoder = Arc<dyn AudioEncoder>;

/// The same encoder on the device and on the host.
fn load(cuda: &Arc<Cuda>) -> Result<(Encoder, Encoder), EngineError> {
    let onnx = write_variant("ave-encoder").unwrap_or_default();
    let options = LoadOptions {
        device: Some(Arc::clone(cuda)),
        ..LoadOptions::default()
    };
    Ok((
        load_audio_encoder(&onnx, options)?,
        load_audio_encoder(&onnx, CpuIsa::Auto)?,
    ))
}

/// How far steps are from those of the host, and whether they are the same alone and in batches, from several threads.
fn compare(
    device: &dyn AudioEncoder,
    host: &dyn AudioEncoder,
    patches: &[f32],
) -> Result<Value, EngineError> {
    let expected = host.encode(&mut Workspace::new(), patches)?;
    let actual = device.encode(&mut Workspace::new(), patches)?;
    let (mut error, mut norm) = (0.0, 0.0);
    for (&a, &e) in actual.iter().zip(&expected) {
        error += (f64::from(a) - f64::from(e)).powi(2);
        norm += f64::from(e).powi(2);
    }
    let relative_l2 = f64::sqrt(error / f64::max(norm, 1e-9));
    let n_floats = N_MELS * N_ROWS;
    let alone = |n: usize| -> Result<bool, EngineError> {
        let mut steps = vec![];
        for patches in patches.chunks(n * n_floats) {
            steps.extend(device.encode(&mut Workspace::new(), patches)?);
        }
        Ok(steps == actual)
    };
    let are_equal = thread::scope(|scope| {
        let threads: Vec<_> = (1..=N_THREADS)
            .map(|n| scope.spawn(move || alone(n)))
            .collect();
        threads.into_iter().try_fold(true, |all, thread| {
            // One that panics has compared nothing.
            Ok::<_, EngineError>(all & thread.join().unwrap_or(Ok(false))?)
        })
    })?;
    Ok(json!({
        "relative_l2": relative_l2,
        "batches_are_equal": are_equal,
        "device_bytes": device.device_bytes(),
        "is_right": norm > 0.0 && relative_l2 <= MAX_RELATIVE_L2 && are_equal,
    }))
}

/// Steps a second of threads that ask again and again for the same.
fn speed(
    encoder: &dyn AudioEncoder,
    patches: &[f32],
    n_threads: usize,
    time: Duration,
) -> Result<f64, EngineError> {
    let run = || -> Result<f64, EngineError> {
        let mut workspace = Workspace::new();
        encoder.encode(&mut workspace, patches)?;
        let begun = Instant::now();
        let mut n_steps = 0;
        while n_steps == 0 || begun.elapsed() < time {
            encoder.encode(&mut workspace, patches)?;
            n_steps += patches.len() / (N_MELS * N_ROWS);
        }
        Ok(n_steps as f64 / begun.elapsed().as_secs_f64())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().try_fold(0.0, |sum, thread| {
            Ok::<_, EngineError>(sum + thread.join().unwrap_or(Ok(0.0))?)
        })
    })
}
