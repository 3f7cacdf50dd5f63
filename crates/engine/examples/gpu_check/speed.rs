//! How fast it is: batches and streams, and every launch.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use lipsync_engine::{
    EngineError, Workspace,
    cuda::{Cuda, Effort, profile, take_apart},
};
use serde_json::{Value, json};

use crate::subject::{Subject, run_ahead};

/// Batches that are timed together where each is started behind the one before.
const N_AHEAD: u32 = 16;

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// What depends on background frames alone.
    pub keeps: bool,
    /// Frames at once.
    pub batch: usize,
    /// Streams beside each other.
    pub n_streams: usize,
    /// Each batch is started behind the one before, as a busy server's workers do. The times are then those of a batch
    /// among several.
    pub is_ahead: bool,
}

impl Run {
    /// As [`measure`](Self::measure) where there is memory for it; else it is said, and nothing is wrong.
    pub fn measure_or_say(
        &self,
        subject: &Subject,
        cuda: &Arc<Cuda>,
        time: Duration,
    ) -> Result<Value, EngineError> {
        if subject.largest_batch(cuda, self.batch, self.n_streams)? == self.batch {
            return self.measure(subject, cuda, time);
        }
        Ok(json!({
            "kept": self.keeps,
            "batch": self.batch,
            "streams": self.n_streams,
            "error": "not measured: there is not enough memory for such batches on so many streams",
        }))
    }

    /// Frames a second, and how long a batch takes, from bytes on the host to bytes on the host.
    pub fn measure(
        &self,
        subject: &Subject,
        cuda: &Arc<Cuda>,
        time: Duration,
    ) -> Result<Value, EngineError> {
        let generator = subject.load(cuda, self.keeps)?;
        let start = Barrier::new(self.n_streams);
        let worker = || -> Result<Vec<f64>, EngineError> {
            let mut workspace = Workspace::new();
            let frames = subject.frames(self.batch);
            let mut faces = vec![];
            let warmed = generator
                .warm_up(&mut workspace, self.batch)
                .and_then(|()| generator.infer(&mut workspace, &frames, &mut faces));
            // Before anything can fail: the others wait for this one.
            start.wait();
            warmed?;
            let begun = Instant::now();
            let mut latencies = vec![];
            while begun.elapsed() < time || latencies.is_empty() {
                let each = Instant::now();
                if self.is_ahead {
                    let batches = (0..N_AHEAD).map(|_| &frames[..]);
                    faces.clear();
                    run_ahead(&*generator, &mut workspace, batches, &mut faces)?;
                    latencies.push(each.elapsed().as_secs_f64() / f64::from(N_AHEAD));
                } else {
                    generator.infer(&mut workspace, &frames, &mut faces)?;
                    latencies.push(each.elapsed().as_secs_f64());
                }
            }
            Ok(latencies)
        };
        let per_stream: Result<Vec<Vec<f64>>, EngineError> = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.n_streams).map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .map(|w| w.join().unwrap_or_else(|_| Ok(vec![])))
                .collect()
        });
        let per_stream = per_stream?;
        let speed =
            |times: &Vec<f64>| (times.len() * self.batch) as f64 / times.iter().sum::<f64>();
        let frames_per_second: f64 = per_stream.iter().map(speed).sum();
        let mut all: Vec<f64> = per_stream.into_iter().flatten().collect();
        all.sort_by(f64::total_cmp);
        let quantile = |q: usize| all.get(all.len() * q / 100).map(|seconds| seconds * 1e3);
        Ok(json!({
            "kept": self.keeps,
            "batch": self.batch,
            "streams": self.n_streams,
            "frames_per_second": frames_per_second,
            "p50_ms": quantile(50),
            "p99_ms": quantile(99),
        }))
    }
}

/// Where the time of one batch goes.
pub fn apart(subject: &Subject, cuda: &Arc<Cuda>, effort: Effort) -> Result<Value, EngineError> {
    let apart = take_apart(cuda, &subject.onnx, subject.blocks, effort)?;
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(json!({
        "batch": effort.bucket,
        "busy_streams": effort.n_busy,
        "empty_wait_us": us(apart.empty_wait),
        "replay_us": us(apart.replay),
        "copies_us": us(apart.copies),
        "whole_us": us(apart.whole),
        "captured_bytes": apart.captured_bytes,
        "captured_launches": apart.n_captured_launches,
        "entry_idle_us": us(apart.entry_idle),
        "entry_busy_us": us(apart.entry_busy),
    }))
}

/// The time of every launch of a batch of `bucket` frames.
pub fn launches(
    subject: &Subject,
    cuda: &Arc<Cuda>,
    bucket: usize,
    n_runs: u32,
) -> Result<Value, EngineError> {
    let times = profile(cuda, &subject.onnx, subject.blocks, (bucket, n_runs))?;
    let each = times.into_iter().map(|timed| {
        let (launch, seconds) = (timed.launch, timed.time.as_secs_f64());
        json!({
            "visual": launch.is_visual,
            "kernel": launch.kernel,
            "shape": launch.shape,
            "us": seconds * 1e6,
            "tflops": launch.macs as f64 * 2e-12 / seconds.max(1e-9),
            "gb_per_s": launch.bytes as f64 * 1e-9 / seconds.max(1e-9),
        })
    });
    Ok(json!({ "batch": bucket, "each": each.collect::<Vec<_>>() }))
}
