//! Prints a network's plan with the time of each step.
//!
//! `cargo run --release -p lipsync-engine --example profile_network -- FILE.onnx [FRAMES] [ISA] [PRECISION]`;
//! a time is the shortest of FRAMES runs (30).

use std::{
    env,
    error::Error,
    fs,
    io::{self, Write},
};

use lipsync_engine::{CpuIsa, LoadOptions, Network, Precision, Workspace};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let argument = |i: usize, default: &'static str| arguments.get(i).map_or(default, |a| a);
    let file = arguments
        .first()
        .ok_or("usage: profile_network FILE.onnx [FRAMES] [ISA] [PRECISION]")?;
    let isa = CpuIsa::parse(argument(2, "auto")).ok_or("no such ISA")?;
    let precision =
        Precision::parse(argument(3, "f32")).ok_or("PRECISION is f32, bf16, int16 or int8")?;
    let options = LoadOptions {
        isa,
        precision: precision.suited_to(isa.resolve()?),
        ..LoadOptions::default()
    };
    let network = Network::load(&fs::read(file)?, options)?;
    let report = network.plan_report();
    let times = network.profile(&mut Workspace::new(), argument(1, "30").parse()?);
    let mut out = io::stdout();
    writeln!(out, "{:>8} {:>8} {:>4}", "ms", "GFLOP/s", "step")?;
    for (index, (step, time)) in report.steps.iter().zip(&times).enumerate() {
        let seconds = time.as_secs_f64();
        let gflops = 2e-9 * step.macs as f64 / seconds;
        writeln!(
            out,
            "{:>8.3} {gflops:>8.1} {index:>4} {} {:?} to {:?}",
            seconds * 1e3,
            step.what,
            [step.input.c, step.input.h, step.input.w],
            [step.output.c, step.output.h, step.output.w],
        )?;
    }
    let total: f64 = times.iter().map(|time| time.as_secs_f64()).sum();
    writeln!(out, "{:>8.3} in all", total * 1e3)?;
    writeln!(out, "{report}")?;
    Ok(())
}
