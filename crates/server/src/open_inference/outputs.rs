//! The output tensors: what of an answer a client wants, and how it is laid out.

use bytes::{BufMut as _, Bytes, BytesMut};
use lipsync::inference::{
    InferParameter, ModelInferResponse, infer_parameter::ParameterChoice,
    model_infer_request::InferRequestedOutputTensor, model_infer_response::InferOutputTensor,
};
use lipsync_core::{
    Foreign,
    saturate::{i64_of, micros, u32_of},
};
use lipsync_serving::{
    ServeError,
    batch::{BatchAnswer, BatchFrame, Timings},
};

use super::{parameters::Parameters, version::Version};

/// An output tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Coded pictures, `[n]`.
    Frames,
    /// Their places on the avatar's timeline, `[n]`.
    FrameIndex,
    /// The background frames that they were made from, `[n]`.
    BackgroundIndex,
    /// When in the given speech, microseconds, `[n]`.
    AudioTimeUs,
    /// Where the picture lies in the whole frame: x, y, width and height, px, `[n, 4]`.
    Region,
}

impl Output {
    pub(super) const ALL: [Self; 5] = [
        Self::Frames,
        Self::FrameIndex,
        Self::BackgroundIndex,
        Self::AudioTimeUs,
        Self::Region,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Frames => "FRAMES",
            Self::FrameIndex => "FRAME_INDEX",
            Self::BackgroundIndex => "BACKGROUND_INDEX",
            Self::AudioTimeUs => "AUDIO_TIME_US",
            Self::Region => "REGION",
        }
    }

    pub(super) fn datatype(self) -> &'static str {
        match self {
            Self::Frames => "BYTES",
            Self::FrameIndex | Self::AudioTimeUs => "UINT64",
            Self::BackgroundIndex | Self::Region => "UINT32",
        }
    }

    /// Sizes behind the first, which is the number of frames.
    pub(super) fn inner_shape(self) -> &'static [i64] {
        match self {
            Self::Region => &[4],
            Self::Frames | Self::FrameIndex | Self::BackgroundIndex | Self::AudioTimeUs => &[],
        }
    }

    fn put(self, frame: &BatchFrame, into: &mut BytesMut) {
        match self {
            Self::Frames => {
                // The length of a picture fits: a message has less than 2 GiB.
                into.put_u32_le(u32_of(frame.coded.data.len()));
                into.put_slice(&frame.coded.data);
            }
            Self::FrameIndex => into.put_u64_le(frame.coded.frame_index),
            Self::BackgroundIndex => into.put_u32_le(frame.coded.background_index),
            Self::AudioTimeUs => into.put_u64_le(frame.audio_time_us),
            Self::Region => {
                let region = frame.coded.region;
                for n in [region.x, region.y, region.width, region.height] {
                    into.put_u32_le(u32_of(n));
                }
            }
        }
    }

    fn item_bytes(self, frame: &BatchFrame) -> usize {
        match self {
            Self::Frames => 4 + frame.coded.data.len(),
            Self::FrameIndex | Self::AudioTimeUs => 8,
            Self::BackgroundIndex => 4,
            Self::Region => 16,
        }
    }
}

/// The outputs that a client wants, in its order.
#[derive(Debug, Clone)]
pub(super) struct Wanted(Vec<Output>);

impl Wanted {
    /// All of them, where none are named.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming the output.
    pub(super) fn read(requested: &[InferRequestedOutputTensor]) -> Result<Self, ServeError> {
        if requested.is_empty() {
            return Ok(Self(Output::ALL.to_vec()));
        }
        let mut wanted = Vec::new();
        for output in requested {
            let mut parameters = Parameters::of("outputs.parameters", &output.parameters);
            // Clients of the HTTP form send it; here, contents always come as they are.
            parameters.flag("binary_data")?;
            parameters.finish()?;
            let known = Output::ALL.into_iter().find(|o| o.name() == output.name);
            let Some(known) = known.filter(|known| !wanted.contains(known)) else {
                let names = Output::ALL.map(Output::name).join(", ");
                let found = Foreign(&output.name);
                let message = format!("expected {names}, each once, found {found:?}");
                return Err(ServeError::invalid("outputs", message));
            };
            wanted.push(known);
        }
        Ok(Self(wanted))
    }
}

/// What a response says besides its frames.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub(super) model_name: &'a str,
    pub(super) version: Version,
    pub(super) id: &'a str,
    /// Whether it is the last one of its request; `None` where there is no other.
    pub(super) is_final: Option<bool>,
}

impl Envelope<'_> {
    /// A response with the frames of an answer.
    pub(super) fn response(&self, answer: BatchAnswer, wanted: &Wanted) -> ModelInferResponse {
        let frames = answer.frames;
        let n_frames = i64_of(frames.len());
        let tensor = |output: &Output| InferOutputTensor {
            name: output.name().into(),
            datatype: output.datatype().into(),
            shape: [&[n_frames], output.inner_shape()].concat(),
            ..InferOutputTensor::default()
        };
        let mut response = self.empty();
        response.outputs = wanted.0.iter().map(tensor).collect();
        response.raw_output_contents = wanted.0.iter().map(|o| contents(*o, &frames)).collect();
        let times = times(&answer.timings).map(|(name, us)| (name, number(us)));
        let warnings = answer.warnings.into_iter().map(|w| w.text);
        let warnings: Vec<String> = warnings.collect();
        let more = times
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        response.parameters.extend(more);
        if !warnings.is_empty() {
            let text = ParameterChoice::StringParam(warnings.join("; "));
            response
                .parameters
                .insert("warning".into(), parameter(text));
        }
        response
    }

    /// A response without frames.
    pub(super) fn empty(&self) -> ModelInferResponse {
        let mut response = ModelInferResponse {
            model_name: self.model_name.into(),
            model_version: self.version.as_str().into(),
            id: self.id.into(),
            ..ModelInferResponse::default()
        };
        if let Some(is_final) = self.is_final {
            let flag = parameter(ParameterChoice::BoolParam(is_final));
            response
                .parameters
                .insert("triton_final_response".into(), flag);
        }
        response
    }
}

fn contents(output: Output, frames: &[BatchFrame]) -> Bytes {
    let n_bytes = frames.iter().map(|frame| output.item_bytes(frame)).sum();
    let mut bytes = BytesMut::with_capacity(n_bytes);
    for frame in frames {
        output.put(frame, &mut bytes);
    }
    bytes.freeze()
}

fn times(timings: &Timings) -> [(&'static str, u64); 4] {
    [
        ("queue_us", micros(timings.queue)),
        ("infer_us", micros(timings.infer)),
        ("composite_us", micros(timings.composite)),
        ("total_us", micros(timings.total)),
    ]
}

fn number(n: u64) -> InferParameter {
    parameter(ParameterChoice::Uint64Param(n))
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}
