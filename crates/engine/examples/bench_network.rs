//! Measures how long a network takes for one frame, on one thread.
//!
//! `cargo run --release -p lipsync-engine --example bench_network -- FILE.onnx [FRAMES] [ISA] [PRECISION]`
//! prints one line of milliseconds per frame, one number for each of FRAMES runs (20), after two warm-up
//! runs. With FRAMES `serve`, it measures as many frames as each line of its standard input says,
//! so that another program can take turns with it.

use std::{
    env,
    error::Error,
    fs,
    io::{self, BufRead, Write},
    time::Instant,
};

use lipsync_engine::{
    CpuIsa, LoadOptions, Network, Precision, Session, network_writer::SplitMix64,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let file = arguments
        .next()
        .ok_or("usage: bench_network FILE.onnx [FRAMES|serve] [ISA] [PRECISION]")?;
    let frames = arguments.next().unwrap_or_else(|| "20".into());
    let isa = arguments.next().unwrap_or_else(|| "auto".into());
    let isa = CpuIsa::parse(&isa).ok_or("ISA is auto, avx512, avx2 or portable")?;
    let precision = arguments.next().unwrap_or_else(|| "f32".into());
    let precision = Precision::parse(&precision).ok_or("PRECISION is f32 or bf16")?;
    let network = Network::load(&fs::read(file)?, LoadOptions { isa, precision })?;
    let mut random = SplitMix64::new(7);
    let shapes = network.input_shapes();
    let inputs: Vec<Vec<f32>> = shapes
        .iter()
        .map(|s| random.floats(s.len(), 0.0, 1.0))
        .collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut session = Session::new();
    let mut measure = |n: usize| -> Result<String, Box<dyn Error>> {
        let mut line = vec![];
        for _ in 0..n {
            let start = Instant::now();
            network.run(&mut session, &inputs)?;
            line.push(format!("{:.3}", start.elapsed().as_secs_f64() * 1e3));
        }
        Ok(line.join(" "))
    };
    measure(2)?;
    let mut out = io::stdout();
    if frames == "serve" {
        for line in io::stdin().lock().lines() {
            writeln!(out, "{}", measure(line?.trim().parse()?)?)?;
            out.flush()?;
        }
    } else {
        writeln!(out, "{}", measure(frames.parse()?)?)?;
    }
    Ok(())
}
