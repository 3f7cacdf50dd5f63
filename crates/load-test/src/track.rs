//! What users say: endless loops of audio, cut without copying.

use std::{f32::consts::TAU, path::Path};

use bytes::Bytes;
use lipsync::wav::Wav;

use crate::{Error, random::Random};

/// Samples per second of made-up speech.
const VOICE_RATE_HZ: u32 = 16_000;
/// Length of its loop.
const VOICE_SECONDS: u32 = 8;
/// Vowels: centres of the first two formants in Hz.
const VOWELS: [(f32, f32); 5] = [
    (730.0, 1090.0),
    (530.0, 1840.0),
    (270.0, 2290.0),
    (570.0, 840.0),
    (300.0, 870.0),
];

/// A file of `--audio` may be no larger: an hour and more of speech.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A loop of audio, made of units: PCM samples, feature steps or feature windows.
#[derive(Debug, Clone)]
pub struct Track {
    /// One loop, followed by its start again, as long as the longest cut.
    data: Bytes,
    loop_units: u64,
    bytes_per_unit: usize,
    /// Units per second of speech; 0: one unit for each frame.
    rate_hz: u32,
}

impl Track {
    /// Wraps one loop, whose length must be a positive number of units, for cuts of up to
    /// `longest_units`.
    ///
    /// # Panics
    /// When `one_loop` holds no whole unit.
    #[must_use]
    pub fn new(one_loop: &[u8], bytes_per_unit: usize, rate_hz: u32, longest_units: usize) -> Self {
        let n_units = one_loop.len() / bytes_per_unit;
        assert!(n_units > 0, "a track holds at least one unit");
        let period = &one_loop[..n_units * bytes_per_unit];
        let n_bytes = (n_units + longest_units) * bytes_per_unit;
        let data: Vec<u8> = period.iter().copied().cycle().take(n_bytes).collect();
        Self {
            data: data.into(),
            loop_units: n_units as u64,
            bytes_per_unit,
            rate_hz,
        }
    }

    /// Samples per second; 0 for features.
    #[must_use]
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Bytes of a sample, a step or a window.
    #[must_use]
    pub fn bytes_per_unit(&self) -> usize {
        self.bytes_per_unit
    }

    /// The audio of frames `first..first + n` at `fps`.
    ///
    /// Positions are rounded down, so `n` frames of samples never count as `n + 1`.
    ///
    /// # Panics
    /// When the cut is longer than announced.
    #[must_use]
    pub fn cut(&self, first: u64, n: u64, fps: u32) -> Bytes {
        let (from, to) = (self.place(first, fps), self.place(first + n, fps));
        let start = as_index(from % self.loop_units) * self.bytes_per_unit;
        let n_bytes = as_index(to - from) * self.bytes_per_unit;
        self.data.slice(start..start + n_bytes)
    }

    fn place(&self, frame: u64, fps: u32) -> u64 {
        if self.rate_hz == 0 {
            frame
        } else {
            // Frames of a day-long run times a rate in Hz are far from the limit of 64 bits.
            frame * u64::from(self.rate_hz) / u64::from(fps)
        }
    }

    /// Speech-like sound as s16 LE mono at 16 kHz: voice number `voice` of `seed`.
    #[must_use]
    pub fn voice(seed: u64, voice: u64, longest_s: u32) -> Self {
        let samples = voice_samples(&mut Random::new(seed, voice));
        let data: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        let longest = (VOICE_RATE_HZ as usize) * (longest_s as usize);
        Self::new(&data, 2, VOICE_RATE_HZ, longest)
    }

    /// Made-up features in -1..1, `unit_bytes` for each frame.
    #[must_use]
    pub fn features(seed: u64, unit_bytes: usize, longest_frames: usize) -> Self {
        let mut random = Random::new(seed, 0);
        let data: Vec<u8> = (0..64 * unit_bytes / 4)
            .flat_map(|_| random.signed_unit().to_le_bytes())
            .collect();
        Self::new(&data, unit_bytes, 0, longest_frames)
    }

    /// Reads a WAV file; two or more channels become their mean.
    ///
    /// # Errors
    /// [`Error::Audio`] for files that cannot be read.
    pub fn wav(path: &Path, longest_s: u32) -> Result<Self, Error> {
        let wav = Wav::open_within(path, MAX_FILE_BYTES).map_err(Error::Audio)?;
        let blocks = wav.samples.chunks_exact(usize::from(wav.n_channels));
        let mean = |block: &[i16]| match *block {
            [left, right] => left.midpoint(right),
            _ => block[0],
        };
        let data: Vec<u8> = blocks.flat_map(|b| mean(b).to_le_bytes()).collect();
        let longest = (wav.rate_hz as usize) * (longest_s as usize);
        Ok(Self::new(&data, 2, wav.rate_hz, longest))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the value is clamped to the range of i16; a float cast of NaN gives 0"
)]
fn to_s16(sample: f32) -> i16 {
    (sample * 32_767.0).clamp(-32_768.0, 32_767.0) as i16
}

/// An index; the value is bounded by the length of a buffer.
fn as_index(place: u64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// A buzz at the pitch of the voice through two formants that change with each syllable.
fn voice_samples(random: &mut Random) -> Vec<i16> {
    let rate = VOICE_RATE_HZ as f32;
    let pitch_hz = 150.0 + 60.0 * random.signed_unit();
    let syllable = 3_200; // 200 ms
    let (mut first, mut second) = (Resonator::default(), Resonator::default());
    let mut phase = 0.0_f32;
    let mut samples = Vec::new();
    for i in 0..VOICE_RATE_HZ * VOICE_SECONDS {
        if i % syllable == 0 {
            let vowel = VOWELS[as_index(random.below(VOWELS.len() as u64))];
            first.tune(vowel.0, rate);
            second.tune(vowel.1, rate);
        }
        let along = (i % syllable) as f32 / syllable as f32;
        let loudness = (along * TAU / 2.0).sin().powi(2);
        phase += pitch_hz * (1.0 + 0.05 * (along * TAU).sin()) / rate;
        let pulse = if phase >= 1.0 {
            phase -= 1.0;
            1.0
        } else {
            0.02 * random.signed_unit()
        };
        let sound = first.step(pulse) + 0.6 * second.step(pulse);
        samples.push(loudness * sound);
    }
    let peak = samples
        .iter()
        .fold(f32::EPSILON, |peak, s| peak.max(s.abs()));
    samples.iter().map(|s| to_s16(0.6 * s / peak)).collect()
}

/// A two-pole filter that rings at one frequency.
#[derive(Default)]
struct Resonator {
    a1: f32,
    a2: f32,
    y1: f32,
    y2: f32,
}

impl Resonator {
    fn tune(&mut self, hz: f32, rate: f32) {
        let radius = 0.97_f32;
        self.a1 = 2.0 * radius * (TAU * hz / rate).cos();
        self.a2 = -radius * radius;
    }

    fn step(&mut self, input: f32) -> f32 {
        let y = input + self.a1 * self.y1 + self.a2 * self.y2;
        self.y2 = self.y1;
        self.y1 = y;
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mu-law file whose lengths were never filled in, as a telephony service streams it.
    #[test]
    fn files_are_read_as_they_come() -> anyhow::Result<()> {
        let mut file = b"RIFF\xff\xff\xff\xffWAVEfmt \x12\0\0\0\x07\0\x02\0\x40\x1f\0\0".to_vec();
        file.extend(b"\x80\x3e\0\0\x02\0\x08\0\0\0data\xff\xff\xff\xff\xff\xff\x80\x80");
        let path = std::env::temp_dir().join(format!("lipsync-track-{}.wav", std::process::id()));
        std::fs::write(&path, &file)?;
        let track = Track::wav(&path, 1);
        std::fs::write(&path, &file[..file.len() - 4])?;
        let empty = Track::wav(&path, 1);
        std::fs::remove_file(&path)?;
        let track = track?;
        assert_eq!((track.rate_hz(), track.loop_units), (8_000, 2));
        let samples = [0_i16, 32_124].map(i16::to_le_bytes).concat();
        assert_eq!(&track.data[..4], samples);
        let error = anyhow::Error::from(empty.expect_err("it is empty"));
        assert!(
            format!("{error:#}").contains("holds no samples"),
            "{error:#}"
        );
        Ok(())
    }

    #[test]
    fn cuts_wrap_round() {
        let track = Track::new(&[0, 1, 2, 3, 4], 1, 25, 7);
        assert_eq!(&track.cut(3, 4, 25)[..], [3, 4, 0, 1]);
        assert_eq!(&track.cut(5_000_004, 7, 25)[..], [4, 0, 1, 2, 3, 4, 0]);
    }

    #[test]
    fn neighbouring_cuts_join_even_at_odd_rates() {
        let track = Track::voice(1, 1, 2);
        let fps = 24;
        let whole = track.cut(10, 9, fps);
        let parts: Vec<u8> = (10..19).flat_map(|i| track.cut(i, 1, fps)).collect();
        assert_eq!(whole, parts);
    }

    #[test]
    fn voices_differ_and_are_loud_enough() {
        let (a, b) = (Track::voice(1, 0, 1), Track::voice(1, 1, 1));
        assert_ne!(a.cut(0, 25, 25), b.cut(0, 25, 25));
        let samples: Vec<i16> = a
            .cut(0, 25, 25)
            .chunks(2)
            .map(|s| i16::from_le_bytes([s[0], s[1]]))
            .collect();
        let peak = samples.iter().map(|s| s.unsigned_abs()).max();
        assert!(
            (3_000..32_000).contains(&peak.expect("a second")),
            "{peak:?}"
        );
    }

    #[test]
    fn features_are_finite_and_in_range() {
        let cut = Track::features(1, 2048, 8).cut(60, 8, 25);
        assert_eq!(cut.len(), 8 * 2048);
        for word in cut.chunks(4) {
            let x = f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            assert!((-1.0..1.0).contains(&x));
        }
    }
}
