//! Frames for a request of any of these protocols, and errors as they tell them.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use lipsync_engine::Device;
use lipsync_serving::{
    ServeError,
    batch::{BatchAnswer, Timings},
    order::BatchOrder,
    phase::Phase,
};
use tonic::{Request, Response, Status};

use super::order::Ask;
use crate::{
    core_state::Shared,
    request_layer::{Arrival, InBand},
    service::ModelAdminService,
    wire::{answer::sized, headers::write_figures, status::to_status},
};

/// What the three services share.
#[derive(Clone)]
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    /// What these protocols say of models, and do with them, the server's own says and does.
    pub(super) admin: ModelAdminService,
}

/// The frames of a request, and how they were made.
pub(super) struct Made {
    pub(super) frames: Vec<Bytes>,
    pub(super) timings: Timings,
    /// Zero if the model was in memory.
    pub(super) load_time: Duration,
    pub(super) gpu_id: i32,
}

impl Core {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            admin: ModelAdminService::new(&shared),
            shared,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        *self.shared.phase.borrow() == Phase::Serving
    }

    /// Makes the frames that are asked for; `refused` makes the message of an error.
    pub(super) async fn composite<T, M: prost::Message>(
        &self,
        request: Request<T>,
        ask: impl FnOnce(T) -> Ask,
        render: impl FnOnce(Made) -> M,
        refused: impl FnOnce(String) -> M,
    ) -> Result<Response<M>, Status> {
        let arrival = Arrival::of(request.extensions());
        let answer = self.made(&arrival, ask(request.into_inner()), render).await;
        let answer = answer.map_err(|error| {
            arrival.headers.caller.tally.fail(&error);
            to_status(error)
        });
        Ok(in_band(answer, refused))
    }

    async fn made<M: prost::Message>(
        &self,
        arrival: &Arrival,
        ask: Ask,
        render: impl FnOnce(Made) -> M,
    ) -> Result<Response<M>, ServeError> {
        let headers = arrival.headers.checked()?;
        let model_id = ask.model_id()?;
        headers.check_model_id(&model_id)?;
        let hot = self.shared.hot();
        let batches = self.shared.batches(&hot);
        let n_frames = ask.n_frames(batches.max_frames)?;
        let upload = arrival.upload.as_deref();
        let used = batches.model(&headers.caller, &model_id, upload).await?;
        let model = &used.lease.model;
        let (load_time, gpu_id) = (used.lease.load_time, gpu_id(model.generator().device()));
        let output = headers.output(&model_id, &hot.output);
        let legacy = self.shared.limits.legacy;
        let order = ask.order(model, n_frames, &output, legacy.check_visual_frames)?;
        let order = BatchOrder {
            priority: headers.level(&model_id, None)?,
            ..order
        };
        let served = batches.serve_with(&headers.caller, used, order).await?;
        let timings = served.answer.timings.clone();
        let to_message = |answer: BatchAnswer| {
            let frames = answer.frames.into_iter().map(|frame| frame.coded.data);
            render(Made {
                frames: frames.collect(),
                timings: answer.timings,
                load_time,
                gpu_id,
            })
        };
        let mut response = sized(&headers.caller, &batches, served, to_message)?;
        write_figures(&timings, &self.shared.load(), response.metadata_mut());
        Ok(response)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

/// The answer, or a message that says why there is none. The server counts such a call by the code that it would have
/// had as a status.
pub(super) fn in_band<M>(
    answer: Result<Response<M>, Status>,
    refused: impl FnOnce(String) -> M,
) -> Response<M> {
    answer.unwrap_or_else(|status| {
        let mut response = Response::new(refused(status.message().to_owned()));
        let extensions = response.extensions_mut();
        extensions.insert(InBand(status.code()));
        response
    })
}

/// What those servers said of a model that was to be unloaded.
pub(super) fn not_loaded(was_loaded: bool) -> String {
    if was_loaded {
        String::new()
    } else {
        "the model is not loaded".to_owned()
    }
}

/// The number that those servers gave a device; the CPU had none.
fn gpu_id(device: Device) -> i32 {
    match device {
        Device::Cpu => 0,
        Device::Cuda(ordinal) => i32::try_from(ordinal).unwrap_or(i32::MAX),
    }
}
