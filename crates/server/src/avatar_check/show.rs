//! What is written for people: sheets of pictures, and a film with sound.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use lipsync::avi::AviWriter;
use lipsync_compositor::{DecodeLimits, EncodeOptions, Encoding, Picture, decode, encode_with};
use lipsync_core::{PixelRect, frames_in};
use lipsync_registry::{CheckedFrame, Model};

use super::{
    canvas::{Sheet, outlined},
    sound::Speech,
    trial::{SpokenFrame, Trial},
};

/// Frames on the sheet of rectangles.
const SHEET_FRAMES: usize = 12;
const SHEET_COLUMNS: usize = 4;
const SHEET_CELL_WIDTH: usize = 320;
/// Side of a spoken face on its sheet, px.
const FACE_PX: usize = 256;
/// A face is shown with a part of what is around it.
const AROUND: usize = 4;
/// Frames of a film that are in memory at once.
const FRAMES_AT_ONCE: usize = 32;
const QUALITY: u8 = 90;

/// The folder that the files go into.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Files written so far.
    pub written: Vec<PathBuf>,
}

/// Every frame with its rectangle.
pub const RECTANGLES: &str = "rectangles.jpg";
/// Five frames: above as recorded, below as spoken.
pub const SPOKEN: &str = "spoken.jpg";
/// The whole speech.
pub const FILM: &str = "speech.avi";

impl Folder {
    /// Makes the folder, where it is not there yet. Files of an earlier check in it are refused, not replaced.
    ///
    /// # Errors
    /// What the system says, and a file that is there.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        fs::create_dir_all(path).with_context(|| format!("cannot create --out {shown}"))?;
        for name in [RECTANGLES, SPOKEN, FILM] {
            if path.join(name).symlink_metadata().is_ok() {
                anyhow::bail!(
                    "--out {shown} has a {name} already, which is left as it is: name another folder"
                );
            }
        }
        Ok(Self {
            path: path.to_owned(),
            written: Vec::new(),
        })
    }

    fn create_file(&mut self, name: &str) -> anyhow::Result<File> {
        let path = self.path.join(name);
        let file = File::create_new(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        self.written.push(path);
        Ok(file)
    }

    /// Removes the file that was written last: a part of one says nothing.
    fn remove_last(&mut self) {
        if let Some(path) = self.written.pop() {
            // What cannot be removed is named by the error that led here.
            let _ = fs::remove_file(path);
        }
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let mut file = self.create_file(name)?;
        file.write_all(bytes).map_err(|error| {
            self.remove_last();
            anyhow::Error::new(error).context(format!("cannot write {name}"))
        })
    }
}

/// Writes frames spread over all of an avatar, with their rectangles. Frames that cannot be read are left out.
///
/// # Errors
/// What cannot be written.
pub fn rectangles(
    folder: &mut Folder,
    frames: &[CheckedFrame],
    size: (usize, usize),
) -> anyhow::Result<()> {
    let n = SHEET_FRAMES.min(frames.len());
    let height = (SHEET_CELL_WIDTH * size.1 / size.0.max(1)).clamp(1, 4 * SHEET_CELL_WIDTH);
    let cell = (SHEET_CELL_WIDTH, height);
    let mut sheet = Sheet::new(cell, SHEET_COLUMNS, n.div_ceil(SHEET_COLUMNS).max(1));
    for index in 0..n {
        let frame = &frames[index * frames.len() / n];
        let Some(picture) = read(frame) else { continue };
        let thick = (picture.width() / SHEET_CELL_WIDTH + 1) * 2;
        let drawn = frame.rect.map(|rect| outlined(&picture, rect, thick));
        sheet.put(index, drawn.as_ref().unwrap_or(&picture));
    }
    folder.write(RECTANGLES, &sheet.jpeg()?)
}

/// A frame that the check could read.
fn read(frame: &CheckedFrame) -> Option<Picture> {
    let bytes = frame
        .is_good
        .then(|| fs::read(&frame.path).ok())
        .flatten()?;
    decode(&bytes, DecodeLimits::default()).ok()
}

/// Writes the faces of some frames: above as recorded, below as spoken.
///
/// # Errors
/// What cannot be written.
pub fn spoken(folder: &mut Folder, frames: &[SpokenFrame]) -> anyhow::Result<()> {
    let mut sheet = Sheet::new((FACE_PX, FACE_PX), frames.len(), 2);
    for (index, frame) in frames.iter().enumerate() {
        let place = around(frame.crop.rect(), &frame.picture);
        sheet.put(index, &frame.background.cut(place)?);
        sheet.put(frames.len() + index, &frame.picture.cut(place)?);
    }
    folder.write(SPOKEN, &sheet.jpeg()?)
}

/// A rectangle with what is around it, as far as it is on the picture.
fn around(rect: PixelRect, picture: &Picture) -> PixelRect {
    let more = rect.width.max(rect.height) / AROUND;
    let (x, y) = (rect.x.saturating_sub(more), rect.y.saturating_sub(more));
    PixelRect {
        x,
        y,
        width: (rect.x + rect.width + more).min(picture.width()) - x,
        height: (rect.y + rect.height + more).min(picture.height()) - y,
    }
}

/// Writes the whole speech as a film with sound. `seen` is told frames done.
///
/// # Errors
/// What the generator reports, and what cannot be written.
pub fn film(
    folder: &mut Folder,
    (trial, model): (&Trial<'_>, &Model),
    speech: &Speech,
    seen: &dyn Fn(usize),
) -> anyhow::Result<()> {
    let file = folder.create_file(FILM)?;
    let written = write_film(file, (trial, model), speech, seen);
    if written.is_err() {
        folder.remove_last();
    }
    written.with_context(|| format!("cannot write {FILM}"))
}

fn write_film(
    file: File,
    (trial, model): (&Trial<'_>, &Model),
    speech: &Speech,
    seen: &dyn Fn(usize),
) -> anyhow::Result<()> {
    let sound = speech.format();
    let size = (
        u32::try_from(model.width())?,
        u32::try_from(model.height())?,
    );
    let mut film = AviWriter::new(BufWriter::new(file), size, model.fps().get(), sound)?;
    let samples = speech.bytes();
    let options = EncodeOptions {
        is_marked: true,
        ..EncodeOptions::default()
    };
    let places: Vec<usize> = (0..trial.n_frames()).collect();
    for part in places.chunks(FRAMES_AT_ONCE) {
        for (&place, frame) in part.iter().zip(trial.walk(part)?) {
            let jpeg = Encoding::Jpeg { quality: QUALITY };
            film.write_frame(&encode_with(&frame.picture, jpeg, options)?)?;
            film.write_sound(sound_of(&samples, place, speech, model.fps().get()))?;
        }
        seen(part.len());
    }
    flushed(film.finish()?)?;
    Ok(())
}

fn flushed(mut out: BufWriter<File>) -> io::Result<()> {
    out.flush()
}

/// The samples that are heard while a frame is shown.
fn sound_of<'a>(samples: &'a [u8], frame: usize, speech: &Speech, fps: u32) -> &'a [u8] {
    let sound = speech.format();
    // The sample at which a frame begins is the number of "frames" of the sound's rate in so many of the film's.
    let at = |frame: usize| {
        let sample = frames_in(frame as u64, fps, sound.rate_hz);
        let byte = sample.saturating_mul(sound.block_bytes().into());
        usize::try_from(byte)
            .unwrap_or(usize::MAX)
            .min(samples.len())
    };
    &samples[at(frame)..at(frame + 1)]
}
