//! The input tensor of a request: speech as samples, feature steps or windows.

use bytes::Bytes;
use lipsync::inference::{
    InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor,
};
use lipsync_audio::SampleEncoding;
use lipsync_core::{
    Foreign,
    family::WindowSource,
    saturate::{u64_of, usize_of},
};
use lipsync_registry::Model;
use lipsync_serving::ServeError;

use super::parameters::Parameters;

/// What a request may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Samples: `INT16` or `FP32`, `[n]` or `[n, channels]`.
    Pcm {
        encoding: SampleEncoding,
        n_channels: u32,
    },
    /// Feature steps: `FP32`, `[S, D]`.
    Steps,
    /// Windows: `FP32`, `[n, C, H, W]`.
    Windows,
}

/// Speech, whose length is what its shape says.
#[derive(Debug)]
pub(super) struct Speech {
    pub(super) kind: Kind,
    pub(super) data: Bytes,
}

/// The names of the inputs.
pub(super) const PCM: &str = "PCM";
pub(super) const STEPS: &str = "STEPS";
pub(super) const WINDOWS: &str = "WINDOWS";

impl Speech {
    /// The one tensor of a request, checked against a model.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the input and what is wrong with it.
    pub(super) fn take(request: &mut ModelInferRequest, model: &Model) -> Result<Self, ServeError> {
        let mut inputs = std::mem::take(&mut request.inputs);
        let raw = std::mem::take(&mut request.raw_input_contents);
        let input = match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => input,
            (found, _) => {
                let n = inputs.len() + usize::from(found.is_some());
                let message =
                    format!("expected one of {PCM}, {STEPS} and {WINDOWS}, found {n} tensors");
                return Err(ServeError::invalid("inputs", message));
            }
        };
        let mut parameters = Parameters::of("inputs.parameters", &input.parameters);
        // Of the HTTP form, where contents follow the JSON; KServe's client sends it here, too.
        parameters.number("binary_data_size", 0..=u64::MAX)?;
        parameters.finish()?;
        let kind = kind(&input, model)?;
        let data = contents(input, raw)?;
        Ok(Self { kind, data })
    }
}

fn fault(input: &InferInputTensor, message: impl std::fmt::Display) -> ServeError {
    let name = Foreign(&input.name);
    ServeError::invalid("inputs", format!("{name}: {message}"))
}

fn kind(input: &InferInputTensor, model: &Model) -> Result<Kind, ServeError> {
    let unknown = || {
        let message = format!("unknown: expected {PCM}, {STEPS} or {WINDOWS}");
        Err(fault(input, message))
    };
    let (kind, expected, is_right) = match input.name.as_str() {
        PCM => {
            let encoding = encoding(input)?;
            let n_channels = match *input.shape.as_slice() {
                [_n] => Some(1),
                [1, n] if n > 2 => Some(1),
                [_n, channels @ 1..=2] => u32::try_from(channels).ok(),
                _ => None,
            };
            let is_right = n_channels.is_some();
            let n_channels = n_channels.unwrap_or(1);
            let kind = Kind::Pcm {
                encoding,
                n_channels,
            };
            (kind, "[n] or [n, 2]".to_owned(), is_right)
        }
        STEPS => {
            let WindowSource::Steps(form) = model.audio_form().source else {
                let taken = if model.hears_sound() {
                    "this model takes PCM or WINDOWS"
                } else {
                    "this model takes WINDOWS only"
                };
                return Err(fault(input, taken));
            };
            let is_right = matches!(*input.shape.as_slice(), [_, d] | [1, _, d] if usize::try_from(d) == Ok(form.n_floats));
            (Kind::Steps, format!("[S, {}]", form.n_floats), is_right)
        }
        WINDOWS => {
            let sizes = model.audio_shape().map(|n| i64::try_from(n).unwrap_or(-1));
            let is_right = input.shape.len() == 4 && input.shape[1..] == sizes;
            let [c, h, w] = sizes;
            (Kind::Windows, format!("[n, {c}, {h}, {w}]"), is_right)
        }
        _ => return unknown(),
    };
    if !matches!(kind, Kind::Pcm { .. }) && input.datatype != "FP32" {
        let found = Foreign(&input.datatype);
        return Err(fault(
            input,
            format!("expected datatype FP32, found {found:?}"),
        ));
    }
    if is_right {
        return Ok(kind);
    }
    // As many as a mistake can reasonably have.
    let found: Vec<String> = input.shape.iter().take(8).map(i64::to_string).collect();
    let found = found.join(", ");
    Err(fault(
        input,
        format!("expected shape {expected}, found [{found}]"),
    ))
}

fn encoding(input: &InferInputTensor) -> Result<SampleEncoding, ServeError> {
    match input.datatype.as_str() {
        "INT16" => Ok(SampleEncoding::S16Le),
        "FP32" => Ok(SampleEncoding::F32Le),
        other => {
            let found = Foreign(other);
            Err(fault(
                input,
                format!("expected datatype INT16 or FP32, found {found:?}"),
            ))
        }
    }
}

/// The elements, as bytes in row-major order, little endian.
fn contents(input: InferInputTensor, raw: Vec<Bytes>) -> Result<Bytes, ServeError> {
    let n_elements = input.shape.iter().try_fold(1_u64, |n, &size| {
        let size = u64::try_from(size).ok()?;
        n.checked_mul(size)
    });
    let Some(n_elements) = n_elements else {
        return Err(fault(
            &input,
            "sizes are not negative, and their product fits 64 bits",
        ));
    };
    let item_bytes = if input.datatype == "INT16" { 2 } else { 4 };
    let expected = n_elements.saturating_mul(item_bytes);
    let listed = input.contents.as_ref();
    let data = match (raw.as_slice(), listed) {
        ([data], None) => data.clone(),
        ([], Some(contents)) => to_bytes(contents, &input.datatype),
        ([], None) => Bytes::new(),
        ([_], Some(_)) => {
            return Err(fault(
                &input,
                "expected contents or raw_input_contents, found both",
            ));
        }
        (several, _) => {
            let n = several.len();
            let message = format!("expected 1, for the one input, found {n}");
            return Err(ServeError::invalid("raw_input_contents", message));
        }
    };
    if usize_of(expected) == data.len() && !data.is_empty() {
        return Ok(data);
    }
    let found = u64_of(data.len());
    Err(fault(
        &input,
        format!(
            "its shape and datatype make {expected} bytes (at least one element), found {found}"
        ),
    ))
}

/// Of lists of numbers, the one that the datatype asks for. What is in others counts as nothing.
fn to_bytes(contents: &InferTensorContents, datatype: &str) -> Bytes {
    if datatype == "INT16" {
        // A number that is no INT16 makes the length wrong.
        let items = contents.int_contents.iter().map(|&n| i16::try_from(n).ok());
        let items: Option<Vec<i16>> = items.collect();
        items
            .unwrap_or_default()
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect()
    } else {
        let items = contents.fp32_contents.iter();
        items.flat_map(|n| n.to_le_bytes()).collect()
    }
}
