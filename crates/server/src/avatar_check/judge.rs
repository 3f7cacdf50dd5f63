//! Whether a mouth follows a voice, without knowing what was said.
//!
//! An open mouth lets sound out, and a closed one does not. So over a sentence the opening goes up and down with the
//! loudness. They are not the same (an /m/ is loud, an /s/ is nearly closed), so even a perfect mouth reaches 0.5 to
//! 0.8 and not 1. What a wrong one reaches is near 0: another sound, frames of another avatar, features in another
//! order, a network that was not trained.

use super::figures::{correlation, f64_of};

/// How far picture and sound may be apart, frames.
const MAX_LAG: i32 = 8;
/// Loudness is seen as between so many decibels below the loudest and it.
const RANGE_DB: f64 = 40.0;
/// Below the loudest by more than this is silence, dB.
const SILENCE_DB: f64 = 35.0;
/// Frames of silence before and after a silent frame that counts: the lips take their time.
const SETTLED: usize = 3;
/// An opening up to this counts as closed.
const CLOSED: f64 = 0.25;
/// A dip of loudness inside speech is at least this deep, dB, on both sides.
const DIP_DB: f64 = 10.0;
/// And at most this many frames long.
const DIP_FRAMES: usize = 4;

/// How a mouth follows a voice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LipSync {
    /// Correlation of opening and loudness at the best lag, -1 to 1.
    pub correlation: f64,
    /// Frames by which the mouth is late at best; negative where it is early.
    pub lag_frames: f64,
    /// Silent frames, and those of them in which the mouth is closed.
    pub silent: (usize, usize),
    /// Short dips of loudness inside speech, as the lips make for p, b and m, and those at which the mouth narrows.
    pub dips: (usize, usize),
}

impl LipSync {
    /// Compares the opening of each frame with its loudness, dB.
    #[must_use]
    pub fn of(opening: &[f64], loudness_db: &[f64]) -> Self {
        let loudest = loudness_db.iter().copied().fold(f64::MIN, f64::max);
        let heard: Vec<f64> = loudness_db
            .iter()
            .map(|db| (db - loudest).max(-RANGE_DB))
            .collect();
        let smooth = smoothed(&heard);
        let (correlation, lag_frames) = best_lag(opening, &smooth);
        Self {
            correlation,
            lag_frames,
            silent: in_silence(opening, &heard),
            dips: at_dips(opening, &heard),
        }
    }

    /// The share of silent frames in which the mouth is closed; 1 where there are none.
    #[must_use]
    pub fn closed_share(&self) -> f64 {
        let (n_silent, n_closed) = self.silent;
        if n_silent == 0 {
            return 1.0;
        }
        f64_of(n_closed) / f64_of(n_silent)
    }
}

/// Loudness of each of `n_frames` frames, dB of full scale, of mono samples within -1..1.
#[must_use]
pub fn loudness_db(samples: &[f32], n_frames: usize) -> Vec<f64> {
    let at = |frame: usize| samples.len() * frame / n_frames.max(1);
    let of_frame = |frame: usize| {
        let part = &samples[at(frame)..at(frame + 1)];
        let power: f64 = part.iter().map(|s| f64::from(*s).powi(2)).sum();
        10.0 * (power / f64_of(part.len().max(1)) + 1e-10).log10()
    };
    (0..n_frames).map(of_frame).collect()
}

/// Each value with its neighbours: lips do not follow 40 ms.
fn smoothed(values: &[f64]) -> Vec<f64> {
    let around = |i: usize| {
        let part = &values[i.saturating_sub(1)..(i + 2).min(values.len())];
        part.iter().sum::<f64>() / f64_of(part.len())
    };
    (0..values.len()).map(around).collect()
}

/// The best correlation, and the lag where it is, between frames too.
fn best_lag(opening: &[f64], loudness: &[f64]) -> (f64, f64) {
    let at = |lag: i32| {
        let shift = usize::try_from(lag.unsigned_abs()).unwrap_or(0);
        let n = opening.len().min(loudness.len());
        if shift + 2 > n {
            return 0.0;
        }
        let (opening, loudness) = if lag >= 0 {
            (&opening[shift..n], &loudness[..n - shift])
        } else {
            (&opening[..n - shift], &loudness[shift..n])
        };
        correlation(opening, loudness)
    };
    let all = (-MAX_LAG..=MAX_LAG).map(|lag| (lag, at(lag)));
    let (lag, best) = all.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
    // The top of the parabola through the best and its neighbours.
    let (before, after) = (at(lag - 1), at(lag + 1));
    let bend = before - 2.0 * best + after;
    let shift = if bend < 0.0 {
        0.5 * (before - after) / bend
    } else {
        0.0
    };
    (best, f64::from(lag) + shift.clamp(-0.5, 0.5))
}

/// Frames in settled silence, and those of them with a closed mouth.
fn in_silence(opening: &[f64], heard: &[f64]) -> (usize, usize) {
    let is_silent = |i: usize| {
        let part = &heard[i.saturating_sub(SETTLED)..(i + SETTLED + 1).min(heard.len())];
        part.iter().all(|db| *db <= -SILENCE_DB)
    };
    let silent: Vec<usize> = (0..opening.len().min(heard.len()))
        .filter(|&i| is_silent(i))
        .collect();
    let n_closed = silent.iter().filter(|&&i| opening[i] <= CLOSED).count();
    (silent.len(), n_closed)
}

/// Short dips of loudness with louder sound on both sides, and those at which the mouth narrows.
fn at_dips(opening: &[f64], heard: &[f64]) -> (usize, usize) {
    let n = opening.len().min(heard.len());
    let (mut n_dips, mut n_narrow) = (0, 0);
    let mut i = DIP_FRAMES;
    while i + DIP_FRAMES < n {
        let peak = |part: &[f64]| part.iter().copied().fold(f64::MIN, f64::max);
        let (before, after) = (&heard[i - DIP_FRAMES..i], &heard[i + 1..=i + DIP_FRAMES]);
        let is_lowest = heard[i] <= heard[i - 1] && heard[i] < heard[i + 1];
        if is_lowest && heard[i] + DIP_DB <= peak(before).min(peak(after)) {
            n_dips += 1;
            let widest = |part: &[f64]| part.iter().copied().fold(f64::MIN, f64::max);
            let sides =
                widest(&opening[i - DIP_FRAMES..i]).min(widest(&opening[i + 1..=i + DIP_FRAMES]));
            let least = opening[i - 1..=i + 1]
                .iter()
                .copied()
                .fold(f64::MAX, f64::min);
            n_narrow += usize::from(least < sides);
            i += DIP_FRAMES;
        } else {
            i += 1;
        }
    }
    (n_dips, n_narrow)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Syllables of 8 frames with a dip after each, and silence at both ends.
    fn voice() -> Vec<f64> {
        let syllable = [-14.0, -8.0, -4.0, -2.0, -3.0, -7.0, -15.0, -30.0];
        let mut voice = vec![-90.0; 12];
        for n in 0..10 {
            voice.extend(syllable.map(|db| db - f64::from(n % 3) * 2.0));
        }
        voice.extend([-90.0; 12]);
        voice
    }

    fn mouth(voice: &[f64]) -> Vec<f64> {
        voice
            .iter()
            .map(|db| ((db + 30.0) / 30.0).clamp(0.0, 1.0))
            .collect()
    }

    #[test]
    fn a_mouth_that_follows_is_good_and_its_lag_is_found() {
        let voice = voice();
        let found = LipSync::of(&mouth(&voice), &voice);
        assert!(found.correlation > 0.85, "{found:?}");
        assert!(found.lag_frames.abs() < 0.3, "{found:?}");
        assert_eq!(
            (found.silent.0, found.closed_share()),
            (18, 1.0),
            "{found:?}"
        );
        assert!(
            found.dips.0 >= 8 && found.dips.0 == found.dips.1,
            "{found:?}"
        );
        let mut late = vec![0.0; 3];
        late.extend(mouth(&voice));
        late.truncate(voice.len());
        let found = LipSync::of(&late, &voice);
        assert!((found.lag_frames - 3.0).abs() < 0.3, "{found:?}");
    }

    #[test]
    fn a_mouth_of_its_own_is_not() {
        let voice = voice();
        let other: Vec<f64> = (0..voice.len())
            .map(|i| f64_of(i * 37 % 101) / 100.0)
            .collect();
        let found = LipSync::of(&other, &voice);
        assert!(found.correlation < 0.3, "{found:?}");
        let open = LipSync::of(&vec![1.0; voice.len()], &voice);
        assert_eq!((open.correlation, open.closed_share()), (0.0, 0.0));
    }

    #[test]
    fn loudness_is_that_of_each_frame() {
        let samples: Vec<f32> = [vec![0.0; 640], vec![1.0; 640]].concat();
        let found = loudness_db(&samples, 2);
        assert!(found[0] < -90.0 && found[1].abs() < 0.01, "{found:?}");
        assert_eq!(loudness_db(&[], 1).len(), 1);
    }
}
