//! Plays a day of a large deployment in virtual time, and says what it needs.
//!
//! Who is refused, what is computed when, and which model goes from memory is decided by the server's own code: the
//! door of `lipsync-serving`, the order of `lipsync-worker-pool` ([`lipsync_worker_pool::Rehearsal`]) and the budget of
//! `lipsync-registry` ([`lipsync_registry::Shelf`]). What work costs is measured and given as options. The choice of a
//! replica follows Envoy. The README beside this says what is left out.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its output is a table")]

mod choice;
mod dice;
mod found;
mod host;
mod options;
mod pattern;
mod replica;
mod visit;
mod world;

use anyhow::Result;
use clap::Parser as _;

use crate::{
    choice::Choice,
    found::{Found, share},
    options::Options,
    world::World,
};

fn main() -> Result<()> {
    let options = Options::parse();
    options.check()?;
    println!("{}\n", options.in_words());
    if options.closed_users > 0 {
        return closed(&options);
    }
    println!(
        "| choice | model in memory | refused | first frame of a reply, p50 / p95 ms | opened, p95 ms | frames without the network | calls, p95 ms | open at once | busy, mean / busiest | replicas needed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for choice in options.choices() {
        let plan = options.deployment(choice, options.replicas);
        let found = World::play(&plan, &options.pattern(), options.warm_up_hours)?;
        let needed = match options.needed {
            true => needed(&options, choice)?,
            false => "-".to_owned(),
        };
        println!("{}", row(choice, &found, options.cores, &needed));
    }
    Ok(())
}

fn row(choice: Choice, found: &Found, n_cores: u32, needed: &str) -> String {
    let ms = |us: u64| us.div_ceil(1000);
    let lasted_ns = host::float(found.lasted_ns.max(1)) * f64::from(n_cores);
    let busy = found.used_ns.iter().map(|used| 100.0 * used / lasted_ns);
    let n_hosts = u32::try_from(found.used_ns.len()).unwrap_or(u32::MAX);
    let mean = busy.clone().sum::<f64>() / f64::from(n_hosts.max(1));
    let most = busy.fold(0.0, f64::max);
    format!(
        "| {} | {:.1} % | {:.2} % | {} / {} | {} | {:.2} % | {} | {} | {mean:.0} / {most:.0} % | {needed} |",
        choice.name(),
        100.0 * found.hit_rate(),
        100.0 * found.refused(),
        ms(found.first_frame_us.value_at_quantile(0.5)),
        ms(found.first_frame_us.value_at_quantile(0.95)),
        ms(found.open_us.value_at_quantile(0.95)),
        100.0 * found.skipped(),
        ms(found.call_us.value_at_quantile(0.95)),
        found.max_open,
    )
}

/// The fewest replicas with which the pattern is served well ([`Found::is_good`]).
fn needed(options: &Options, choice: Choice) -> Result<String> {
    let is_enough = |n_replicas| -> Result<bool> {
        let plan = options.deployment(choice, n_replicas);
        let found = World::play(&plan, &options.pattern(), options.warm_up_hours)?;
        Ok(found.is_good())
    };
    let most = 16 * options.replicas;
    let (mut few, mut enough) = (0, options.replicas);
    while !is_enough(enough)? {
        few = enough;
        enough *= 2;
        if enough > most {
            return Ok(format!("more than {most}"));
        }
    }
    // To a fiftieth: more is not in the model.
    while enough - few > (enough / 50).max(1) {
        let middle = few.midpoint(enough);
        match is_enough(middle)? {
            true => enough = middle,
            false => few = middle,
        }
    }
    Ok(enough.to_string())
}

fn closed(options: &Options) -> Result<()> {
    println!("| choice | model in memory | calls/s | p50 ms | p95 ms | refused |");
    println!("|---|---|---|---|---|---|");
    for choice in options.choices() {
        let plan = options.deployment(choice, options.replicas);
        let found = World::play_closed(&plan, options.closed())?;
        let ms = |quantile| found.call_us.value_at_quantile(quantile) / 1000;
        println!(
            "| {} | {:.1} % | {:.2} | {} | {} | {:.1} % |",
            choice.name(),
            100.0 * found.hit_rate(),
            found.throughput(),
            ms(0.5),
            ms(0.95),
            100.0 * share(found.n_refused_calls, found.n_calls),
        );
    }
    Ok(())
}
