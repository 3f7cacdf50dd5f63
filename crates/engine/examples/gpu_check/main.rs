//! Checks and measures the CUDA engine on a machine with a GPU; prints a JSON object a line.
//!
//! `gpu_check [--device N] [--seconds S] [--quick] [--fake] [--unfused] [--ptx FILE] [--spin-us N] [--blocking]
//! [--carveout-all] [--short] [--ahead] [--cycles N,N...] [--parts P,P...] [NETWORK...]`, where a
//! network is an ONNX file or a name of `network_writer::variants`; by default the full-size ones. It needs no file, no
//! Rust and no CUDA toolkit where it runs: build it anywhere (`cargo build --release -p lipsync-engine --example
//! gpu_check`) and carry it over. `--fake` runs the same on a made-up device, to try the program itself.
//!
//! The parts are `kernels`, `encoder`, `numerics`, `equality`, `memory`, `speed`, `blocks`, `launches` and `apart`; all of
//! them, where none is named. `encoder` checks and times a full-size audio encoder, whatever networks are named. `apart` takes the time of one batch apart and tells what captured launches and entries cost. `blocks` times networks whose blocks are one kernel against those whose blocks are three;
//! `--unfused` lets all other parts run the latter. A line is printed as soon as something is known, so that what is known stays where the rest fails.
//!
//! To compare: `--ptx` runs other kernels than the embedded, `--spin-us` changes how long a wait spins, `--blocking`
//! leaves waits to the driver, `--carveout-all` gives every kernel the largest shared memory. `--ahead` starts each batch behind the one before.
//!
//! `gpu_check --traffic [NETWORK...]` needs no device: how many bytes of a device's memory a frame touches, both ways.
//! Nor does `gpu_check --listing [--unfused] [NETWORK...]`: what is started for a batch of 16, which `tools/cuda-kernels/count.py` reads.
//!
//! Batches are no larger than the memory that is free has room for; a speed that needs more is not measured,
//! which is said and is not wrong.
//!
//! Exit code: 0 where everything agrees, 1 where something is wrong, 2 for a mistake in the arguments, 3 where
//! there is no usable device.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a command line; counts are small"
)]

mod blocks;
mod checks;
mod encoder;
mod speed;
mod subject;

use std::{
    env, fs,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_engine::{
    EngineError,
    cuda::{Blocks, Cuda, DeviceOptions, Effort, FakeDevice},
};
use serde_json::{Value, json};

use speed::Run;
use subject::Subject;

const PARTS: [&str; 9] = [
    "kernels", "encoder", "numerics", "equality", "memory", "speed", "blocks", "launches", "apart",
];
/// Kept, batch and streams of what is measured; what matters most is first.
const RUNS: [(bool, usize, usize); 18] = [
    (true, 16, 8),
    (true, 1, 1),
    (true, 16, 1),
    (true, 64, 8),
    (true, 32, 8),
    (false, 16, 8),
    (false, 64, 8),
    (true, 16, 16),
    (true, 8, 1),
    (true, 64, 1),
    (true, 1, 8),
    (true, 8, 8),
    (true, 16, 4),
    (true, 16, 2),
    (false, 1, 1),
    (false, 16, 1),
    (false, 64, 1),
    (true, 1, 16),
];
const SHORT_RUNS: [(bool, usize, usize); 3] = [(true, 16, 8), (true, 1, 1), (true, 64, 8)];
const QUICK_RUNS: [(bool, usize, usize); 3] = [(true, 2, 2), (true, 1, 1), (false, 2, 1)];

struct Options {
    device: u32,
    time: Duration,
    is_quick: bool,
    /// The main speeds only.
    is_short: bool,
    /// Batches are started one behind the other.
    is_ahead: bool,
    is_fake: bool,
    is_traffic: bool,
    is_listing: bool,
    how: DeviceOptions,
    /// Loads after which the memory in use is looked at.
    cycles: Vec<usize>,
    blocks: Blocks,
    parts: Vec<String>,
    networks: Vec<String>,
}

impl Options {
    fn parse() -> Option<Self> {
        let mut options = Self {
            device: 0,
            time: Duration::from_secs(1),
            is_quick: false,
            is_short: false,
            is_ahead: false,
            is_fake: false,
            is_traffic: false,
            is_listing: false,
            how: DeviceOptions::default(),
            cycles: vec![],
            blocks: Blocks::Fused,
            parts: PARTS.map(String::from).to_vec(),
            networks: vec![],
        };
        let mut args = env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--device" => options.device = args.next()?.parse().ok()?,
                "--seconds" => {
                    options.time = Duration::try_from_secs_f64(args.next()?.parse().ok()?).ok()?;
                }
                "--short" => options.is_short = true,
                "--ahead" => options.is_ahead = true,
                "--quick" => options.is_quick = true,
                "--fake" => options.is_fake = true,
                "--ptx" => options.how.ptx = Some(fs::read_to_string(args.next()?).ok()?),
                "--spin-us" => {
                    options.how.spin = Duration::from_micros(args.next()?.parse().ok()?);
                }
                "--blocking" => options.how.is_blocking = true,
                "--carveout-all" => options.how.carveout_for_all = true,
                "--cycles" => {
                    let numbers = args.next()?;
                    let numbers = numbers.split(',').map(|n| n.parse().ok());
                    options.cycles = numbers.collect::<Option<_>>()?;
                }
                "--unfused" => options.blocks = Blocks::Separate,
                "--traffic" => options.is_traffic = true,
                "--listing" => options.is_listing = true,
                "--parts" => options.parts = args.next()?.split(',').map(String::from).collect(),
                name if name.starts_with("--") => return None,
                name => options.networks.push(name.to_owned()),
            }
        }
        if options.networks.is_empty() {
            options.networks = vec!["328-ave".into(), "160-hubert".into()];
        }
        if options.cycles.is_empty() {
            options.cycles = if options.is_quick {
                vec![2]
            } else {
                vec![2, 20, 100]
            };
        }
        let is_known = |part: &String| PARTS.contains(&part.as_str());
        options.parts.iter().all(is_known).then_some(options)
    }

    fn open(&self) -> Result<Arc<Cuda>, EngineError> {
        if self.is_fake {
            return Ok(FakeDevice::new(self.device, 8 << 30).open());
        }
        // Kernels that are wrong are to be told, not refused.
        Cuda::open_unproven(self.device, self.how.clone())
    }

    /// The networks that some part asks for.
    fn networks(&self) -> &[String] {
        let is_of_networks = |part: &String| !["kernels", "encoder"].contains(&part.as_str());
        match self.parts.iter().any(is_of_networks) {
            true => &self.networks,
            false => &[],
        }
    }

    fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|name| name == part)
    }

    fn runs(&self) -> &'static [(bool, usize, usize)] {
        match (self.is_quick, self.is_short) {
            (true, _) => &QUICK_RUNS,
            (_, true) => &SHORT_RUNS,
            _ => &RUNS,
        }
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::parse() else {
        eprintln!(
            "usage: gpu_check [--device N] [--seconds S] [--quick] [--fake] [--unfused] [--ptx FILE] [--spin-us N] [--blocking] [--carveout-all] [--short] [--ahead] [--cycles N,N...] [--traffic] [--listing] [--parts {}] [NETWORK...]",
            PARTS.join(",")
        );
        return ExitCode::from(2);
    };
    if options.is_traffic || options.is_listing {
        return without_device(&options);
    }
    let begun = Instant::now();
    let cuda = match options.open() {
        Ok(cuda) => cuda,
        Err(error) => {
            println!(
                "{}",
                json!({ "part": "device", "unavailable": error.to_string() })
            );
            eprintln!("{error}");
            return ExitCode::from(3);
        }
    };
    let info = cuda.info();
    let mut report = Report { is_right: true };
    report.add(
        "device",
        None,
        Ok(json!({
            "name": info.name,
            "ordinal": info.ordinal,
            "compute_capability": info.compute_capability,
            "total_bytes": info.total_bytes,
            "cuda_of_driver": info.driver_version,
            "is_fake": options.is_fake,
            // The driver compiles the kernels, unless it has them in its cache.
            "opened_in_s": begun.elapsed().as_secs_f64(),
        })),
    );
    if options.has("kernels") {
        let rounds = if options.is_quick { 1 } else { 20 };
        let wrong = cuda.wrong_kernels(2, rounds);
        let is_right = wrong.is_empty();
        let found = json!({ "rounds": rounds, "wrong": wrong, "is_right": is_right });
        report.add("kernels", None, Ok(found));
    }
    if options.has("encoder") {
        encoder::check(&cuda, options.is_quick, options.time, &mut |found| {
            let found = found.map_err(|error| error.to_string());
            report.add("encoder", None, found);
        });
    }
    for network in options.networks() {
        match Subject::read(network, options.blocks) {
            Ok(subject) => check(&options, &cuda, (network, &subject), &mut report),
            Err(error) => report.add("network", Some(network), Err(error)),
        }
    }
    report.exit_code()
}

/// All that is asked about one network.
fn check(
    options: &Options,
    cuda: &Arc<Cuda>,
    (name, subject): (&str, &Subject),
    report: &mut Report,
) {
    let quick = |quick: usize, thorough: usize| if options.is_quick { quick } else { thorough };
    let mut add = |part, found: Result<Value, EngineError>| {
        report.add(part, Some(name), found.map_err(|error| error.to_string()));
    };
    if options.has("numerics") {
        add("numerics", checks::numerics(subject, cuda));
    }
    if options.has("equality") {
        let n_frames = quick(3, 33);
        add(
            "equality",
            checks::equality(subject, cuda, n_frames, options.time * 3),
        );
    }
    if options.has("memory") {
        add("memory", checks::memory(subject, cuda, &options.cycles));
        add("footprint", Ok(footprint(subject)));
    }
    if options.has("speed") {
        for &(keeps, batch, n_streams) in options.runs() {
            let run = Run {
                keeps,
                batch,
                n_streams,
                is_ahead: options.is_ahead,
            };
            add("speed", run.measure_or_say(subject, cuda, options.time));
        }
    }
    if options.has("apart") {
        for bucket in [1, quick(2, 16)] {
            // A server's workers are busy beside; on a made-up device one is, since it does one thing at a time.
            let effort = Effort {
                bucket,
                n_runs: if options.is_quick { 3 } else { 200 },
                n_busy: quick(1, 8),
            };
            add("apart", speed::apart(subject, cuda, effort));
        }
    }
    if options.has("blocks") {
        add(
            "blocks",
            blocks::compare(subject, cuda, quick(2, 16), options.time),
        );
    }
    if options.has("launches") {
        let n_runs = if options.is_quick { 1 } else { 50 };
        add(
            "launches",
            speed::launches(subject, cuda, quick(1, 16), n_runs),
        );
    }
}

/// What networks touch of a device's memory and what they start, whatever the device.
fn without_device(options: &Options) -> ExitCode {
    let mut report = Report { is_right: true };
    for network in &options.networks {
        let mut add = |part, of: &dyn Fn(&[u8]) -> Result<Value, EngineError>| {
            let found = subject::read_network(network)
                .and_then(|onnx| of(&onnx).map_err(|error| error.to_string()));
            report.add(part, Some(network), found);
        };
        if options.is_traffic {
            add("traffic", &blocks::traffic);
        }
        if options.is_listing {
            add("listing", &|onnx| blocks::listing(onnx, options.blocks, 16));
        }
    }
    report.exit_code()
}

fn footprint(subject: &Subject) -> Value {
    let footprint = subject.footprint;
    json!({
        "weights_bytes": footprint.weights_bytes,
        "visual_cache_bytes_per_frame": footprint.visual_cache_bytes_per_frame,
        "arena_bytes_per_worker_16": footprint.arena_bytes_per_worker(16),
        "arena_bytes_per_worker_64": footprint.arena_bytes_per_worker(64),
    })
}

/// What was found so far.
struct Report {
    is_right: bool,
}

impl Report {
    fn exit_code(&self) -> ExitCode {
        if self.is_right {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    /// Prints what a part found, and takes note of what is wrong.
    fn add(&mut self, part: &str, network: Option<&str>, found: Result<Value, String>) {
        let mut line = found.unwrap_or_else(|error| json!({ "error": error, "is_right": false }));
        self.is_right &= line["is_right"] != false;
        line["part"] = part.into();
        if let Some(network) = network {
            line["network"] = network.into();
        }
        println!("{line}");
    }
}
