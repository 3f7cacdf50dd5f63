//! Measures how long a network takes for one frame.
//!
//! `cargo run --release -p lipsync-engine --example bench_network -- FILE.onnx [FRAMES] [ISA] [PRECISION] [RUN]`
//! prints one line of milliseconds per frame, one number for each of FRAMES runs (20), after a few
//! warm-up runs. RUN is `tensors` (any network, f32 in and out) or `faces` (a generator from and to bytes, as the
//! server runs it), or `faces-cached`: the same with a visual cache, which the warm-up fills for all
//! background frames, so that every measured frame is a hit. `patches` is an audio encoder, from patches to steps: a
//! frame is one patch. `product` runs no network, but a matrix product that
//! stays in the first-level cache, as often as takes some 50 ms: what the cores can do, and how much a second one
//! adds, where memory plays no part. `psnr` measures no time: for each of FRAMES random frames it prints the PSNR against
//! f32, dB, over the bytes of a picture whose numbers are 0 to 1.
//!
//! PRECISION is f32, bf16, int16, int8 (every step that takes it) or `int8:4,5,9`, which is int8 in these steps alone.
//!
//! With FRAMES `serve`, each line of its standard input is FRAMES [THREADS], so that another program
//! can take turns with it. Several threads share the weights, each runs as many frames, and the
//! answer is one number: milliseconds of wall time by frames of all.

use std::{
    env,
    error::Error,
    fs,
    hint::black_box,
    io::{self, BufRead, Write},
    panic::resume_unwind,
    sync::Arc,
    thread,
    time::Instant,
};

use lipsync_core::SplitMix64;
use lipsync_engine::{
    AudioEncoder, CpuIsa, EngineError, FaceInput, Generator, Int8Kind, LoadOptions, Network,
    Precision, Steps, VisualCache, Workspace,
    kernels::{Epilogue, MatMut, MatRef, PackedMatrix, gemm},
    load_audio_encoder, load_generator,
};

/// Background frames that a run of faces walks over.
const N_BACKGROUNDS: u32 = 4;
/// Room for all of them.
const CACHE_BYTES: u64 = 256 << 20;

/// Rows of the product that stands for no network, and its inputs and outputs.
const PRODUCT: (usize, usize) = (24, 64);
/// How often it is computed for one "frame".
const PRODUCTS: usize = 60_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let argument = |i: usize, default: &'static str| arguments.get(i).map_or(default, |a| a);
    let file = arguments
        .first()
        .ok_or("usage: bench_network FILE.onnx [FRAMES|serve] [ISA] [PRECISION] [RUN]")?;
    let frames = argument(1, "20");
    let isa =
        CpuIsa::parse(argument(2, "auto")).ok_or_else(|| format!("ISA is {}", CpuIsa::EXPECTED))?;
    let precision = precision_of(argument(3, "f32"))?;
    let options = LoadOptions {
        isa,
        precision: precision.suited_to(isa.resolve()?),
        ..LoadOptions::default()
    };
    let onnx = fs::read(file)?;
    let subject = match argument(4, "tensors") {
        "psnr" => return print_psnr(&onnx, options, frames.parse()?),
        "tensors" => Subject::tensors(Network::load(&onnx, options)?),
        "faces" => Subject::faces(load_generator(&onnx, options)?),
        "faces-cached" => {
            let visual_cache = Some(Arc::new(VisualCache::new(CACHE_BYTES)));
            let options = LoadOptions {
                visual_cache,
                ..options
            };
            Subject::faces(load_generator(&onnx, options)?)
        }
        "patches" => Subject::patches(load_audio_encoder(&onnx, options)?),
        "product" => Subject::product(isa)?,
        _ => return Err("RUN is tensors, faces, faces-cached, patches, product or psnr".into()),
    };
    let mut workspaces = vec![Workspace::new()];
    subject.measure(2 * N_BACKGROUNDS, &mut workspaces)?;
    let mut out = io::stdout();
    if frames != "serve" {
        writeln!(
            out,
            "{}",
            subject.measure(frames.parse()?, &mut workspaces)?
        )?;
        return Ok(());
    }
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let n_frames = words.next().unwrap_or_default().parse()?;
        let n_threads = words.next().unwrap_or("1").parse()?;
        workspaces.resize_with(n_threads, Workspace::new);
        writeln!(out, "{}", subject.measure(n_frames, &mut workspaces)?)?;
        out.flush()?;
    }
    Ok(())
}

fn precision_of(text: &str) -> Result<Precision, Box<dyn Error>> {
    if let Some(numbers) = text.strip_prefix("int8:") {
        let numbers: Vec<usize> = numbers
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        // The kind is `suited_to`'s to choose.
        return Ok(Precision::Int8(Int8Kind::Full, Steps::of(0, numbers)));
    }
    Ok(Precision::parse(text).ok_or("PRECISION is f32, bf16, int16, int8 or int8:STEPS")?)
}

/// Prints how far frames of random numbers are from those in f32.
fn print_psnr(onnx: &[u8], options: LoadOptions, n_frames: u64) -> Result<(), Box<dyn Error>> {
    let exact = Network::load(onnx, options.isa)?;
    let other = Network::load(onnx, options)?;
    let mut workspace = Workspace::new();
    let mut out = io::stdout();
    for frame in 0..n_frames {
        let mut random = SplitMix64::new(9 + frame);
        let shapes = exact.input_shapes().into_iter();
        let inputs: Vec<Vec<f32>> = shapes.map(|s| random.floats(s.len(), 0.0, 1.0)).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let expected = exact.run(&mut workspace, &inputs)?.concat();
        let actual = other.run(&mut workspace, &inputs)?.concat();
        let level = |x: f32| f64::from((x * 255.0).round());
        let pairs = expected.iter().zip(&actual);
        let error: f64 = pairs.map(|(&e, &a)| (level(e) - level(a)).powi(2)).sum();
        let mean = error / expected.len() as f64;
        write!(out, "{:.2} ", 10.0 * (255.0 * 255.0 / mean).log10())?;
    }
    Ok(writeln!(out)?)
}

/// What is run, with the inputs of one frame.
enum Subject {
    Tensors {
        network: Network,
        inputs: Vec<Vec<f32>>,
    },
    Faces {
        generator: Arc<dyn Generator>,
        crop: Vec<u8>,
        audio: Vec<f32>,
    },
    Patches {
        encoder: Arc<dyn AudioEncoder>,
        patch: Vec<f32>,
    },
    Product {
        weights: PackedMatrix,
        rows: Vec<f32>,
    },
}

impl Subject {
    fn tensors(network: Network) -> Self {
        let mut random = SplitMix64::new(7);
        let shapes = network.input_shapes().into_iter();
        let inputs = shapes.map(|s| random.floats(s.len(), 0.0, 1.0)).collect();
        Self::Tensors { network, inputs }
    }

    fn faces(generator: Arc<dyn Generator>) -> Self {
        let mut random = SplitMix64::new(7);
        let n_bytes = generator.geometry().crop_bytes();
        let crop = (0..n_bytes)
            .map(|_| random.next_u64().to_le_bytes()[7])
            .collect();
        let audio = random.floats(generator.audio_shape().iter().product(), 0.0, 1.0);
        Self::Faces {
            generator,
            crop,
            audio,
        }
    }

    fn patches(encoder: Arc<dyn AudioEncoder>) -> Self {
        let n_floats = encoder.step_form().patch.n_floats();
        let patch = SplitMix64::new(7).floats(n_floats, 0.0, 1.0);
        Self::Patches { encoder, patch }
    }

    fn product(isa: CpuIsa) -> Result<Self, Box<dyn Error>> {
        let (n_rows, width) = PRODUCT;
        let mut random = SplitMix64::new(7);
        let weights = random.floats(width * width, 0.0, 1.0);
        let bias = vec![0.0; width];
        Ok(Self::Product {
            weights: PackedMatrix::pack(isa.resolve()?, &weights, &bias, width, width),
            rows: random.floats(n_rows * width, 0.0, 1.0),
        })
    }

    fn run(&self, workspace: &mut Workspace, frame: u32) -> Result<(), EngineError> {
        match self {
            Self::Tensors { network, inputs } => {
                let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
                network.run(workspace, &inputs).map(|_| ())
            }
            Self::Faces {
                generator,
                crop,
                audio,
            } => {
                let frame = FaceInput {
                    crop,
                    frame: Some(frame % N_BACKGROUNDS),
                    audio,
                };
                generator.infer(workspace, &[frame], &mut vec![])
            }
            Self::Patches { encoder, patch } => encoder.encode(workspace, patch).map(|_| ()),
            Self::Product { weights, rows } => {
                multiply(weights, rows);
                Ok(())
            }
        }
    }

    fn measure(&self, n_frames: u32, workspaces: &mut [Workspace]) -> Result<String, EngineError> {
        let milliseconds = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
        if let [workspace] = workspaces {
            let mut line = vec![];
            for frame in 0..n_frames {
                let start = Instant::now();
                self.run(workspace, frame)?;
                line.push(format!("{:.3}", milliseconds(start)));
            }
            return Ok(line.join(" "));
        }
        let n_runs = f64::from(n_frames) * workspaces.len() as f64;
        let start = Instant::now();
        let run_all = |workspace: &mut Workspace| {
            for frame in 0..n_frames {
                self.run(workspace, frame)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let start_one = |workspace| scope.spawn(|| run_all(workspace));
            let threads: Vec<_> = workspaces.iter_mut().map(start_one).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })?;
        Ok(format!("{:.3}", milliseconds(start) / n_runs))
    }
}

fn multiply(weights: &PackedMatrix, rows: &[f32]) {
    let (n_rows, width) = PRODUCT;
    let mut out = vec![0.0; n_rows * width];
    for _ in 0..PRODUCTS {
        let operand = MatRef {
            data: black_box(rows),
            rows: n_rows,
            stride: width,
        };
        let result = MatMut::new(&mut out, width);
        gemm(weights, operand, result, Epilogue::default());
        black_box(&mut out);
    }
}
