//! From answers to messages.

use std::sync::Arc;

use lipsync::v1;
use lipsync_compositor::{Encoding, Yuv};
use lipsync_core::{
    PixelRect,
    saturate::{micros, u32_of, u64_of},
};
use lipsync_serving::{
    CodedFrame, ServeError,
    answer_limit::AnswerLimit,
    batch::{BackgroundAnswer, BatchAnswer, BatchFrame, Batches, FailedFrame, Served, Timings},
    caller::Caller,
};
use lipsync_session::Warning;
use tonic::Response;

use super::status::to_status;

/// What may come around an answer: the message of a stream that carries it, and a stamp.
const ENVELOPE_BYTES: usize = 32;

/// The size of an answer, which must fit a message, in bytes.
///
/// # Errors
/// [`ServeError::AnswerTooLarge`].
pub(crate) fn checked_bytes(
    answer: &impl prost::Message,
    limit: AnswerLimit,
) -> Result<usize, ServeError> {
    let n_bytes = answer.encoded_len().saturating_add(ENVELOPE_BYTES);
    limit.check(u64_of(n_bytes))?;
    Ok(n_bytes)
}

/// The message of an answer, which keeps its room until it is written: [`crate::request_layer`] sees to that.
///
/// # Errors
/// [`ServeError::AnswerTooLarge`], [`ServeError::Overloaded`].
pub(crate) fn sized<A, M: prost::Message>(
    caller: &Caller,
    batches: &Batches,
    served: Served<A>,
    to_message: impl FnOnce(A) -> M,
) -> Result<Response<M>, ServeError> {
    let Served {
        answer,
        place: _place,
        room,
    } = served;
    let message = to_message(answer);
    let n_bytes = checked_bytes(&message, batches.answers)?;
    batches.admission.resize(caller, &room, n_bytes)?;
    let mut response = Response::new(message);
    response.extensions_mut().insert(Arc::new(room));
    Ok(response)
}

pub(crate) fn to_batch(answer: BatchAnswer) -> v1::InferBatchCompositeResponse {
    v1::InferBatchCompositeResponse {
        frames: answer.frames.into_iter().map(to_batch_frame).collect(),
        failures: answer.failed.into_iter().map(to_failure).collect(),
        timings: Some(to_timings(answer.timings)),
        warnings: answer.warnings.into_iter().map(to_warning).collect(),
    }
}

fn to_failure(failed: FailedFrame) -> v1::FrameFailure {
    let status = to_status(failed.error);
    v1::FrameFailure {
        index: u32_of(failed.index),
        code: i32::from(status.code()),
        message: status.message().to_owned(),
    }
}

fn to_batch_frame(frame: BatchFrame) -> v1::CompositedFrame {
    v1::CompositedFrame {
        pts_us: frame.pts_us,
        audio_time_us: Some(frame.audio_time_us),
        ..to_frame(frame.coded)
    }
}

/// A frame without its times.
pub(crate) fn to_frame(frame: CodedFrame) -> v1::CompositedFrame {
    v1::CompositedFrame {
        frame_index: frame.frame_index,
        background_index: frame.background_index,
        generated: frame.generated,
        format: format(frame.encoding).into(),
        width: u32_of(frame.width),
        height: u32_of(frame.height),
        region: Some(rect(frame.region)),
        data: frame.data,
        ..v1::CompositedFrame::default()
    }
}

fn to_timings(timings: Timings) -> v1::Timings {
    v1::Timings {
        queue_us: micros(timings.queue),
        infer_us: micros(timings.infer),
        composite_us: micros(timings.composite),
        total_us: micros(timings.total),
        model_load_us: micros(timings.model_load),
        batch_frames: u32_of(timings.batch_frames),
        workers: timings.workers.into_iter().map(u32_of).collect(),
        prepare_us: micros(timings.prepare),
    }
}

pub(crate) fn to_backgrounds(answer: BackgroundAnswer) -> v1::GetBackgroundResponse {
    v1::GetBackgroundResponse {
        frames: answer.frames.into_iter().map(to_background).collect(),
        n_background_frames: answer.n_background_frames,
    }
}

fn to_background(frame: CodedFrame) -> v1::BackgroundFrame {
    v1::BackgroundFrame {
        background_index: frame.background_index,
        format: format(frame.encoding).into(),
        width: u32_of(frame.width),
        height: u32_of(frame.height),
        region: Some(rect(frame.region)),
        data: frame.data,
    }
}

pub(crate) fn to_warning(warning: Warning) -> v1::Warning {
    v1::Warning {
        code: warning.code.into(),
        text: warning.text,
    }
}

fn format(encoding: Encoding) -> v1::OutputFormat {
    match encoding {
        Encoding::Jpeg { .. } => v1::OutputFormat::Jpeg,
        Encoding::Png => v1::OutputFormat::Png,
        Encoding::Rgb => v1::OutputFormat::Rgb,
        Encoding::I420(Yuv::Bt601Full) => v1::OutputFormat::I420,
        Encoding::I420(Yuv::Bt601Limited) => v1::OutputFormat::I420LimitedBt601,
        Encoding::I420(Yuv::Bt709Limited) => v1::OutputFormat::I420LimitedBt709,
    }
}

fn rect(rect: PixelRect) -> v1::Rect {
    v1::Rect {
        x: u32_of(rect.x),
        y: u32_of(rect.y),
        width: u32_of(rect.width),
        height: u32_of(rect.height),
    }
}
