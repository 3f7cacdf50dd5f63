//! Speech from WAV files, in 16-bit samples.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lipsync::{avi::Sound, wav::Wav};

/// More is a device without an end.
const MAX_BYTES: u64 = 1 << 30;

/// Reads a WAV file, or what a pipe gives until it ends.
pub fn read(path: &Path) -> anyhow::Result<Wav> {
    Wav::open_within(path, MAX_BYTES).with_context(|| format!("cannot use {}", path.display()))
}

/// Its rate and channels.
pub fn sound(wav: &Wav) -> Sound {
    Sound {
        rate_hz: wav.rate_hz,
        n_channels: wav.n_channels,
    }
}

/// The first of the repository's samples by name.
pub fn first_sample() -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/speech");
    let mut samples: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wav"))
        .collect();
    samples.sort();
    samples
        .into_iter()
        .next()
        .context("no sample speech: name a file with --audio")
}
