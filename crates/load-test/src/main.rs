//! `lipsync-load-test`: see `--help`.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use lipsync::causes::with_causes;
use lipsync_load_test::{args::Args, machine::Machine, report::Outcome, run::Plan};
use tokio::sync::watch;

/// Exit status if the error budget is exceeded.
const OVER_BUDGET: u8 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    run().await.unwrap_or_else(|error| {
        // Where even standard error is gone, the exit code says it.
        let _ = writeln!(io::stderr(), "error: {}", with_causes(error.chain()));
        ExitCode::FAILURE
    })
}

async fn run() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Err(message) = args.validate() {
        Args::command()
            .error(ErrorKind::ArgumentConflict, message)
            .exit();
    }
    let machine = Machine::here();
    let plan = Plan::prepare(args.clone()).await?;
    if plan.sends_key_in_clear() {
        let _ = writeln!(
            io::stderr(),
            "warning: the key is sent in clear to {}; use https://",
            args.addr
        );
    }
    if let Some(path) = &args.json {
        // A run takes minutes: a place that cannot be written is said before it.
        let mut options = fs::OpenOptions::new();
        let opened = options.create(true).append(true).open(path);
        opened.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut stop = stop_on_ctrl_c();
    let outcome = if args.compare_alone {
        Outcome::Equality(plan.compare_alone(&mut stop).await?)
    } else if args.find_max_users {
        Outcome::Search(plan.find_max_users(&stop).await)
    } else {
        Outcome::Run(Box::new(plan.run(args.users, &mut stop).await))
    };
    let printed = print(&outcome.text(&args, &plan, &machine));
    if let Some(path) = &args.json {
        let document = outcome.document(&args, &plan, &machine);
        fs::write(path, serde_json::to_vec_pretty(&document)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    // After the file: the run must not be lost with one of the two.
    printed?;
    Ok(if outcome.passed(&args) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(OVER_BUDGET)
    })
}

/// Turns true at the first Ctrl-C. The run then ends and prints its results so far.
fn stop_on_ctrl_c() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            sender.send_replace(true);
        }
        // A dropped sender would look like a stop.
        sender.closed().await;
    });
    receiver
}

/// A reader that has gone (`| head`) is no error: the file and the exit code still count.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot write to standard output"),
    }
}
