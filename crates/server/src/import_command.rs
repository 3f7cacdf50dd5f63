//! `lipsync-server import`: folders that other projects leave behind become avatars of ours.

use std::{path::Path, process::ExitCode};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lipsync_core::ModelId;
use lipsync_registry::{ImportOrder, ImportReport, import as import_folder};
use lipsync_server::Config;

use crate::command_line::{Import, say};

/// Shown on a terminal only.
const BAR: &str = "copying {wide_bar} {pos}/{len} {eta}";

/// Imports a folder, and says how each part was recognised.
pub fn import(file: &Path, arguments: Import) -> anyhow::Result<ExitCode> {
    let id = arguments.to.file_name().and_then(|name| name.to_str());
    let Some(id) = id.filter(|id| ModelId::new(id).is_ok()) else {
        bail!(
            "--to {}: the folder's name becomes the model's id: letters, digits, . _ and - alone",
            arguments.to.display()
        );
    };
    let order = ImportOrder {
        max_frames: max_frames(file)?,
        source: arguments.source,
        to: arguments.to.clone(),
        generator: arguments.generator,
        audio_encoder: arguments.audio_encoder,
    };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(BAR) {
        bar.set_style(style);
    }
    let imported = import_folder(&order, &mut |n, of| {
        bar.set_length(of as u64);
        bar.set_position(n as u64);
    });
    bar.finish_and_clear();
    say(&in_words(&imported?, id, &arguments.to))?;
    Ok(ExitCode::SUCCESS)
}

/// How many frames the configuration allows; the default where there is none.
fn max_frames(file: &Path) -> anyhow::Result<usize> {
    let config = if file.exists() {
        crate::command_line::load(file)?
    } else {
        Config::parse("", file, [])?
    };
    Ok(config.registry.max_frames)
}

fn in_words(report: &ImportReport, id: &str, to: &Path) -> String {
    let mut lines = vec![format!("{id}: imported from {}", report.layout)];
    lines.extend(report.lines.iter().cloned());
    lines.push(format!(
        "{} frames, byte for byte; {} MB in {}",
        report.n_frames,
        report.n_bytes / 1_000_000,
        to.display()
    ));
    lines.push(format!(
        "check it: lipsync-server check-avatar {} --out check-{id}",
        to.display()
    ));
    lines.push(format!(
        "serve it: in config.yaml, under models: \"{id}: {{path: {}}}\"",
        to.display()
    ));
    lines.join("\n  ")
}
