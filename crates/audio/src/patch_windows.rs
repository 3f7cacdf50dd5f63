//! Windows of networks that hear mel rows: frame `i` sees rows `floor(3.2 i)` to 15 more, transposed.
//!
//! That is what an encoder network would read for step `i` ([`steps`](crate::steps)), so nothing is computed
//! here. Frames whose rows would reach past the end of the clip see its last 16 rows.
//!
//! Source: the inference script of Wav2Lip.

use crate::steps::PATCH_FLOATS;

/// Patches in, the windows of video frames out: `[80, 16]` each, mel-major.
#[derive(Debug)]
pub struct PatchWindows {
    /// The last patch that came.
    last: Vec<f32>,
    n_patches: u64,
    next_frame: u64,
}

impl PatchWindows {
    /// An empty clip, to make windows from `first_frame` on.
    #[must_use]
    pub fn new(first_frame: u64) -> Self {
        Self {
            last: Vec::new(),
            n_patches: 0,
            next_frame: first_frame,
        }
    }

    /// Takes whole patches and appends the windows that they are.
    pub fn push(&mut self, patches: &[f32], windows: &mut Vec<f32>) {
        self.take(patches, u64::MAX, windows);
    }

    /// Ends the clip with its last patches and appends the windows of its last frames, `n_frames` frames in
    /// all.
    ///
    /// Without any patch there is nothing to hear, and no window is made.
    pub fn finish(mut self, patches: &[f32], n_frames: u64, windows: &mut Vec<f32>) {
        self.take(patches, n_frames, windows);
        while self.next_frame < n_frames && !self.last.is_empty() {
            windows.extend_from_slice(&self.last);
            self.next_frame += 1;
        }
    }

    /// The next frame to come out.
    #[must_use]
    pub fn next_frame(&self) -> u64 {
        self.next_frame
    }

    fn take(&mut self, patches: &[f32], n_frames: u64, windows: &mut Vec<f32>) {
        debug_assert!(patches.len().is_multiple_of(PATCH_FLOATS));
        for patch in patches.chunks_exact(PATCH_FLOATS) {
            if self.n_patches == self.next_frame && self.next_frame < n_frames {
                windows.extend_from_slice(patch);
                self.next_frame += 1;
            }
            self.n_patches += 1;
        }
        if let Some(last) = patches.chunks_exact(PATCH_FLOATS).next_back() {
            self.last.clear();
            self.last.extend_from_slice(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AudioError, FeatureStream,
        cuts::{frame_sample, mel_look_ahead_ms, mel_samples_needed},
        mel::{MelStream, N_MELS},
        testing::{AVE_FPS, noise},
    };

    fn no_encoder(_: &[f32]) -> Result<Vec<f32>, AudioError> {
        panic!("an encoder was asked");
    }

    fn whole(samples: &[f32], first_frame: u64) -> Vec<f32> {
        let mut windows = Vec::new();
        let mut stream = FeatureStream::of_mel(16_000, first_frame).expect("a rate");
        stream
            .push(samples, no_encoder, &mut windows)
            .expect("pushed");
        stream.finish(no_encoder, &mut windows).expect("finished");
        windows
    }

    /// The script's own words, over the whole spectrogram.
    #[test]
    fn a_window_is_the_rows_from_the_frames_time_on() {
        for n_samples in [1, 2_999, 3_000, 16_000, 16_641, 40_007] {
            let samples = noise(n_samples);
            let mut padded = samples.clone();
            padded.resize(n_samples.max(3_000), 0.0);
            let mut rows = Vec::new();
            let mut mel = MelStream::new();
            mel.push(&padded, &mut rows);
            mel.finish(&mut rows);
            let n_rows = rows.len() / N_MELS;
            let mut expected = Vec::new();
            for frame in 0..n_samples.div_ceil(640) {
                let start = (frame * 16 / 5).min(n_rows - 16);
                for band in 0..N_MELS {
                    expected.extend((start..start + 16).map(|row| rows[row * N_MELS + band]));
                }
            }
            assert!(whole(&samples, 0) == expected, "{n_samples} samples");
            let later = n_samples.div_ceil(640) / 2;
            let rest = whole(&samples, later as u64);
            assert!(
                rest == expected[later * PATCH_FLOATS..],
                "{n_samples} samples"
            );
        }
    }

    #[test]
    fn a_stream_gives_the_windows_of_the_whole_clip_as_soon_as_it_can() {
        let samples = noise(20_000);
        let expected = whole(&samples, 0);
        let mut stream = FeatureStream::of_mel(16_000, 0).expect("a rate");
        let mut windows = Vec::new();
        let mut n_heard = 0;
        for piece in samples.chunks(77) {
            stream
                .push(piece, no_encoder, &mut windows)
                .expect("pushed");
            n_heard += piece.len() as u64;
            let n_frames = (windows.len() / PATCH_FLOATS) as u64;
            assert!(
                mel_samples_needed(n_frames, 16_000) > n_heard,
                "frame {n_frames} is late"
            );
            let last = n_frames.checked_sub(1);
            assert!(last.is_none_or(|last| mel_samples_needed(last, 16_000) <= n_heard));
        }
        stream.finish(no_encoder, &mut windows).expect("finished");
        assert!(windows == expected);
        assert!(whole(&[], 0).is_empty());
    }

    #[test]
    fn it_looks_213_ms_ahead() {
        assert_eq!(mel_look_ahead_ms(16_000), 213);
        assert_eq!(mel_samples_needed(0, 16_000), 3_400);
        assert_eq!(
            mel_samples_needed(5, 16_000) - frame_sample(5, (16_000, AVE_FPS)),
            3_400
        );
        assert!(mel_look_ahead_ms(8_000) < 225);
    }
}
