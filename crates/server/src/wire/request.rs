//! From messages to orders: every field of a unary request is checked here, before anything is loaded or
//! computed for it.

use bytes::Bytes;
use lipsync::v1;
use lipsync_audio::SampleEncoding;
use lipsync_compositor::{Encoding, Yuv};
use lipsync_core::{ModelId, Priority, saturate::usize_of};
use lipsync_serving::{
    ServeError,
    order::{BackgroundOrder, BatchOrder, Clip, Cut, OutputSpec, PcmFormat},
};

use super::headers::RequestHeaders;
use crate::{config::Output, file};

/// Places on the timeline end here, so that no sum of a place and a count can overflow.
const MAX_START_FRAME: u64 = 1 << 62;

/// What an `InferBatchCompositeRequest` orders, by the contract and the server's limits.
///
/// # Errors
/// [`ServeError::Invalid`] naming the field, the limit and what came.
pub(crate) fn batch_order(
    proto: v1::InferBatchCompositeRequest,
    headers: &RequestHeaders,
    defaults: &Output,
    max_batch_frames: usize,
) -> Result<BatchOrder, ServeError> {
    let model_id = parse_model_id(&proto.model_id)?;
    headers.check_model_id(&model_id)?;
    let clip = parse_clip(proto.audio)?;
    let n_frames = usize_of(proto.frame_count);
    if n_frames > max_batch_frames {
        return Err(ServeError::invalid(
            "frame_count",
            format!("at most {max_batch_frames} (server.max_batch_frames), found {n_frames}"),
        ));
    }
    let output = parse_output(proto.output, &headers.output(&model_id, defaults))?;
    let priority = headers.level(&model_id, parse_priority(proto.priority)?)?;
    Ok(BatchOrder {
        model_id,
        clip,
        n_frames: (n_frames > 0).then_some(n_frames),
        start_frame_index: parse_start(proto.start_frame_index)?,
        output,
        priority,
        allow_partial: proto.allow_partial,
        visuals: None,
    })
}

/// What a `GetBackgroundRequest` orders, by the contract and the server's limits.
///
/// # Errors
/// [`ServeError::Invalid`] naming the field, the limit and what came.
pub(crate) fn background_order(
    proto: v1::GetBackgroundRequest,
    headers: &RequestHeaders,
    defaults: &Output,
    max_frames: usize,
) -> Result<BackgroundOrder, ServeError> {
    let n_frames = proto.background_indices.len();
    if !(1..=max_frames).contains(&n_frames) {
        return Err(ServeError::invalid(
            "background_indices",
            format!("expected 1 to {max_frames} (server.max_batch_frames), found {n_frames}"),
        ));
    }
    let model_id = parse_model_id(&proto.model_id)?;
    headers.check_model_id(&model_id)?;
    let output = parse_output(proto.output, &headers.output(&model_id, defaults))?;
    Ok(BackgroundOrder {
        model_id,
        indices: proto.background_indices,
        output,
    })
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

/// The level that a message asks for, if it does.
pub(crate) fn parse_priority(priority: i32) -> Result<Option<Priority>, ServeError> {
    match v1::Priority::try_from(priority) {
        Ok(v1::Priority::Unspecified) => Ok(None),
        Ok(v1::Priority::Low) => Ok(Some(Priority::Low)),
        Ok(v1::Priority::Normal) => Ok(Some(Priority::Normal)),
        Ok(v1::Priority::High) => Ok(Some(Priority::High)),
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
            let cut = parse_cut(steps.first_frame, steps.end_of_utterance);
            Ok(Clip::Steps {
                data: steps.data,
                cut,
            })
        }
        Some(Audio::Pcm(pcm)) => {
            let format = parse_pcm_format("pcm.", pcm.sample_rate_hz, pcm.channels, pcm.encoding)?;
            let (samples, warning) = file::unpacked("pcm.samples", pcm.samples, format)?;
            check_samples("pcm.samples", &samples, format)?;
            let cut = parse_cut(pcm.first_frame, pcm.end_of_utterance);
            Ok(Clip::Pcm {
                samples,
                format,
                cut,
                warning,
            })
        }
    }
}

fn parse_cut(first_frame: u32, end_of_utterance: Option<bool>) -> Cut {
    Cut {
        first_frame: usize_of(first_frame),
        end_of_utterance: end_of_utterance.unwrap_or(true),
        silence_follows: false,
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
    check_rate(&format!("{prefix}sample_rate_hz"), rate_hz)?;
    Ok(PcmFormat {
        rate_hz,
        n_channels: channels.max(1),
        encoding,
    })
}

/// Checks a sample rate, Hz.
pub(crate) fn check_rate(field: &str, rate_hz: u32) -> Result<(), ServeError> {
    let checked = lipsync_audio::check_rate(rate_hz);
    checked.map_err(|error| ServeError::invalid(field, error.to_string()))
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

/// Checks output options and fills in the defaults.
///
/// # Errors
/// [`ServeError::Invalid`] naming the field.
pub(crate) fn parse_output(
    proto: Option<v1::OutputOptions>,
    defaults: &Output,
) -> Result<OutputSpec, ServeError> {
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
        v1::OutputFormat::I420 => Encoding::I420(Yuv::Bt601Full),
        v1::OutputFormat::I420LimitedBt601 => Encoding::I420(Yuv::Bt601Limited),
        v1::OutputFormat::I420LimitedBt709 => Encoding::I420(Yuv::Bt709Limited),
    };
    Ok(OutputSpec {
        encoding,
        region_only: proto.region_only,
        is_marked: defaults.mark_generated,
    })
}

#[cfg(test)]
mod tests;
