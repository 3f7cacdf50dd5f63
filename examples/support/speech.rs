//! Speech from WAV files, in 16-bit samples.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::avi::Sound;

/// What is said.
pub struct Speech {
    /// Interleaved.
    samples: Vec<i16>,
    sound: Sound,
}

impl Speech {
    /// Reads a WAV file of whole or float samples, mono or stereo.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        Self::read_wav(path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn read_wav(path: &Path) -> anyhow::Result<Self> {
        let mut reader = hound::WavReader::open(path)?;
        let spec = reader.spec();
        ensure!(
            (1..=2).contains(&spec.channels),
            "{} channels; one or two are understood",
            spec.channels
        );
        let samples = match spec.sample_format {
            hound::SampleFormat::Float => reader
                .samples::<f32>()
                .map(|sample| Ok(from_f32(sample?)))
                .collect::<anyhow::Result<_>>()?,
            hound::SampleFormat::Int => {
                let scale = (2.0_f32).powi(i32::from(spec.bits_per_sample) - 1);
                reader
                    .samples::<i32>()
                    .map(|sample| Ok(from_f32(sample? as f32 / scale)))
                    .collect::<anyhow::Result<_>>()?
            }
        };
        let sound = Sound {
            rate_hz: spec.sample_rate,
            n_channels: spec.channels,
        };
        Ok(Self { samples, sound })
    }

    /// Its rate and channels.
    pub fn sound(&self) -> Sound {
        self.sound
    }

    /// All of it, as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.samples.iter().flat_map(|s| s.to_le_bytes()).collect()
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

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast from float to integer saturates"
)]
fn from_f32(sample: f32) -> i16 {
    (sample * 32_768.0).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_samples_saturate() {
        assert_eq!(from_f32(1.0), i16::MAX);
        assert_eq!(from_f32(-1.0), i16::MIN);
        assert_eq!(from_f32(0.5), 16_384);
    }
}
