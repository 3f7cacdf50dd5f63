//! Writes random launches of every CUDA kernel, with what its scalar twin makes of them.
//!
//! `cargo run -p lipsync-engine --example write_kernel_cases -- SEED ROUNDS FILE`, for
//! `tools/cuda-kernels/emulate`.
#![expect(clippy::print_stderr, reason = "a command line")]

use std::{env, fs, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let parsed = match &args[..] {
        [seed, rounds, file] => seed.parse().ok().zip(rounds.parse().ok()).zip(Some(file)),
        _ => None,
    };
    let Some(((seed, rounds), file)) = parsed else {
        eprintln!("usage: write_kernel_cases SEED ROUNDS FILE");
        return ExitCode::from(2);
    };
    match fs::write(file, lipsync_engine::cuda::kernel_cases(seed, rounds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::FAILURE
        }
    }
}
