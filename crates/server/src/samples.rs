//! What stands before the inbox of a session of samples: chunks as clients cut them become whole samples.
//!
//! Where a chunk ends inside a sample, the beginning waits for the rest, within its segment: carried over any
//! further it would turn into noise all that follows. The first bytes of a segment are looked at, since files
//! are sent as if they were samples; and segments are counted that are too short to be one.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use lipsync::container::{LONG_LOOK_BYTES, Look, look, look_longer};
use lipsync_core::Fps;
use lipsync_serving::{ServeError, order::PcmFormat};
use lipsync_session::{Intake, Warning};

use crate::file;

/// The field that is wrong where audio is.
const FIELD: &str = "audio.pcm";
/// A WAV file in a stream says within so many bytes what it is.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// So many segments in a row that are shorter than a frame are no accident.
const SHORT_SEGMENTS: u32 = 3;

/// The intake of a session of samples.
#[derive(Debug)]
struct PcmIntake {
    format: PcmFormat,
    fps: Fps,
    segment: Listening,
    /// Segments in a row that were shorter than a frame.
    n_short: u32,
    /// Codes of what was said already: each is news once a session.
    said: Vec<&'static str>,
    warnings: Vec<Warning>,
}

/// The segment that audio comes for.
#[derive(Debug, Default)]
struct Listening {
    at: At,
    /// Bytes that are not passed on: a part of a sample, or what may be a file.
    held: Vec<u8>,
    /// The beginning of the segment, while it may yet turn out to be no samples.
    doubtful: Option<Vec<u8>>,
    n_bytes: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    WavHeader,
    Samples,
}

impl Intake<ServeError> for PcmIntake {
    /// Takes a chunk, cut anywhere.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] for files.
    fn push<'a>(&mut self, chunk: &'a [u8]) -> Result<Cow<'a, [u8]>, ServeError> {
        let format = self.format;
        let segment = &mut self.segment;
        let mut held = std::mem::take(&mut segment.held);
        let mut among = None;
        if segment.at == At::Samples {
            match look(chunk) {
                Look::Wav => {
                    // The next file of several. What is held of a sample is none.
                    held.clear();
                    segment.at = At::WavHeader;
                }
                // Among so many chunks as there are, samples look like that now and then.
                Look::Other(found) => among = Some(file::among(found)),
                Look::Undecided | Look::Unknown | Look::Text => {}
            }
        }
        let n_seen = if segment.at == At::Samples {
            held.len()
        } else {
            0
        };
        let mut bytes = if held.is_empty() {
            Cow::Borrowed(chunk)
        } else {
            held.extend_from_slice(chunk);
            Cow::Owned(held)
        };
        if segment.at == At::Start {
            segment.at = match look(&bytes) {
                Look::Other(found) => return Err(file::refused(FIELD, found)),
                Look::Wav => At::WavHeader,
                Look::Undecided => At::Start,
                Look::Unknown | Look::Text => At::Samples,
            };
            segment.doubtful = (segment.at == At::Samples).then(Vec::new);
        }
        if segment.at == At::WavHeader
            && let Some(data) = file::wav_data(FIELD, &bytes, format)?
        {
            segment.at = At::Samples;
            bytes = bytes[data.start..].to_vec().into();
            self.warn(file::stripped());
        }
        if self.segment.at != At::Samples {
            return self.hold(&bytes);
        }
        if let Some(warning) = among {
            self.warn(warning);
        }
        self.doubt(&bytes[n_seen..], format)?;
        let n_whole = bytes.len() - bytes.len() % format.item_bytes();
        self.segment.held = bytes[n_whole..].to_vec();
        self.segment.n_bytes += n_whole;
        Ok(match bytes {
            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..n_whole]),
            Cow::Owned(mut bytes) => {
                bytes.truncate(n_whole);
                Cow::Owned(bytes)
            }
        })
    }

    fn n_held(&self) -> usize {
        self.segment.held.len()
    }

    fn end(&mut self) -> Vec<u8> {
        let segment = std::mem::take(&mut self.segment);
        let format = self.format;
        let mut rest = segment.held;
        if segment.at == At::WavHeader {
            // A header and nothing else.
            rest.clear();
        }
        let n_lost = rest.len() % format.item_bytes();
        rest.truncate(rest.len() - n_lost);
        if n_lost > 0 {
            self.warn(Warning {
                code: "audio_truncated",
                text: format!(
                    "a segment ended inside a sample: {n_lost} of its {} bytes were dropped",
                    format.item_bytes()
                ),
            });
        }
        self.count((segment.n_bytes + rest.len()) / format.item_bytes(), format);
        rest
    }

    fn clear(&mut self) {
        self.segment = Listening::default();
    }

    fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }
}

/// The intake of a session whose samples have such a format, at so many frames per second.
pub(crate) fn intake(format: PcmFormat, fps: Fps) -> Box<dyn Intake<ServeError>> {
    Box::new(PcmIntake::new(format, fps))
}

impl PcmIntake {
    fn new(format: PcmFormat, fps: Fps) -> Self {
        Self {
            format,
            fps,
            segment: Listening::default(),
            n_short: 0,
            said: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Keeps what may be a file until more of it is there.
    fn hold<'a>(&mut self, bytes: &[u8]) -> Result<Cow<'a, [u8]>, ServeError> {
        if bytes.len() > MAX_HEADER_BYTES {
            return Err(ServeError::invalid(
                FIELD,
                format!(
                    "a WAV file came that has no samples in its first {MAX_HEADER_BYTES} bytes"
                ),
            ));
        }
        self.segment.held = bytes.to_vec();
        Ok(Cow::Borrowed(&[]))
    }

    /// Looks for what takes more than a few bytes to be known.
    fn doubt(&mut self, bytes: &[u8], format: PcmFormat) -> Result<(), ServeError> {
        let Some(mut head) = self.segment.doubtful.take() else {
            return Ok(());
        };
        let n = bytes.len().min(LONG_LOOK_BYTES.saturating_sub(head.len()));
        head.extend_from_slice(&bytes[..n]);
        match look_longer(&head) {
            Look::Other(found) => return Err(file::refused(FIELD, found)),
            Look::Text => {
                if let Some(warning) = file::text(format) {
                    self.warn(warning);
                }
            }
            Look::Undecided if head.len() < LONG_LOOK_BYTES => self.segment.doubtful = Some(head),
            Look::Undecided | Look::Unknown | Look::Wav => {}
        }
        Ok(())
    }

    /// Counts segments that are shorter than a frame.
    fn count(&mut self, n_samples: usize, format: PcmFormat) {
        let frames_by_rate = (n_samples as u64).saturating_mul(self.fps.into());
        if n_samples == 0 {
            return;
        }
        if frames_by_rate >= u64::from(format.rate_hz) {
            self.n_short = 0;
            return;
        }
        self.n_short += 1;
        if self.n_short == SHORT_SEGMENTS {
            self.warn(Warning {
                code: "short_segments",
                text: format!(
                    "{SHORT_SEGMENTS} segments in a row were shorter than a frame (1/{} s), and each is shown for \
                     a whole one: send the pieces of an utterance as one segment",
                    self.fps
                ),
            });
        }
    }

    fn warn(&mut self, warning: Warning) {
        if !self.said.contains(&warning.code) {
            self.said.push(warning.code);
            self.warnings.push(warning);
        }
    }
}
