//! `lipsync-server bake`: makes packs ahead of the first request.

use std::{num::NonZeroUsize, path::Path, process::ExitCode, sync::Arc, thread, time::Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lipsync_core::ModelId;
use lipsync_registry::{BakeReport, BakeStep, Registry};
use lipsync_server::CpuLoader;

use crate::command_line::{complain, load, models_named, say};

/// Shown on a terminal only.
const BAR: &str = "{prefix} {msg:9} {wide_bar} {pos}/{len} {eta}";

/// Bakes the named models, or all. Exits with 1 if one of them cannot be baked.
pub fn bake(
    file: &Path,
    names: &[String],
    threads: Option<NonZeroUsize>,
) -> anyhow::Result<ExitCode> {
    let config = load(file)?;
    config.make_cache_dir()?;
    let ids = models_named(&config, names)?;
    let n_threads = threads
        .or_else(|| thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN);
    let engine = &config.engine;
    let loader = CpuLoader::new(engine.cpu_isa, engine.visual_cache_bytes);
    let loader = Arc::new(loader.limited(engine.limits));
    let registry = Registry::new(config.registry, loader);
    let mut code = ExitCode::SUCCESS;
    for id in &ids {
        let bar = progress_bar(id);
        let started = Instant::now();
        let baked = registry.bake(id, n_threads, &mut |step| show(&bar, step));
        bar.finish_and_clear();
        match baked {
            Ok(report) => say(&summary(id, &report, started))?,
            Err(error) => {
                complain(&anyhow::anyhow!("{id}: {}", error.detail()));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn progress_bar(id: &ModelId) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(BAR) {
        bar.set_style(style);
    }
    bar.with_prefix(id.to_string())
}

fn show(bar: &ProgressBar, step: BakeStep) {
    let (message, n_done, n_frames) = match step {
        BakeStep::Verified { n_done, n_frames } => ("verifying", n_done, n_frames),
        BakeStep::Baked { n_done, n_frames } => ("baking", n_done, n_frames),
    };
    bar.set_message(message);
    bar.set_length(n_frames.into());
    bar.set_position(n_done.into());
}

fn summary(id: &ModelId, report: &BakeReport, started: Instant) -> String {
    let BakeReport {
        path,
        n_frames,
        n_bytes,
        was_current,
    } = report;
    let done = if *was_current { "verified" } else { "baked" };
    let seconds = started.elapsed().as_secs_f32();
    format!(
        "{id}: {done} {n_frames} frames, {} MB, in {seconds:.1} s: {}",
        n_bytes / 1_000_000,
        path.display()
    )
}
