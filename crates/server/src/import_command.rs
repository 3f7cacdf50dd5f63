//! `lipsync-server import`: folders that other projects leave behind become avatars of ours.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lipsync_core::ModelId;
use lipsync_registry::{ImportOrder, ImportReport, import as import_folder};
use lipsync_server::Config;

use crate::command_line::{Import, load_or_default, say};

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
    let config = load_or_default(file)?;
    let order = ImportOrder {
        max_frames: config.registry.max_frames,
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
    let mut lines = in_words(&imported?, id, &arguments.to);
    lines.push(how_to_serve(file, &config, id, &arguments.to));
    say(&lines.join("\n  "))?;
    Ok(ExitCode::SUCCESS)
}

/// What makes the imported folder a model of the server: a command, or lines for the configuration that there is.
fn how_to_serve(file: &Path, config: &Config, id: &str, to: &Path) -> String {
    if !file.exists() {
        let root = to.parent().filter(|parent| *parent != Path::new(""));
        let root = root.unwrap_or(Path::new("."));
        return format!(
            "serve it: lipsync-server init --models-root {}, then lipsync-server",
            root.display()
        );
    }
    let path = path_from(&config.models_root, to);
    format!(
        "serve it: in {}, under models: \"{id}: {{path: {}}}\"",
        file.display(),
        path.display()
    )
}

/// A folder as the configuration has to name it: from `models_root` if it is in there, else absolute.
fn path_from(models_root: &Path, folder: &Path) -> PathBuf {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (root, folder) = (whole(models_root), whole(folder));
    folder
        .strip_prefix(&root)
        .map_or(folder.clone(), Path::to_owned)
}

fn in_words(report: &ImportReport, id: &str, to: &Path) -> Vec<String> {
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
    lines
}
