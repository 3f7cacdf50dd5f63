//! `LipSync`: the reason why the server exists.

use std::{pin::Pin, sync::Arc};

use lipsync::v1::{self, lip_sync_server::LipSync};
use lipsync_serving::{ServeError, telemetry::Tally};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    core_state::Shared,
    request_layer::Arrival,
    wire::{
        self,
        answer::{sized, to_backgrounds, to_batch},
        headers::write_figures,
        load_report::{LoadReport, Told},
        request::{background_order, batch_order},
        status::to_status,
    },
};

/// The service.
#[derive(Debug, Clone)]
pub struct LipSyncService {
    shared: Arc<Shared>,
}

impl LipSyncService {
    /// A service over the shared parts.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn batch(
        &self,
        request: Request<v1::InferBatchCompositeRequest>,
    ) -> Result<Response<v1::InferBatchCompositeResponse>, ServeError> {
        let arrival = Arrival::of(request.extensions());
        let headers = arrival.headers.checked()?;
        let hot = self.shared.hot();
        let batches = self.shared.batches(&hot);
        let order = batch_order(
            request.into_inner(),
            headers,
            &hot.output,
            batches.max_frames,
        )?;
        let upload = arrival.upload.as_deref();
        let served = batches.serve(&headers.caller, upload, order).await?;
        let timings = served.answer.timings.clone();
        let mut response = sized(&headers.caller, &batches, served, to_batch)?;
        let load = self.shared.load();
        write_figures(&timings, &load, response.metadata_mut());
        if headers.wants_load_report || hot.requests.load_reports {
            let max_sessions = hot.session.max_sessions;
            let told = Told {
                load,
                queue_wait: timings.queue,
                free_sessions: max_sessions.saturating_sub(self.shared.admission.n_sessions()),
            };
            let report = LoadReport::new(&told, &self.shared.answer_rate);
            response.extensions_mut().insert(report);
        }
        Ok(response)
    }

    async fn backgrounds(
        &self,
        request: Request<v1::GetBackgroundRequest>,
    ) -> Result<Response<v1::GetBackgroundResponse>, ServeError> {
        let arrival = Arrival::of(request.extensions());
        let headers = arrival.headers.checked()?;
        let hot = self.shared.hot();
        let batches = self.shared.batches(&hot);
        let order = background_order(
            request.into_inner(),
            headers,
            &hot.output,
            batches.max_frames,
        )?;
        let (caller, upload) = (&headers.caller, arrival.upload.as_deref());
        let served = batches.serve_backgrounds(caller, upload, order).await?;
        sized(caller, &batches, served, to_backgrounds)
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
