//! From a request to an order in the server's own words.

use bytes::{Bytes, BytesMut};
use lipsync_audio::SampleEncoding;
use lipsync_compositor::Encoding;
use lipsync_core::{ModelId, Priority, saturate::u64_of};
use lipsync_registry::Model;
use lipsync_serving::{
    ServeError,
    order::{BatchOrder, Clip, Cut, OutputSpec, PcmFormat},
    visuals,
};

use crate::{
    config::Output,
    file,
    wire::request::{check_floats, check_rate, parse_model_id},
};

/// The rate of samples whose request names none, Hz.
const DEFAULT_RATE_HZ: u32 = 16_000;

/// More than the window of any network.
const MAX_WINDOW_BYTES: usize = 1 << 20;

/// What a request of any of these protocols asks for.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) model_id: String,
    /// f32 LE `[batch_size, 6, H, W]`, in as many pieces as the list came in; the server has its own.
    pub(super) visuals: Vec<Bytes>,
    pub(super) speech: Speech,
    pub(super) batch_size: i32,
    /// Of the first background frame.
    pub(super) start_frame_idx: i32,
    pub(super) picture: Picture,
}

/// Speech as it came.
#[derive(Debug)]
pub(super) enum Speech {
    /// One f32 LE window, in as many pieces as the list came in.
    Window(Vec<Bytes>),
    /// f32 LE samples, mono.
    Samples {
        samples: Bytes,
        /// 0 = [`DEFAULT_RATE_HZ`].
        rate_hz: i32,
    },
}

/// The format of a protocol's frames.
#[derive(Debug, Clone, Copy)]
pub(super) enum Picture {
    Jpeg,
    Png,
}

impl Speech {
    /// Of a message that has a field for each: samples beat a window.
    pub(super) fn of(raw_audio: Bytes, audio_features: Bytes, rate_hz: i32) -> Self {
        if raw_audio.is_empty() {
            return Self::Window(vec![audio_features]);
        }
        Self::Samples {
            samples: raw_audio,
            rate_hz,
        }
    }
}

impl Ask {
    /// # Errors
    /// [`ServeError::Invalid`].
    pub(super) fn model_id(&self) -> Result<ModelId, ServeError> {
        parse_model_id(&self.model_id)
    }

    /// # Errors
    /// [`ServeError::Invalid`] outside of 1 to `max_frames`.
    pub(super) fn n_frames(&self, max_frames: usize) -> Result<usize, ServeError> {
        let found = self.batch_size;
        let n_frames = usize::try_from(found).ok();
        n_frames
            .filter(|n| (1..=max_frames).contains(n))
            .ok_or_else(|| {
                let message =
                    format!("expected 1 to {max_frames} (server.max_batch_frames), found {found}");
                ServeError::invalid("batch_size", message)
            })
    }

    /// The order for `n_frames` frames of a model, at the usual level.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the field.
    pub(super) fn order(
        self,
        model: &Model,
        n_frames: usize,
        defaults: &Output,
        checks_visuals: bool,
    ) -> Result<BatchOrder, ServeError> {
        let start_frame_index = start(self.start_frame_idx, n_frames, model.n_frames())?;
        let visuals = visuals_of(self.visuals, model, n_frames, checks_visuals)?;
        let encoding = match self.picture {
            Picture::Png => Encoding::Png,
            Picture::Jpeg => Encoding::Jpeg {
                quality: defaults.jpeg_quality,
            },
        };
        Ok(BatchOrder {
            model_id: model.id().clone(),
            clip: clip(self.speech)?,
            n_frames: Some(n_frames),
            start_frame_index,
            output: OutputSpec {
                encoding,
                region_only: false,
                is_marked: defaults.mark_generated,
            },
            priority: Priority::Normal,
            allow_partial: false,
            visuals,
        })
    }
}

/// The place on the walk where these background frames are shown one after the other: the walk begins at frame 1 and
/// comes back to frame 0 at the end of its period.
fn start(first: i32, n_frames: usize, n_backgrounds: u32) -> Result<u64, ServeError> {
    let bad = |message: String| ServeError::invalid("start_frame_idx", message);
    let index =
        u64::try_from(first).map_err(|_| bad(format!("expected 0 or more, found {first}")))?;
    let end = index.saturating_add(u64_of(n_frames));
    if end > u64::from(n_backgrounds) {
        let last = end - 1;
        return Err(bad(format!(
            "the model has {n_backgrounds} background frames, the request ends with frame {last}"
        )));
    }
    let period = 2 * u64::from(n_backgrounds).saturating_sub(1);
    Ok((index + period).saturating_sub(1))
}

/// The pictures to compare, if they are compared. Their size is checked anyway, so that a client of another network
/// notices.
fn visuals_of(
    pieces: Vec<Bytes>,
    model: &Model,
    n_frames: usize,
    checks: bool,
) -> Result<Option<Bytes>, ServeError> {
    let bad = |message: String| ServeError::invalid("visual_frames", message);
    let found: usize = pieces.iter().map(Bytes::len).sum();
    let side = model.geometry().region_px;
    let expected = visuals::frame_bytes(side).saturating_mul(n_frames);
    let may_be_none = if checks { "" } else { ", or none" };
    if found != expected && (checks || found > 0) {
        return Err(bad(format!(
            "expected f32 [{n_frames}, 6, {side}, {side}], which is {expected} bytes{may_be_none}; found {found} bytes"
        )));
    }
    if !checks {
        return Ok(None);
    }
    let n_pieces = pieces.len();
    let whole = pieces.into_iter().next().filter(|_| n_pieces == 1);
    let whole = whole.ok_or_else(|| bad(format!("expected one packed list, found {n_pieces}")))?;
    Ok(Some(whole))
}

fn clip(speech: Speech) -> Result<Clip, ServeError> {
    match speech {
        Speech::Window(pieces) => {
            let n_bytes = pieces.iter().map(Bytes::len).sum::<usize>();
            if n_bytes > MAX_WINDOW_BYTES {
                // Joining them would keep this thread.
                let message =
                    format!("a window has at most {MAX_WINDOW_BYTES} bytes, found {n_bytes}");
                return Err(ServeError::invalid("audio_features", message));
            }
            let data = joined(pieces);
            if data.is_empty() {
                let message = "expected a window of features, or samples in raw_audio, found none";
                return Err(ServeError::invalid("audio_features", message));
            }
            check_floats("audio_features", &data)?;
            Ok(Clip::OneWindow { data })
        }
        Speech::Samples { samples, rate_hz } => {
            let rate_hz = match rate_hz {
                0 => DEFAULT_RATE_HZ,
                // A negative one is out of range, too.
                rate => u32::try_from(rate).unwrap_or(0),
            };
            check_rate("sample_rate", rate_hz)?;
            let format = PcmFormat {
                rate_hz,
                n_channels: 1,
                encoding: SampleEncoding::F32Le,
            };
            let (samples, warning) = file::unpacked("raw_audio", samples, format)?;
            check_floats("raw_audio", &samples)?;
            Ok(Clip::Pcm {
                samples,
                format,
                cut: Cut {
                    first_frame: 0,
                    end_of_utterance: true,
                    // At the end of a recording clients have fewer samples, and expect all frames anyway.
                    silence_follows: true,
                },
                warning,
            })
        }
    }
}

/// Almost always there is one piece, which stays where it is.
fn joined(pieces: Vec<Bytes>) -> Bytes {
    let mut pieces = pieces.into_iter();
    let first = pieces.next().unwrap_or_default();
    if pieces.len() == 0 {
        return first;
    }
    let mut whole = BytesMut::from(first);
    pieces.for_each(|piece| whole.extend_from_slice(&piece));
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use lipsync_core::background_index;

    use super::*;

    #[test]
    fn background_frames_are_shown_by_their_own_numbers() {
        for n_backgrounds in [1_u32, 2, 3, 7] {
            for first in 0..n_backgrounds {
                let n = usize::try_from(n_backgrounds - first).unwrap();
                let first_i32 = i32::try_from(first).unwrap();
                let start = start(first_i32, n, n_backgrounds).unwrap();
                let shown = (start..).map(|place| background_index(place, n_backgrounds));
                let shown: Vec<_> = shown.take(n).collect();
                assert_eq!(shown, Vec::from_iter(first..n_backgrounds));
            }
        }
        for (first, n, words) in [
            (-1, 1, "expected 0 or more, found -1"),
            (
                0,
                6,
                "has 5 background frames, the request ends with frame 5",
            ),
            (i32::MAX, 64, "has 5 background frames"),
        ] {
            let error = start(first, n, 5).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn lists_in_pieces_are_put_together() {
        let pieces = |pieces: &[&'static [u8]]| {
            let pieces = pieces.iter().map(|&piece| Bytes::from_static(piece));
            joined(pieces.collect())
        };
        assert_eq!(pieces(&[]), "");
        assert_eq!(pieces(&[b"abc"]), "abc");
        assert_eq!(pieces(&[b"a", b"", b"bc"]), "abc");
    }
}
