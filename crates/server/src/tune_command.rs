//! `lipsync-server tune`: the best settings for the configured models on this machine.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lipsync_server::{
    devices,
    tune::{Findings, TuneError, Tuner},
};

use crate::command_line::{complain, load, say};

/// What shells show for SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Measures, prints what was found, and writes it to a new file if there is to be one. Exits with 1 if a model could not be
/// measured, with 130 if it was interrupted.
pub fn tune(file: &Path, minutes: NonZeroU32, write: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let config = load(file)?;
    config.make_cache_dir()?;
    if let Some(path) = write.as_ref().filter(|path| path.exists()) {
        anyhow::bail!(
            "--write {}: it is there already, and is not overwritten",
            path.display()
        );
    }
    // Minutes later would be late.
    let folder = write.as_deref().and_then(Path::parent);
    let is_there = |folder: &Path| folder.as_os_str().is_empty() || folder.is_dir();
    if let Some(folder) = folder.filter(|folder| !is_there(folder)) {
        anyhow::bail!("--write: there is no folder {}", folder.display());
    }
    let cudas = devices::open(config.engine.device, &config.engine.gpu)?;
    let bar = progress_bar();
    let shown = bar.clone();
    let progress = move |what: &str| shown.set_message(what.to_owned());
    let tuner = Tuner {
        file: file.to_owned(),
        cudas,
        limit: Duration::from_secs(60) * minutes.get(),
        progress: &progress,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let measured = runtime.block_on(async {
        tokio::select! {
            findings = tuner.run() => Some(findings),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    bar.finish_and_clear();
    // What still runs must not hold up the end.
    runtime.shutdown_background();
    let findings = match measured {
        None => {
            let _ = io::stderr().write_all(b"interrupted: nothing is written\n");
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
        Some(Err(error @ TuneError::NoneLoads { .. })) => {
            complain(&error.into());
            return Ok(ExitCode::FAILURE);
        }
        Some(findings) => findings?,
    };
    tell(&findings, write.as_deref())
}

fn tell(findings: &Findings, write: Option<&Path>) -> anyhow::Result<ExitCode> {
    say(&findings.to_string().trim_end())?;
    if let Some(path) = write {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let written = file.and_then(|mut file| write!(file, "{findings}"));
        written.with_context(|| format!("--write {}", path.display()))?;
    }
    for (id, detail) in &findings.broken {
        complain(&anyhow::anyhow!("{id}: {detail}"));
    }
    Ok(match findings.broken.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Shown on a terminal only.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
