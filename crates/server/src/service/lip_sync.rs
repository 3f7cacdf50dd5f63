//! `LipSync`: the reason why the server exists.

use std::{pin::Pin, sync::Arc, time::Duration};

use lipsync::v1::{self, lip_sync_server::LipSync};
use lipsync_serving::{ServeError, telemetry::Tally};
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt as _};
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

/// How long the headers of a session's answer wait for its first message. A refusal that comes before any header can be
/// tried elsewhere by a proxy; but a client may wait for headers before it opens the session.
const HEADERS_WAIT: Duration = Duration::from_millis(250);

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

/// Waits for the first message of a session's answer, though not for long. Returns all messages, or the refusal, which then
/// is the call's status.
async fn begun<T>(
    responses: impl Stream<Item = Result<T, Status>>,
) -> Result<impl Stream<Item = Result<T, Status>>, Status> {
    let mut responses = Box::pin(responses.fuse());
    let first = match timeout(HEADERS_WAIT, responses.next()).await {
        Ok(Some(Err(refusal))) => return Err(refusal),
        Ok(first) => first,
        Err(_) => None,
    };
    Ok(tokio_stream::iter(first).chain(responses))
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
        let responses = begun(responses).await?;
        Ok(Response::new(Box::pin(responses)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_comes_before_the_headers() {
        let refused = begun(tokio_stream::iter([Err::<u8, _>(
            Status::resource_exhausted("full"),
        )]))
        .await;
        assert_eq!(
            refused.err().map(|status| status.code()),
            Some(tonic::Code::ResourceExhausted)
        );
    }

    #[tokio::test]
    async fn nothing_is_lost_of_a_session_that_begins() {
        let told = [Ok(1), Ok(2), Err(Status::aborted("later"))];
        let all = begun(tokio_stream::iter(told)).await.expect("it began");
        let all: Vec<_> = all
            .map(|one| one.map_err(|status| status.code()))
            .collect()
            .await;
        assert_eq!(all, [Ok(1), Ok(2), Err(tonic::Code::Aborted)]);
        let none: Vec<Result<u8, Status>> = begun(tokio_stream::empty())
            .await
            .expect("it ended")
            .collect()
            .await;
        assert!(none.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn headers_do_not_wait_for_a_client_that_waits_for_them() {
        let (tell, told) = tokio::sync::mpsc::channel(1);
        let begin = begun(tokio_stream::wrappers::ReceiverStream::new(told)).await;
        let mut responses = Box::pin(begin.expect("no refusal"));
        tell.send(Ok(1)).await.expect("somebody listens");
        assert_eq!(responses.next().await.and_then(Result::ok), Some(1));
    }
}
