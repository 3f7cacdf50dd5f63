//! A film of a session: each frame with the sound that is heard while it is shown.

use std::{
    fs::File,
    io::{self, BufWriter, Seek, Write},
    path::Path,
};

use anyhow::{Context as _, ensure};
use lipsync::{
    avi::{AviWriter, Sound},
    session::AudioFormat,
    v1::{CompositedFrame, Opened},
};

/// How a session takes such sound.
pub fn format(sound: Sound) -> AudioFormat {
    AudioFormat::PcmS16 {
        rate_hz: sound.rate_hz,
        n_channels: u32::from(sound.n_channels),
    }
}

/// A film that grows by a frame and its sound at a time.
pub struct Film<W = BufWriter<File>> {
    avi: AviWriter<W>,
    sound: Sound,
    fps: u32,
    n_frames: u64,
    n_sound_bytes: u64,
}

impl Film {
    /// Begins a film of what a session shows.
    pub fn create(path: &Path, opened: &Opened, sound: Sound) -> anyhow::Result<Self> {
        ensure!(opened.fps > 0, "the server announced 0 frames per second");
        let file =
            File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let size = (opened.width, opened.height);
        Ok(Self::new(BufWriter::new(file), size, opened.fps, sound)?)
    }
}

impl<W: Write + Seek> Film<W> {
    fn new(out: W, size: (u32, u32), fps: u32, sound: Sound) -> io::Result<Self> {
        Ok(Self {
            avi: AviWriter::new(out, size, fps, sound)?,
            sound,
            fps,
            n_frames: 0,
            n_sound_bytes: 0,
        })
    }

    /// Appends a frame with the sound that came with it (`audio_echo`): that of idle frames, and of those at
    /// the end of an utterance, is made up with silence.
    pub fn add(&mut self, frame: &CompositedFrame) -> io::Result<()> {
        self.avi.write_frame(&frame.data)?;
        self.n_frames += 1;
        let missing = (self.bytes_heard() - self.n_sound_bytes.min(self.bytes_heard()))
            .saturating_sub(frame.audio.len() as u64);
        let mut sound = frame.audio.to_vec();
        sound.resize(sound.len() + usize::try_from(missing).unwrap_or(0), 0);
        self.n_sound_bytes += sound.len() as u64;
        self.avi.write_sound(&sound)
    }

    /// Frames so far.
    pub fn n_frames(&self) -> u64 {
        self.n_frames
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.n_frames as f64 / f64::from(self.fps)
    }

    /// Completes the file.
    pub fn finish(self) -> io::Result<W> {
        let mut out = self.avi.finish()?;
        out.flush()?;
        Ok(out)
    }

    /// Sound that is heard while the frames so far are shown: whole samples.
    fn bytes_heard(&self) -> u64 {
        let n_samples = self.n_frames * u64::from(self.sound.rate_hz) / u64::from(self.fps);
        n_samples * u64::from(self.sound.block_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn sound_and_pictures_stay_in_step() {
        let sound = Sound {
            rate_hz: 11_025,
            n_channels: 1,
        };
        let mut film = Film::new(Cursor::new(Vec::new()), (6, 4), 24, sound).expect("memory");
        // 459.375 samples a frame: speech, its short last frame, silence, speech again.
        for (n, n_samples) in [459_usize, 459, 460, 100, 0, 0, 459, 459]
            .into_iter()
            .enumerate()
        {
            let frame = CompositedFrame {
                data: vec![1; 3].into(),
                audio: vec![2; n_samples * 2].into(),
                ..CompositedFrame::default()
            };
            film.add(&frame).expect("memory");
            let ahead = film.n_sound_bytes.abs_diff(film.bytes_heard());
            assert!(ahead <= 2, "frame {n}: {ahead} bytes out of step");
        }
        assert_eq!(film.n_frames(), 8);
        film.finish().expect("memory");
    }
}
