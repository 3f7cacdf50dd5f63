//! From a request to an order in the server's own words.

use std::time::{Duration, Instant};

use lipsync::{inference::ModelInferRequest, v1};
use lipsync_core::{
    Foreign, ModelId, Priority, frames_in,
    saturate::{u32_of, usize_of},
};
use lipsync_registry::Model;
use lipsync_serving::{
    ServeError,
    caller::Caller,
    order::{BatchOrder, Clip, Cut, OutputSpec, PcmFormat},
};

use super::{
    outputs::Wanted,
    parameters::Parameters,
    tensor::{Kind, Speech},
    version::Version,
};
use crate::{
    config::Output,
    file,
    wire::{
        headers::RequestHeaders,
        request::{check_rate, parse_output, parse_start},
    },
};

/// A request, read.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) order: BatchOrder,
    pub(super) version: Version,
    /// Comes back with each response.
    pub(super) id: String,
    pub(super) outputs: Wanted,
    /// Longest time in the queue, if the request has one of its own.
    pub(super) max_wait: Option<Duration>,
    /// Whether a response without frames says that a request of a stream is done.
    pub(super) wants_empty_final: bool,
    /// Frames that its speech covers, where that is known beforehand.
    pub(super) n_covered: Option<usize>,
}

/// The rate that [`SAMPLE_RATE`] stands for when it is not given: what the audio front-ends work at.
const DEFAULT_RATE_HZ: u64 = 16_000;
const SAMPLE_RATE: &str = "sample_rate_hz";
/// The longest id of a request, bytes.
const MAX_ID_BYTES: usize = 1024;
/// Frames that a request may ask for: those of a day.
const MAX_FRAMES: u64 = 24 * 3600 * 120;

impl Call {
    /// Reads a request for a model.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the tensor or parameter.
    pub(super) fn read(
        mut request: ModelInferRequest,
        model: &Model,
        headers: &RequestHeaders,
        defaults: &Output,
    ) -> Result<Self, ServeError> {
        let version = Version::parse(&request.model_version)?;
        check_id(&request.id)?;
        let outputs = Wanted::read(&request.outputs)?;
        let given = std::mem::take(&mut request.parameters);
        let mut parameters = Parameters::of("parameters", &given);
        let cut = read_cut(&mut parameters)?;
        let rate_hz = parameters.number(SAMPLE_RATE, 1..=u64::from(u32::MAX))?;
        let n_wanted = parameters.number("frame_count", 0..=MAX_FRAMES)?;
        let start = parameters.number("start_frame_index", 0..=u64::MAX)?;
        let output = read_output(&mut parameters, &headers.output(model.id(), defaults))?;
        let priority = headers.level(model.id(), read_priority(&mut parameters)?)?;
        let max_wait_us = parameters.number("timeout", 0..=u64::MAX)?;
        let wants_empty_final = parameters.flag("triton_enable_empty_final_response")?;
        // Of the HTTP form: here, contents always come as they are.
        parameters.flag("binary_data_output")?;
        parameters.finish()?;
        let speech = Speech::take(&mut request, model)?;
        let n_wanted = n_wanted.filter(|&n| n > 0).map(usize_of);
        let clip = clip(speech, rate_hz, cut)?;
        let n_covered = n_covered(&clip, model);
        Ok(Self {
            order: BatchOrder {
                model_id: model.id().clone(),
                clip,
                n_frames: n_wanted,
                start_frame_index: parse_start(start.unwrap_or(0))?,
                output,
                priority,
                allow_partial: false,
                visuals: None,
            },
            version,
            id: request.id,
            outputs,
            // As Triton reads it: microseconds, 0 = none of its own.
            max_wait: max_wait_us.filter(|&us| us > 0).map(Duration::from_micros),
            wants_empty_final: wants_empty_final.unwrap_or(false),
            n_covered,
        })
    }

    /// The caller, as far as this request is concerned.
    pub(super) fn caller(&self, caller: &Caller, deadline: Option<Instant>) -> Caller {
        let waits = [caller.max_wait, self.max_wait];
        Caller {
            deadline,
            max_wait: waits.into_iter().flatten().min(),
            ..caller.clone()
        }
    }
}

/// The model that a request names.
///
/// # Errors
/// [`ServeError::Invalid`].
pub(super) fn model_name(name: &str) -> Result<ModelId, ServeError> {
    ModelId::new(name).map_err(|error| ServeError::invalid("model_name", error.to_string()))
}

fn read_cut(parameters: &mut Parameters<'_>) -> Result<Cut, ServeError> {
    let first_frame = parameters.number("first_frame", 0..=MAX_FRAMES)?;
    let end_of_utterance = parameters.flag("end_of_utterance")?;
    Ok(Cut {
        first_frame: first_frame.map_or(0, usize_of),
        end_of_utterance: end_of_utterance.unwrap_or(true),
        silence_follows: false,
    })
}

fn read_output(
    parameters: &mut Parameters<'_>,
    defaults: &Output,
) -> Result<OutputSpec, ServeError> {
    let formats = [
        ("jpeg", v1::OutputFormat::Jpeg),
        ("png", v1::OutputFormat::Png),
        ("rgb", v1::OutputFormat::Rgb),
        ("i420", v1::OutputFormat::I420),
        ("i420_limited_bt601", v1::OutputFormat::I420LimitedBt601),
        ("i420_limited_bt709", v1::OutputFormat::I420LimitedBt709),
    ];
    let format = parameters.word("format", &formats)?;
    let quality = parameters.number("quality", 1..=100)?;
    let region_only = parameters.flag("region_only")?;
    let options = v1::OutputOptions {
        format: format.unwrap_or_default().into(),
        quality: quality.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        region_only: region_only.unwrap_or(false),
    };
    parse_output(Some(options), defaults)
}

/// Triton's levels: 1 is the most urgent, 0 stands for the default.
fn read_priority(parameters: &mut Parameters<'_>) -> Result<Option<Priority>, ServeError> {
    Ok(match parameters.number("priority", 0..=3)? {
        Some(1) => Some(Priority::High),
        Some(2) => Some(Priority::Normal),
        Some(3) => Some(Priority::Low),
        _ => None,
    })
}

fn clip(speech: Speech, rate_hz: Option<u64>, cut: Cut) -> Result<Clip, ServeError> {
    let Speech { kind, data } = speech;
    Ok(match kind {
        Kind::Windows => Clip::Windows { data },
        Kind::Steps => Clip::Steps { data, cut },
        Kind::Pcm {
            encoding,
            n_channels,
        } => {
            let rate_hz = u32_of(rate_hz.unwrap_or(DEFAULT_RATE_HZ));
            check_rate(&format!("parameters.{SAMPLE_RATE}"), rate_hz)?;
            let format = PcmFormat {
                rate_hz,
                n_channels,
                encoding,
            };
            let (samples, warning) = file::unpacked("inputs", data, format)?;
            Clip::Pcm {
                samples,
                format,
                cut,
                warning,
            }
        }
    })
}

/// The frames that speech gives to its end; `None` where that shows only when they are made.
fn n_covered(clip: &Clip, model: &Model) -> Option<usize> {
    let (n_all, cut) = match clip {
        Clip::Windows { data } => {
            let window_bytes = 4 * model.audio_shape().iter().product::<usize>();
            return Some(data.len() / window_bytes.max(1));
        }
        // No request here becomes one.
        Clip::OneWindow { .. } => return None,
        Clip::Steps { data, cut } => {
            let n_all = lipsync_serving::clip::frames_of_steps(model, data.len());
            (n_all, cut)
        }
        Clip::Pcm {
            samples,
            format,
            cut,
            ..
        } => {
            let n_samples = (samples.len() / format.item_bytes()) as u64;
            (frames_in(n_samples, format.rate_hz, model.fps().get()), cut)
        }
    };
    let n_left = usize_of(n_all).saturating_sub(cut.first_frame);
    cut.end_of_utterance.then_some(n_left)
}

/// Ids come back with every response, so that a long one would be as long an answer that nobody has room for.
fn check_id(id: &str) -> Result<(), ServeError> {
    if id.len() <= MAX_ID_BYTES {
        return Ok(());
    }
    let n = id.len();
    let message = format!("expected at most {MAX_ID_BYTES} bytes, found {n}");
    Err(ServeError::invalid("id", message))
}

/// An id as it comes back with an error: one that is too long is cut.
pub(super) fn told_id(id: &str) -> String {
    if id.len() <= MAX_ID_BYTES {
        return id.to_owned();
    }
    Foreign(id).to_string()
}
