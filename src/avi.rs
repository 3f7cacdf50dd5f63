//! Writes films for all programs of this repository: AVI with Motion JPEG pictures and 16-bit PCM sound.
//!
//! VLC, mpv, ffplay and Windows Media Player play them; browsers and QuickTime do not. The oldest container needs no
//! codec, as each frame is the JPEG that the server sent. It writes AVI 1.0, which ends at 4 GiB: about an hour of 720p.
//!
//! Lengths are known only at the end, so headers are written with zeros first and patched in
//! [`AviWriter::finish`].
//!
//! *Source:* <https://learn.microsoft.com/windows/win32/directshow/avi-riff-file-reference>.

use std::io::{self, Seek, SeekFrom, Write};

/// Each index entry says that its chunk can be decoded alone.
const KEY_FRAME: u32 = 0x10;
/// The file has an index, and its streams are interleaved.
const HAS_INDEX_AND_IS_INTERLEAVED: u32 = 0x10 | 0x100;

/// The kind of sound.
#[derive(Debug, Clone, Copy)]
pub struct Sound {
    /// Samples per second and channel.
    pub rate_hz: u32,
    /// 1 or 2.
    pub n_channels: u16,
}

impl Sound {
    /// Bytes of one sample of all channels.
    #[must_use]
    pub fn block_bytes(self) -> u32 {
        u32::from(self.n_channels) * 2
    }
}

/// Where lengths must be patched in, from the start of the file.
#[derive(Debug, Default)]
struct Patches {
    riff_bytes: u64,
    total_frames: u64,
    video_length: u64,
    sound_length: u64,
    movie_bytes: u64,
}

/// Writes one film.
#[derive(Debug)]
pub struct AviWriter<W> {
    out: W,
    place: u64,
    sound: Sound,
    patches: Patches,
    /// Chunk name, offset from the `movi` tag, length.
    index: Vec<([u8; 4], u32, u32)>,
    n_frames: u32,
    n_sound_bytes: u32,
}

impl<W: Write + Seek> AviWriter<W> {
    /// Writes the headers of a film of `size` (width, height) pixels.
    ///
    /// # Errors
    /// What the output reports, and [`io::ErrorKind::Other`] beyond 4 GiB.
    pub fn new(out: W, size: (u32, u32), fps: u32, sound: Sound) -> io::Result<Self> {
        let mut film = Self {
            out,
            place: 0,
            sound,
            patches: Patches::default(),
            index: Vec::new(),
            n_frames: 0,
            n_sound_bytes: 0,
        };
        film.put(b"RIFF")?;
        film.patches.riff_bytes = film.place;
        film.put_u32s(&[0])?;
        film.put(b"AVI LIST")?;
        // hdrl: the tag, avih (8 + 56), and the two strl lists as `write_streams` puts them.
        film.put_u32s(&[4 + 64 + 8 + STREAM_LIST_VIDEO + 8 + STREAM_LIST_SOUND])?;
        film.put(b"hdrlavih")?;
        film.put_u32s(&[56, 1_000_000 / fps, 0, 0, HAS_INDEX_AND_IS_INTERLEAVED])?;
        film.patches.total_frames = film.place;
        film.put_u32s(&[0, 0, 2, 0, size.0, size.1, 0, 0, 0, 0])?;
        film.put_video_stream(size, fps)?;
        film.put_sound_stream()?;
        film.put(b"LIST")?;
        film.patches.movie_bytes = film.place;
        film.put_u32s(&[0])?;
        film.put(b"movi")?;
        Ok(film)
    }

    /// Appends one picture, a whole JPEG file.
    ///
    /// # Errors
    /// What the output reports, and [`io::ErrorKind::Other`] beyond 4 GiB.
    pub fn write_frame(&mut self, jpeg: &[u8]) -> io::Result<()> {
        self.put_chunk(*b"00dc", jpeg)?;
        self.n_frames += 1;
        Ok(())
    }

    /// Appends sound: interleaved s16 LE.
    ///
    /// # Errors
    /// What the output reports, and [`io::ErrorKind::Other`] beyond 4 GiB.
    pub fn write_sound(&mut self, pcm: &[u8]) -> io::Result<()> {
        self.n_sound_bytes += self.put_chunk(*b"01wb", pcm)?;
        Ok(())
    }

    /// Writes the index and the lengths; without it the file is no film. Returns the output, which
    /// the caller flushes.
    ///
    /// # Errors
    /// What the output reports, and [`io::ErrorKind::Other`] beyond 4 GiB.
    pub fn finish(mut self) -> io::Result<W> {
        let movie_bytes = self.bytes_since_movie_tag()?;
        self.put(b"idx1")?;
        let index = std::mem::take(&mut self.index);
        let n_entries = u32::try_from(index.len()).map_err(|_| too_long())?;
        self.put_u32s(&[n_entries.checked_mul(16).ok_or_else(too_long)?])?;
        for (name, offset, n_bytes) in index {
            self.put(&name)?;
            self.put_u32s(&[KEY_FRAME, offset, n_bytes])?;
        }
        let riff_bytes = u32::try_from(self.place - 8).map_err(|_| too_long())?;
        let n_samples = self.n_sound_bytes / self.sound.block_bytes();
        for (place, value) in [
            (self.patches.riff_bytes, riff_bytes),
            (self.patches.total_frames, self.n_frames),
            (self.patches.video_length, self.n_frames),
            (self.patches.sound_length, n_samples),
            (self.patches.movie_bytes, movie_bytes),
        ] {
            self.out.seek(SeekFrom::Start(place))?;
            self.out.write_all(&value.to_le_bytes())?;
        }
        Ok(self.out)
    }

    fn put_video_stream(&mut self, (width, height): (u32, u32), fps: u32) -> io::Result<()> {
        self.put(b"LIST")?;
        self.put_u32s(&[STREAM_LIST_VIDEO])?;
        self.put(b"strlstrh")?;
        self.put_u32s(&[56])?;
        self.put(b"vidsMJPG")?;
        // Flags, priority and language, initial frames, then scale and rate: rate / scale = fps.
        self.put_u32s(&[0, 0, 0, 1, fps, 0])?;
        self.patches.video_length = self.place;
        // Length, buffer size, quality (none), sample size (varies), rectangle (the whole film).
        self.put_u32s(&[0, 0, u32::MAX, 0, 0, width | (height << 16)])?;
        self.put(b"strf")?;
        // BITMAPINFOHEADER: 1 plane of 24 bits.
        self.put_u32s(&[40, 40, width, height, 1 | (24 << 16)])?;
        self.put(b"MJPG")?;
        self.put_u32s(&[width * height * 3, 0, 0, 0, 0])
    }

    fn put_sound_stream(&mut self) -> io::Result<()> {
        let Sound {
            rate_hz,
            n_channels,
        } = self.sound;
        let block = self.sound.block_bytes();
        self.put(b"LIST")?;
        self.put_u32s(&[STREAM_LIST_SOUND])?;
        self.put(b"strlstrh")?;
        self.put_u32s(&[56])?;
        self.put(b"auds")?;
        // Handler, flags, priority and language, initial frames, then scale and rate in bytes.
        self.put_u32s(&[0, 0, 0, 0, block, rate_hz * block, 0])?;
        self.patches.sound_length = self.place;
        self.put_u32s(&[0, 0, u32::MAX, block, 0, 0])?;
        self.put(b"strf")?;
        // WAVEFORMAT: PCM, channels, rates, block size and 16 bits.
        let pcm = 1 | (u32::from(n_channels) << 16);
        self.put_u32s(&[16, pcm, rate_hz, rate_hz * block, block | (16 << 16)])
    }

    /// Writes one chunk of the film and notes it in the index. Returns its length.
    fn put_chunk(&mut self, name: [u8; 4], data: &[u8]) -> io::Result<u32> {
        let offset = self.bytes_since_movie_tag()?;
        let n_bytes = u32::try_from(data.len()).map_err(|_| too_long())?;
        self.put(&name)?;
        self.put_u32s(&[n_bytes])?;
        self.put(data)?;
        if n_bytes % 2 == 1 {
            self.put(&[0])?; // Chunks start at even places.
        }
        self.index.push((name, offset, n_bytes));
        Ok(n_bytes)
    }

    /// Distance of the current place from the `movi` tag: offsets in the index count from there.
    fn bytes_since_movie_tag(&self) -> io::Result<u32> {
        let tag = self.patches.movie_bytes + 4;
        u32::try_from(self.place - tag).map_err(|_| too_long())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.place += bytes.len() as u64;
        Ok(())
    }

    fn put_u32s(&mut self, values: &[u32]) -> io::Result<()> {
        values
            .iter()
            .try_for_each(|value| self.put(&value.to_le_bytes()))
    }
}

/// Length of the video stream's list: the tag, strh (8 + 56) and strf (8 + 40).
const STREAM_LIST_VIDEO: u32 = 4 + 64 + 48;
/// Length of the sound stream's list: the tag, strh (8 + 56) and strf (8 + 16).
const STREAM_LIST_SOUND: u32 = 4 + 64 + 24;

fn too_long() -> io::Error {
    io::Error::other("an AVI file ends at 4 GiB")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn film() -> Vec<u8> {
        let sound = Sound {
            rate_hz: 16_000,
            n_channels: 1,
        };
        let mut film = AviWriter::new(Cursor::new(Vec::new()), (6, 4), 25, sound).expect("memory");
        film.write_frame(b"odd").expect("memory");
        film.write_sound(&[1; 1_280]).expect("memory");
        film.write_frame(b"even").expect("memory");
        film.write_sound(&[2; 1_280]).expect("memory");
        film.finish().expect("memory").into_inner()
    }

    fn u32_at(data: &[u8], place: usize) -> usize {
        let bytes = data[place..place + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    }

    /// The chunks in `data`: name, start and length of the content.
    fn chunks(data: &[u8], mut place: usize, end: usize) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        while place < end {
            let name = String::from_utf8_lossy(&data[place..place + 4]).into_owned();
            let n_bytes = u32_at(data, place + 4);
            found.push((name, place + 8, n_bytes));
            place += 8 + n_bytes.next_multiple_of(2);
        }
        assert_eq!(place, end, "the lengths add up");
        found
    }

    #[test]
    fn every_length_adds_up() {
        let film = film();
        assert_eq!(u32_at(&film, 4), film.len() - 8);
        let top = chunks(&film, 12, film.len());
        let names: Vec<_> = top.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["LIST", "LIST", "idx1"]);
        let (_, header, n_bytes) = top[0];
        let lists = chunks(&film, header + 4, header + n_bytes);
        let names: Vec<_> = lists.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["avih", "LIST", "LIST"]);
        for (_, start, n_bytes) in &lists[1..] {
            let parts = chunks(&film, start + 4, start + n_bytes);
            assert_eq!((parts[0].0.as_str(), parts[0].2), ("strh", 56));
            assert_eq!(parts[1].0, "strf");
        }
        // Two frames, 1,280 samples.
        assert_eq!(u32_at(&film, lists[0].1 + 16), 2);
        assert_eq!(u32_at(&film, lists[1].1 + 4 + 8 + 32), 2);
        assert_eq!(u32_at(&film, lists[2].1 + 4 + 8 + 32), 1_280);
    }

    #[test]
    fn the_index_points_at_the_chunks() {
        let film = film();
        let top = chunks(&film, 12, film.len());
        let (_, movie, movie_bytes) = top[1];
        let parts = chunks(&film, movie + 4, movie + movie_bytes);
        let (_, index, index_bytes) = top[2];
        assert_eq!(index_bytes, parts.len() * 16);
        for (i, (name, start, n_bytes)) in parts.iter().enumerate() {
            let entry = index + i * 16;
            assert_eq!(&film[entry..entry + 4], name.as_bytes());
            assert_eq!(movie + u32_at(&film, entry + 8), start - 8);
            assert_eq!(u32_at(&film, entry + 12), *n_bytes);
        }
    }
}
