//! What it costs to find a caller's tenant and to let the call in, with many tenants.
//!
//! `cargo run --release -p lipsync-server --example bench_tenants -- 10000`

use std::{
    hint::black_box,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use lipsync_server::{
    Config,
    tenants::{Digest, Shown, Tenants},
};
use lipsync_serving::{
    admission::{Admission, Work},
    peer::Peer,
    phase::Phase,
};
use tokio::sync::watch;

const ROUNDS: u32 = 200_000;

fn tenants(n: usize) -> Result<Arc<Tenants>> {
    let mut text = String::from("models: {a: {path: /}}\ntenants:\n");
    for n in 0..n {
        let digest = Digest::of(key(n).as_bytes()).context("a key")?.hex();
        text.push_str(&format!(
            "  t{n}:\n    models: [a]\n    max_requests: 16\n    frames_per_second: 100\n    \
             keys:\n      k:\n        sha256: {digest}\n"
        ));
    }
    Ok(Config::parse(&text, Path::new("config.yaml"), [])?.tenants)
}

fn key(n: usize) -> String {
    format!("lsk_{n:064x}")
}

/// Mean time of one round, µs.
fn time(mut round: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    for n in 0..ROUNDS {
        round(usize::try_from(n)?)?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS))
}

fn main() -> Result<()> {
    let n_tenants: usize = std::env::args().nth(1).map_or(Ok(10_000), |n| n.parse())?;
    let begun = Instant::now();
    let tenants = tenants(n_tenants)?;
    let read = begun.elapsed();
    let keys: Vec<_> = (0..n_tenants).map(key).collect();
    let (_phase, seen) = watch::channel(Phase::Serving);
    let admission = Admission::new(Config::parse("", Path::new("c"), [])?.admission(), seen);
    // So that they do not come in the order in which they lie.
    let place = |n: usize| n.wrapping_mul(7919) % n_tenants;
    let identify = |n: usize| {
        let shown = Shown::Key(keys[place(n)].as_bytes());
        let tenant = tenants.identify(shown, false, SystemTime::now())?;
        anyhow::Ok(tenant.caller(Peer::UNKNOWN))
    };
    let found = time(|n| identify(n).map(|caller| drop(black_box(caller))))?;
    let admitted = time(|n| {
        let caller = identify(n)?;
        admission.expect(&caller, Work::Batch)?;
        let upload = admission.admit_upload(&caller)?;
        let place = admission.admit(&caller, Work::Batch)?;
        drop(black_box((upload, place)));
        Ok(())
    })?;
    let refused = time(|n| {
        let wrong = format!("x{}", keys[place(n)]);
        let shown = Shown::Key(wrong.as_bytes());
        let refusal = tenants.identify(shown, false, SystemTime::now());
        drop(black_box(refusal));
        Ok(())
    })?;
    writeln!(
        std::io::stdout(),
        "{n_tenants} tenants, read in {:.0} ms\n  key to tenant          {found:.2} us\n  \
         and let in, and out    {admitted:.2} us\n  a key that is unknown  {refused:.2} us",
        read.as_secs_f64() * 1e3
    )?;
    Ok(())
}
