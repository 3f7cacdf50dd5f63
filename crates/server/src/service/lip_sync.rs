//! `LipSync`: the reason why the server exists.

use std::{pin::Pin, sync::Arc};

use lipsync::v1::{self, lip_sync_server::LipSync};
use lipsync_serving::{
    ServeError,
    batch::{Batches, Served},
    telemetry::Tally,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    core_state::Shared,
    request_layer::Arrival,
    wire::{
        self,
        answer::{checked_bytes, to_backgrounds, to_batch},
        headers::write_figures,
        request::{background_order, batch_order},
        status::to_status,
    },
};

/// The service.
#[derive(Debug, Clone)]
pub struct LipSyncService {
    batches: Batches,
    shared: Arc<Shared>,
}

impl LipSyncService {
    /// A service over the shared parts.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            batches: shared.batches(),
            shared,
        }
    }

    async fn batch(
        &self,
        request: Request<v1::InferBatchCompositeRequest>,
    ) -> Result<Response<v1::InferBatchCompositeResponse>, ServeError> {
        let arrival = Arrival::of(request.extensions());
        let headers = arrival.headers.checked()?;
        let (defaults, max_frames) = (&self.shared.output, self.batches.max_frames);
        let order = batch_order(request.into_inner(), headers, defaults, max_frames)?;
        let upload = arrival.upload.as_deref();
        let served = self.batches.serve(&headers.caller, upload, order).await?;
        let timings = served.answer.timings.clone();
        let mut response = self.response(served, to_batch)?;
        write_figures(&timings, response.metadata_mut());
        Ok(response)
    }

    async fn backgrounds(
        &self,
        request: Request<v1::GetBackgroundRequest>,
    ) -> Result<Response<v1::GetBackgroundResponse>, ServeError> {
        let arrival = Arrival::of(request.extensions());
        let headers = arrival.headers.checked()?;
        let (defaults, max_frames) = (&self.shared.output, self.batches.max_frames);
        let order = background_order(request.into_inner(), defaults, max_frames)?;
        headers.check_model_id(&order.model_id)?;
        let (caller, upload) = (&headers.caller, arrival.upload.as_deref());
        let served = self
            .batches
            .serve_backgrounds(caller, upload, order)
            .await?;
        self.response(served, to_backgrounds)
    }

    /// The message of an answer, which keeps its room until it is written: [`crate::request_layer`] sees to that.
    fn response<A, M: prost::Message>(
        &self,
        served: Served<A>,
        to_message: fn(A) -> M,
    ) -> Result<Response<M>, ServeError> {
        let Served {
            answer,
            place: _place,
            room,
        } = served;
        let message = to_message(answer);
        let n_bytes = checked_bytes(&message, self.batches.answers)?;
        self.batches.admission.resize(&room, n_bytes)?;
        let mut response = Response::new(message);
        response.extensions_mut().insert(Arc::new(room));
        Ok(response)
    }
}

/// What a call comes to.
fn tally<T>(request: &Request<T>) -> Arc<Tally> {
    Arc::clone(&Arrival::of(request.extensions()).headers.caller.tally)
}

/// The status of a call that ends with an error, which its tally notes.
fn told(tally: &Tally, error: ServeError) -> Status {
    tally.fail(&error);
    to_status(error)
}

#[tonic::async_trait]
impl LipSync for LipSyncService {
    async fn infer_batch_composite(
        &self,
        request: Request<v1::InferBatchCompositeRequest>,
    ) -> Result<Response<v1::InferBatchCompositeResponse>, Status> {
        let tally = tally(&request);
        self.batch(request)
            .await
            .map_err(|error| told(&tally, error))
    }

    async fn get_background(
        &self,
        request: Request<v1::GetBackgroundRequest>,
    ) -> Result<Response<v1::GetBackgroundResponse>, Status> {
        let tally = tally(&request);
        let answer = self.backgrounds(request).await;
        answer.map_err(|error| told(&tally, error))
    }

    type StreamCompositeStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamCompositeResponse, Status>> + Send>>;

    async fn stream_composite(
        &self,
        request: Request<Streaming<v1::StreamCompositeRequest>>,
    ) -> Result<Response<Self::StreamCompositeStream>, Status> {
        let arrival = Arrival::of(request.extensions());
        let headers = &arrival.headers;
        let checked = headers.checked();
        checked.map_err(|error| told(&headers.caller.tally, error))?;
        let responses = wire::session::serve(&self.shared, arrival, request.into_inner());
        Ok(Response::new(Box::pin(responses)))
    }
}
