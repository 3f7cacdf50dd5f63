//! From the wire to the domain: every field of a unary request is checked here, before anything is
//! loaded or computed for it.

use bytes::Bytes;
use lipsync::v1;
use lipsync_audio::SampleEncoding;
use lipsync_compositor::Encoding;
use lipsync_core::{ModelId, Priority};

use crate::{config::Output, error::ServeError, file, wire::headers::RequestHeaders};

/// A checked `InferBatchCompositeRequest`.
#[derive(Debug)]
pub struct BatchRequest {
    /// The model asked for; not yet known to be configured.
    pub model_id: ModelId,
    /// The speech.
    pub clip: Clip,
    /// Frames wanted; `None` = all that the clip covers.
    pub n_frames: Option<usize>,
    /// Place of the first frame on the avatar's timeline.
    pub start_frame_index: u64,
    /// What to send back.
    pub output: OutputSpec,
    /// How urgent it is.
    pub priority: Priority,
}

/// Speech as it came; lengths are checked, values not yet.
#[derive(Debug)]
pub enum Clip {
    /// f32 LE windows.
    Windows {
        /// `[n, C, H, W]`.
        data: Bytes,
    },
    /// f32 LE feature steps.
    Steps {
        /// `[S, D]`.
        data: Bytes,
        /// Which frames of it.
        cut: Cut,
    },
    /// Samples.
    Pcm {
        /// Interleaved.
        samples: Bytes,
        /// How they are stored.
        format: PcmFormat,
        /// Which frames of it.
        cut: Cut,
        /// What was odd about it.
        warning: Option<v1::Warning>,
    },
}

/// How samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcmFormat {
    /// Samples per second.
    pub rate_hz: u32,
    /// 1 or 2, interleaved.
    pub n_channels: u32,
    /// One sample.
    pub encoding: SampleEncoding,
}

impl PcmFormat {
    /// Bytes of one sample of every channel.
    #[must_use]
    pub fn item_bytes(self) -> usize {
        let n_channels = usize::try_from(self.n_channels).unwrap_or(usize::MAX);
        self.encoding.sample_bytes().saturating_mul(n_channels)
    }
}

/// Which part of the given audio is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// First frame, counted from the start of the given audio.
    pub first_frame: usize,
    /// Whether the utterance ends with the given audio.
    pub end_of_utterance: bool,
}

/// A checked `OutputOptions`, with the server's defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputSpec {
    /// Format and quality.
    pub encoding: Encoding,
    /// Only the face rectangle.
    pub region_only: bool,
    /// Whether JPEG and PNG say that they were made by a trained network.
    pub is_marked: bool,
}

/// Places on the timeline end here, so that no sum of a place and a count can overflow.
const MAX_START_FRAME: u64 = 1 << 62;

impl BatchRequest {
    /// Checks a request against the contract and the server's limits.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the field, the limit and what came.
    pub fn from_proto(
        proto: v1::InferBatchCompositeRequest,
        headers: &RequestHeaders,
        output: &Output,
        max_batch_frames: usize,
    ) -> Result<Self, ServeError> {
        let model_id = parse_model_id(&proto.model_id)?;
        headers.check_model_id(&model_id)?;
        let clip = parse_clip(proto.audio)?;
        let n_frames = usize::try_from(proto.frame_count).unwrap_or(usize::MAX);
        if n_frames > max_batch_frames {
            return Err(ServeError::invalid(
                "frame_count",
                format!("at most {max_batch_frames} (server.max_batch_frames), found {n_frames}"),
            ));
        }
        Ok(Self {
            model_id,
            clip,
            n_frames: (n_frames > 0).then_some(n_frames),
            start_frame_index: parse_start(proto.start_frame_index)?,
            output: OutputSpec::from_proto(proto.output, output)?,
            priority: parse_priority(proto.priority, headers)?,
        })
    }
}

/// A checked `GetBackgroundRequest`.
#[derive(Debug)]
pub struct BackgroundRequest {
    /// The model asked for; not yet known to be configured.
    pub model_id: ModelId,
    /// Which frames; not yet known to exist.
    pub indices: Vec<u32>,
    /// What to send back.
    pub output: OutputSpec,
}

impl BackgroundRequest {
    /// Checks a request against the contract and the server's limits.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the field, the limit and what came.
    pub fn from_proto(
        proto: v1::GetBackgroundRequest,
        output: &Output,
        max_frames: usize,
    ) -> Result<Self, ServeError> {
        let n_frames = proto.background_indices.len();
        if !(1..=max_frames).contains(&n_frames) {
            return Err(ServeError::invalid(
                "background_indices",
                format!("expected 1 to {max_frames} (server.max_batch_frames), found {n_frames}"),
            ));
        }
        Ok(Self {
            model_id: parse_model_id(&proto.model_id)?,
            indices: proto.background_indices,
            output: OutputSpec::from_proto(proto.output, output)?,
        })
    }
}

pub(crate) fn parse_model_id(id: &str) -> Result<ModelId, ServeError> {
    ModelId::new(id).map_err(|error| ServeError::invalid("model_id", error.to_string()))
}

pub(crate) fn parse_start(index: u64) -> Result<u64, ServeError> {
    if index > MAX_START_FRAME {
        return Err(ServeError::invalid(
            "start_frame_index",
            format!("at most {MAX_START_FRAME}, found {index}"),
        ));
    }
    Ok(index)
}

pub(crate) fn parse_priority(
    priority: i32,
    headers: &RequestHeaders,
) -> Result<Priority, ServeError> {
    match v1::Priority::try_from(priority) {
        Ok(v1::Priority::Unspecified) => Ok(headers.priority.unwrap_or_default()),
        Ok(v1::Priority::Low) => Ok(Priority::Low),
        Ok(v1::Priority::Normal) => Ok(Priority::Normal),
        Ok(v1::Priority::High) => Ok(Priority::High),
        Err(_) => Err(unknown_value("priority", priority)),
    }
}

pub(crate) fn unknown_value(field: &str, value: i32) -> ServeError {
    ServeError::invalid(field, format!("unknown value {value}"))
}

fn parse_clip(audio: Option<v1::infer_batch_composite_request::Audio>) -> Result<Clip, ServeError> {
    use v1::infer_batch_composite_request::Audio;
    match audio {
        None => Err(ServeError::invalid(
            "audio",
            "expected windows, steps or pcm, found none",
        )),
        Some(Audio::Windows(windows)) => {
            check_floats("windows.data", &windows.data)?;
            Ok(Clip::Windows { data: windows.data })
        }
        Some(Audio::Steps(steps)) => {
            check_floats("steps.data", &steps.data)?;
            let cut = Cut::new(steps.first_frame, steps.end_of_utterance);
            Ok(Clip::Steps {
                data: steps.data,
                cut,
            })
        }
        Some(Audio::Pcm(pcm)) => {
            let format = parse_pcm_format("pcm.", pcm.sample_rate_hz, pcm.channels, pcm.encoding)?;
            let (samples, warning) = file::unpacked("pcm.samples", pcm.samples, format)?;
            check_samples("pcm.samples", &samples, format)?;
            let cut = Cut::new(pcm.first_frame, pcm.end_of_utterance);
            Ok(Clip::Pcm {
                samples,
                format,
                cut,
                warning,
            })
        }
    }
}

impl Cut {
    fn new(first_frame: u32, end_of_utterance: Option<bool>) -> Self {
        Self {
            first_frame: usize::try_from(first_frame).unwrap_or(usize::MAX),
            end_of_utterance: end_of_utterance.unwrap_or(true),
        }
    }
}

/// Checks the fields that say how samples are stored; `prefix` leads to them in the message.
pub(crate) fn parse_pcm_format(
    prefix: &str,
    rate_hz: u32,
    channels: u32,
    encoding: i32,
) -> Result<PcmFormat, ServeError> {
    let encoding = match v1::PcmEncoding::try_from(encoding) {
        Ok(v1::PcmEncoding::Unspecified | v1::PcmEncoding::S16le) => SampleEncoding::S16Le,
        Ok(v1::PcmEncoding::F32le) => SampleEncoding::F32Le,
        Ok(v1::PcmEncoding::Mulaw) => SampleEncoding::Mulaw,
        Ok(v1::PcmEncoding::Alaw) => SampleEncoding::Alaw,
        Err(_) => return Err(unknown_value(&format!("{prefix}encoding"), encoding)),
    };
    if channels > 2 {
        return Err(ServeError::invalid(
            format!("{prefix}channels"),
            format!("expected 1 or 2, found {channels}"),
        ));
    }
    lipsync_audio::check_rate(rate_hz).map_err(|error| {
        ServeError::invalid(format!("{prefix}sample_rate_hz"), error.to_string())
    })?;
    Ok(PcmFormat {
        rate_hz,
        n_channels: channels.max(1),
        encoding,
    })
}

fn check_samples(field: &str, samples: &Bytes, format: PcmFormat) -> Result<(), ServeError> {
    let n_bytes = format.item_bytes();
    if samples.is_empty() {
        return Err(ServeError::invalid(field, "expected samples, found none"));
    }
    if samples.len().is_multiple_of(n_bytes) {
        return Ok(());
    }
    Err(ServeError::invalid(
        field,
        format!(
            "expected a multiple of {n_bytes} bytes (one sample of each channel), found {}",
            samples.len()
        ),
    ))
}

pub(crate) fn check_floats(field: &str, data: &Bytes) -> Result<(), ServeError> {
    if !data.is_empty() && data.len().is_multiple_of(size_of::<f32>()) {
        return Ok(());
    }
    Err(ServeError::invalid(
        field,
        format!(
            "expected f32 values (a multiple of 4 bytes, not empty), found {} bytes",
            data.len()
        ),
    ))
}

impl OutputSpec {
    /// Checks output options and fills in the defaults.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the field.
    pub fn from_proto(
        proto: Option<v1::OutputOptions>,
        defaults: &Output,
    ) -> Result<Self, ServeError> {
        let proto = proto.unwrap_or_default();
        let format = v1::OutputFormat::try_from(proto.format)
            .map_err(|_| unknown_value("output.format", proto.format))?;
        if proto.quality > 100 {
            return Err(ServeError::invalid(
                "output.quality",
                format!("expected 1 to 100 (0 = default), found {}", proto.quality),
            ));
        }
        let asked = u8::try_from(proto.quality).ok().filter(|&q| q > 0);
        let quality = asked.unwrap_or(defaults.jpeg_quality);
        let encoding = match format {
            v1::OutputFormat::Unspecified => match defaults.encoding {
                Encoding::Jpeg { .. } => Encoding::Jpeg { quality },
                other => other,
            },
            v1::OutputFormat::Jpeg => Encoding::Jpeg { quality },
            v1::OutputFormat::Png => Encoding::Png,
            v1::OutputFormat::Rgb => Encoding::Rgb,
            v1::OutputFormat::I420 => Encoding::I420,
        };
        Ok(Self {
            encoding,
            region_only: proto.region_only,
            is_marked: defaults.mark_generated,
        })
    }

    /// What a picture will take, roughly: exact for raw formats, a guess for coded ones.
    #[must_use]
    pub fn estimated_bytes(&self, width: usize, height: usize) -> u64 {
        let px = u64::try_from(width * height).unwrap_or(u64::MAX);
        match self.encoding {
            // Talking heads take 0.05 to 0.1 bytes a pixel at quality 85, several times that at 100. A
            // guess that is too low costs work, one that is too high refuses what would fit.
            Encoding::Jpeg { quality } if quality > 95 => px / 2,
            Encoding::Jpeg { .. } => px / 8,
            Encoding::Png => px / 2,
            Encoding::Rgb => px.saturating_mul(3),
            Encoding::I420 => px.saturating_mul(3).div_ceil(2),
        }
    }

    /// The format on the wire.
    #[must_use]
    pub fn wire_format(&self) -> v1::OutputFormat {
        match self.encoding {
            Encoding::Jpeg { .. } => v1::OutputFormat::Jpeg,
            Encoding::Png => v1::OutputFormat::Png,
            Encoding::Rgb => v1::OutputFormat::Rgb,
            Encoding::I420 => v1::OutputFormat::I420,
        }
    }
}

#[cfg(test)]
mod tests;
