//! Checks and measures the CUDA engine on a machine with a GPU; prints one JSON object.
//!
//! `gpu_check [--device N] [--seconds S] [--quick] [--fake] [NETWORK...]`, where a network is an ONNX file or a
//! name of `network_writer::variants`; by default the full-size ones. It needs no file, no Rust and no CUDA
//! toolkit where it runs: build it anywhere (`cargo build --release -p lipsync-engine --example gpu_check`) and
//! carry it over. `--fake` runs the same on a made-up device, to try the program itself.
//!
//! Exit code: 0 where everything agrees, 1 where something is wrong, 2 for a mistake in the arguments, 3 where
//! there is no usable device.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a command line; counts are small"
)]

use std::{
    env, fs,
    process::ExitCode,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use lipsync_engine::{
    CpuIsa, EngineError, FaceInput, Generator, LoadOptions, Session, VisualCache,
    cuda::{Cuda, FakeDevice, Footprint, profile},
    load_generator,
    network_writer::{SplitMix64, variants::write_variant},
};
use serde_json::{Value, json};

/// Background frames of the made-up avatar.
const N_CROPS: usize = 8;
/// Most that a face may differ from the f32 CPU engine's, as relative L2.
const MAX_RELATIVE_L2: f64 = 1e-2;
/// Loads and unloads that must leave the memory as it was.
const N_CYCLES: usize = 100;

struct Options {
    device: u32,
    time: Duration,
    is_quick: bool,
    is_fake: bool,
    networks: Vec<String>,
}

impl Options {
    fn parse() -> Option<Self> {
        let mut options = Self {
            device: 0,
            time: Duration::from_secs(2),
            is_quick: false,
            is_fake: false,
            networks: vec![],
        };
        let mut args = env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--device" => options.device = args.next()?.parse().ok()?,
                "--seconds" => {
                    options.time = Duration::try_from_secs_f64(args.next()?.parse().ok()?).ok()?;
                }
                "--quick" => options.is_quick = true,
                "--fake" => options.is_fake = true,
                name if name.starts_with("--") => return None,
                name => options.networks.push(name.to_owned()),
            }
        }
        if options.networks.is_empty() {
            options.networks = vec!["328-ave".into(), "160-hubert".into()];
        }
        Some(options)
    }

    /// Batch sizes and numbers of streams that are measured.
    fn sweep(&self) -> (&'static [usize], &'static [usize]) {
        if self.is_quick {
            return (&[1, 2], &[1, 2]);
        }
        (&[1, 8, 16, 64], &[1, 2, 4, 8])
    }

    fn open(&self) -> Result<Arc<Cuda>, EngineError> {
        if self.is_fake {
            return Ok(FakeDevice::new(self.device, 8 << 30).open());
        }
        Cuda::open(self.device)
    }
}

/// A network, and frames to run.
struct Subject {
    onnx: Vec<u8>,
    crops: Vec<Vec<u8>>,
    audio: Vec<Vec<f32>>,
}

impl Subject {
    fn read(name: &str) -> Result<Self, String> {
        let onnx = match write_variant(name) {
            Some(onnx) => onnx,
            None => fs::read(name).map_err(|error| format!("{name}: {error}"))?,
        };
        let cpu =
            load_generator(&onnx, CpuIsa::Auto).map_err(|error| format!("{name}: {error}"))?;
        let geometry = cpu.geometry();
        let window = cpu.audio_shape().iter().product();
        let crop = |n: usize| smooth_crop(geometry.crop_px, n);
        Ok(Self {
            crops: (0..N_CROPS).map(crop).collect(),
            audio: (0..N_CROPS as u64)
                .map(|seed| SplitMix64::new(seed).floats(window, -1.0, 1.0))
                .collect(),
            onnx,
        })
    }

    fn frame(&self, n: usize) -> FaceInput<'_> {
        FaceInput {
            crop: &self.crops[n % N_CROPS],
            frame: u32::try_from(n % N_CROPS).ok(),
            audio: &self.audio[n / 3 % N_CROPS],
        }
    }

    fn frames(&self, n: usize) -> Vec<FaceInput<'_>> {
        (0..n).map(|n| self.frame(n)).collect()
    }

    fn load(&self, cuda: &Arc<Cuda>, keeps: bool) -> Result<Arc<dyn Generator>, EngineError> {
        let cache = keeps.then(|| Arc::new(VisualCache::new(1 << 30)));
        let options = LoadOptions {
            device: Some(Arc::clone(cuda)),
            visual_cache: cache,
            ..LoadOptions::default()
        };
        load_generator(&self.onnx, options)
    }
}

/// A picture with slopes and edges, and no noise.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "values lie between 20 and 236"
)]
fn smooth_crop(side: usize, n: usize) -> Vec<u8> {
    let value = |i: usize| {
        let (x, y) = ((i / 3 % side) as f32, (i / 3 / side) as f32);
        let wave = ((x + 7.0 * n as f32) / 17.0).sin() + (y / 23.0 + (i % 3) as f32).cos();
        (128.0 + 54.0 * wave) as u8
    };
    (0..side * side * 3).map(value).collect()
}

fn main() -> ExitCode {
    let Some(options) = Options::parse() else {
        eprintln!("usage: gpu_check [--device N] [--seconds S] [--quick] [--fake] [NETWORK...]");
        return ExitCode::from(2);
    };
    let cuda = match options.open() {
        Ok(cuda) => cuda,
        Err(error) => {
            println!("{}", json!({ "unavailable": error.to_string() }));
            eprintln!("{error}");
            return ExitCode::from(3);
        }
    };
    let (report, is_right) = check(&options, &cuda);
    println!("{report:#}");
    if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Everything, and whether it is right.
fn check(options: &Options, cuda: &Arc<Cuda>) -> (Value, bool) {
    let info = cuda.info();
    let rounds = if options.is_quick { 1 } else { 20 };
    let kernels = cuda.check_kernels(2, rounds);
    let wrong = match &kernels {
        Ok(wrong) => wrong.clone(),
        Err(error) => Some(error.to_string()),
    };
    let mut is_right = wrong.is_none();
    let mut networks = vec![];
    for name in &options.networks {
        let checked = check_network(options, cuda, name)
            .unwrap_or_else(|error| json!({ "network": name, "error": error, "is_right": false }));
        is_right &= checked["is_right"] == true;
        networks.push(checked);
    }
    let report = json!({
        "device": {
            "name": info.name,
            "ordinal": info.ordinal,
            "compute_capability": info.compute_capability,
            "total_bytes": info.total_bytes,
            "cuda_of_driver": info.driver_version,
            "is_fake": options.is_fake,
        },
        "kernels": { "rounds": rounds, "wrong": wrong },
        "networks": networks,
        "is_right": is_right,
    });
    (report, is_right)
}

fn check_network(options: &Options, cuda: &Arc<Cuda>, name: &str) -> Result<Value, String> {
    let subject = Subject::read(name)?;
    let text = |error: EngineError| error.to_string();
    let (db, relative_l2) = compare(&subject, cuda).map_err(text)?;
    let is_equal = is_bit_equal(&subject, cuda, options).map_err(text)?;
    let memory = cycles(&subject, cuda, options).map_err(text)?;
    let footprint = Footprint::of(&subject.onnx).map_err(text)?;
    let (batches, streams) = options.sweep();
    let mut speeds = vec![];
    for keeps in [true, false] {
        for &batch in batches {
            for &n_streams in streams {
                let run = Run {
                    keeps,
                    batch,
                    n_streams,
                };
                speeds.push(run.measure(&subject, cuda, options.time).map_err(text)?);
            }
        }
    }
    let n_runs = if options.is_quick { 1 } else { 50 };
    let bucket = if options.is_quick { 1 } else { 16 };
    let launches = profile(cuda, &subject.onnx, bucket, n_runs).map_err(text)?;
    let launches: Vec<Value> = launches
        .into_iter()
        .map(|launch| {
            let seconds = launch.time.as_secs_f64();
            json!({
                "visual": launch.is_visual,
                "kernel": launch.kernel,
                "shape": launch.shape,
                "us": seconds * 1e6,
                "tflops": launch.macs as f64 * 2e-12 / seconds.max(1e-9),
            })
        })
        .collect();
    let memory_is_back = memory["is_back"] == true;
    Ok(json!({
        "network": name,
        "is_right": relative_l2 <= MAX_RELATIVE_L2 && is_equal && memory_is_back,
        "psnr_db": db,
        "relative_l2": relative_l2,
        "bit_equal_in_every_batch": is_equal,
        "memory": memory,
        "footprint": {
            "weights_bytes": footprint.weights_bytes,
            "visual_cache_bytes_per_frame": footprint.visual_cache_bytes_per_frame,
            "arena_bytes_per_worker_16": footprint.arena_bytes_per_worker(16),
            "arena_bytes_per_worker_64": footprint.arena_bytes_per_worker(64),
        },
        "speeds": speeds,
        "launches": { "batch": bucket, "each": launches },
    }))
}

/// How far faces are from those of the f32 CPU engine: decibels and relative L2.
fn compare(subject: &Subject, cuda: &Arc<Cuda>) -> Result<(f64, f64), EngineError> {
    let frames = subject.frames(4);
    let (mut actual, mut expected) = (vec![], vec![]);
    subject
        .load(cuda, true)?
        .infer(&mut Session::new(), &frames, &mut actual)?;
    load_generator(&subject.onnx, CpuIsa::Auto)?.infer(
        &mut Session::new(),
        &frames,
        &mut expected,
    )?;
    let (mut error, mut norm, mut n) = (0.0, 0.0, 0.0);
    for (&a, &e) in actual.iter().flatten().zip(expected.iter().flatten()) {
        error += (f64::from(a) - f64::from(e)).powi(2);
        norm += f64::from(e).powi(2);
        n += 1.0;
    }
    let db = 10.0 * (255.0_f64.powi(2) * n / f64::max(error, 1e-9)).log10();
    Ok((db, (error / norm).sqrt()))
}

/// Whether frames are the same alone, in batches, with and without what is kept, on several streams.
fn is_bit_equal(
    subject: &Subject,
    cuda: &Arc<Cuda>,
    options: &Options,
) -> Result<bool, EngineError> {
    let n = if options.is_quick { 3 } else { 33 };
    let frames = subject.frames(n);
    let alone = subject.load(cuda, false)?;
    let mut session = Session::new();
    let mut expected = vec![];
    for frame in &frames {
        let mut face = vec![];
        alone.infer(&mut session, &[*frame], &mut face)?;
        expected.append(&mut face);
    }
    let kept = subject.load(cuda, true)?;
    let run = || {
        let mut session = Session::new();
        let mut faces = vec![];
        let mut is_equal = true;
        for generator in [&alone, &kept, &kept] {
            generator.infer(&mut session, &frames, &mut faces)?;
            is_equal &= faces == expected;
        }
        Ok::<bool, EngineError>(is_equal)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        let outcomes = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or(Ok(false)));
        outcomes
            .into_iter()
            .try_fold(true, |all, one| Ok(all & one?))
    })
}

/// Free memory before and after many loads, runs and unloads.
fn cycles(subject: &Subject, cuda: &Arc<Cuda>, options: &Options) -> Result<Value, EngineError> {
    let n_cycles = if options.is_quick { 2 } else { N_CYCLES };
    let mut before = 0;
    // The first ones let the driver take what it keeps for itself.
    for cycle in 0..n_cycles + 2 {
        if cycle == 2 {
            before = cuda.memory()?.0;
        }
        let generator = subject.load(cuda, true)?;
        generator.infer(&mut Session::new(), &subject.frames(2), &mut vec![])?;
    }
    let (after, total) = cuda.memory()?;
    let lost = before.saturating_sub(after);
    Ok(json!({
        "cycles": n_cycles,
        "free_before": before,
        "free_after": after,
        "is_back": lost <= total / 100,
    }))
}

/// One measurement.
struct Run {
    keeps: bool,
    batch: usize,
    n_streams: usize,
}

impl Run {
    fn measure(
        &self,
        subject: &Subject,
        cuda: &Arc<Cuda>,
        time: Duration,
    ) -> Result<Value, EngineError> {
        let generator = subject.load(cuda, self.keeps)?;
        let start = Barrier::new(self.n_streams);
        let worker = || -> Result<Vec<f64>, EngineError> {
            let mut session = Session::new();
            let frames = subject.frames(self.batch);
            let mut faces = vec![];
            let warmed = generator
                .warm_up(&mut session, self.batch)
                .and_then(|()| generator.infer(&mut session, &frames, &mut faces));
            // Before anything can fail: the others wait for this one.
            start.wait();
            warmed?;
            let begun = Instant::now();
            let mut latencies = vec![];
            while begun.elapsed() < time || latencies.is_empty() {
                let each = Instant::now();
                generator.infer(&mut session, &frames, &mut faces)?;
                latencies.push(each.elapsed().as_secs_f64());
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
