//! `LipSync`: the reason why the server exists.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync::v1::{self, lip_sync_server::LipSync};
use lipsync_registry::{Lease, Model};
use lipsync_worker_pool::JobTimings;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::model_admin::micros;
use crate::{
    clip::{ClipWindows, windows_of_clip},
    core_state::Shared,
    error::ServeError,
    gate::Ticket,
    metadata::{RequestHeaders, ResponseHeaders},
    pipeline::{Pipeline, Urgency, estimated_bytes, walk},
    request::{BackgroundRequest, BatchRequest, Clip},
    request_layer::Arrival,
    stages::Stage,
    wire,
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

    /// The life of a unary request whose message is whole ([`crate::request_layer`]). It takes its place when its
    /// model is there: who waits for a slow load takes nobody's.
    async fn serve_batch(
        &self,
        request: BatchRequest,
        urgency: Urgency,
        arrival: Arrival,
        arrived: Instant,
    ) -> Result<(v1::InferBatchCompositeResponse, Ticket), ServeError> {
        let shared = &*self.shared;
        let Lease { model, load_time } = shared.model(&request.model_id, &arrival).await?;
        let _place = shared.admission.admit_request(arrival.peer)?;
        let begun = Instant::now();
        let windows = self.windows(&model, request.clip, request.n_frames).await?;
        let indices = walk(&model, request.start_frame_index, windows.n_frames);
        let limits = &shared.limits;
        let n_bytes = estimated_bytes(&model, &indices, request.output)?;
        limits.check_answer_bytes(n_bytes)?;
        let room = shared.admission.reserve(arrival.peer, n_bytes)?;
        let backgrounds = shared
            .pipeline
            .backgrounds(&model, request.start_frame_index, windows.n_frames)
            .await?;
        let prepare = begun.elapsed();
        if windows.n_frames == 0 {
            let timings = v1::Timings {
                total_us: micros(arrived.elapsed()),
                model_load_us: micros(load_time),
                prepare_us: micros(prepare),
                ..Default::default()
            };
            let answer = v1::InferBatchCompositeResponse {
                timings: Some(timings),
                warnings: windows.warnings,
                ..Default::default()
            };
            return Ok((answer, room));
        }
        let output = shared
            .pipeline
            .infer(&model, &backgrounds, windows.data, urgency)
            .await?;
        let begun = Instant::now();
        let mut frames = shared
            .pipeline
            .composite(&backgrounds, output.faces, request.output)
            .await?;
        for (n, frame) in (0..).zip(&mut frames) {
            frame.pts_us = lipsync_core::pts_us(n, model.fps());
            frame.audio_time_us = Some(lipsync_core::pts_us(windows.first_frame + n, model.fps()));
        }
        let stages = Stages {
            load_time,
            prepare,
            composite: begun.elapsed(),
        };
        let timings = stages.timings(&output.timings, arrived.elapsed());
        let answer = v1::InferBatchCompositeResponse {
            frames,
            timings: Some(timings),
            warnings: windows.warnings,
        };
        let n_bytes = limits.check_answer(&answer)?;
        shared.admission.resize(&room, n_bytes)?;
        Ok((answer, room))
    }
}

impl LipSyncService {
    async fn windows(
        &self,
        model: &Arc<Model>,
        clip: Clip,
        n_wanted: Option<usize>,
    ) -> Result<ClipWindows, ServeError> {
        let begun = Instant::now();
        let Pipeline { cpu, clocks, .. } = &self.shared.pipeline;
        let (model, max_frames) = (Arc::clone(model), self.shared.limits.max_batch_frames);
        let windows = cpu.run(move || windows_of_clip(&model, &clip, n_wanted, max_frames));
        let windows = windows.await?;
        clocks.add(Stage::Audio, windows.n_frames, begun.elapsed());
        Ok(windows)
    }

    async fn serve_backgrounds(
        &self,
        request: BackgroundRequest,
        arrival: Arrival,
    ) -> Result<(v1::GetBackgroundResponse, Ticket), ServeError> {
        let BackgroundRequest {
            model_id,
            indices,
            output,
        } = request;
        let shared = &*self.shared;
        let model = shared.model(&model_id, &arrival).await?.model;
        let _place = shared.admission.admit_request(arrival.peer)?;
        let n_background_frames = model.n_frames();
        if let Some(index) = indices.iter().find(|&&index| index >= n_background_frames) {
            return Err(ServeError::invalid(
                "background_indices",
                format!("the model has {n_background_frames} background frames, found {index}"),
            ));
        }
        let n_bytes = estimated_bytes(&model, &indices, output)?;
        shared.limits.check_answer_bytes(n_bytes)?;
        let room = shared.admission.reserve(arrival.peer, n_bytes)?;
        let frames = shared
            .pipeline
            .background_frames(&model, indices, output)
            .await?;
        let answer = v1::GetBackgroundResponse {
            frames: frames.into_iter().map(to_background).collect(),
            n_background_frames,
        };
        let n_bytes = shared.limits.check_answer(&answer)?;
        shared.admission.resize(&room, n_bytes)?;
        Ok((answer, room))
    }
}

fn to_background(frame: v1::CompositedFrame) -> v1::BackgroundFrame {
    v1::BackgroundFrame {
        background_index: frame.background_index,
        format: frame.format,
        width: frame.width,
        height: frame.height,
        region: frame.region,
        data: frame.data,
    }
}

/// Stages of a request that the worker pool does not time.
struct Stages {
    load_time: Duration,
    prepare: Duration,
    composite: Duration,
}

impl Stages {
    fn timings(&self, job: &JobTimings, total: Duration) -> v1::Timings {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        v1::Timings {
            queue_us: micros(job.queue),
            infer_us: micros(job.infer),
            composite_us: micros(self.composite),
            total_us: micros(total),
            model_load_us: micros(self.load_time),
            batch_frames: count(job.batch_frames),
            workers: job.workers.iter().map(|&w| count(w)).collect(),
            prepare_us: micros(self.prepare),
        }
    }
}

#[tonic::async_trait]
impl LipSync for LipSyncService {
    async fn infer_batch_composite(
        &self,
        request: Request<v1::InferBatchCompositeRequest>,
    ) -> Result<Response<v1::InferBatchCompositeResponse>, Status> {
        let arrived = Instant::now();
        let headers = RequestHeaders::parse(request.metadata(), arrived)?;
        let arrival = Arrival::of(request.extensions());
        let limits = &self.shared.limits;
        let request = BatchRequest::from_proto(
            request.into_inner(),
            &headers,
            &self.shared.output,
            limits.max_batch_frames,
        )?;
        let deadline = deadline(arrived, headers.deadline, limits.request_timeout);
        let urgency = Urgency {
            priority: request.priority,
            deadline: Some(deadline),
            max_wait: headers.max_wait,
            waits_for_room: false,
        };
        let served = self.serve_batch(request, urgency, arrival, arrived);
        let (answer, room) = tokio::time::timeout_at(deadline.into(), served)
            .await
            .unwrap_or(Err(ServeError::DeadlineExceeded))?;
        let figures = answer.timings.as_ref().map(response_headers);
        let mut response = unwritten(answer, room);
        if let Some(figures) = figures {
            figures.write(response.metadata_mut());
        }
        Ok(response)
    }

    async fn get_background(
        &self,
        request: Request<v1::GetBackgroundRequest>,
    ) -> Result<Response<v1::GetBackgroundResponse>, Status> {
        let headers = RequestHeaders::parse(request.metadata(), Instant::now())?;
        let arrival = Arrival::of(request.extensions());
        let request = request.into_inner();
        let limits = &self.shared.limits;
        let request =
            BackgroundRequest::from_proto(request, &self.shared.output, limits.max_batch_frames)?;
        headers.check_model_id(&request.model_id)?;
        let (answer, room) = self.serve_backgrounds(request, arrival).await?;
        Ok(unwritten(answer, room))
    }

    type StreamCompositeStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamCompositeResponse, Status>> + Send>>;

    async fn stream_composite(
        &self,
        request: Request<Streaming<v1::StreamCompositeRequest>>,
    ) -> Result<Response<Self::StreamCompositeStream>, Status> {
        let headers = RequestHeaders::parse(request.metadata(), Instant::now())?;
        let arrival = Arrival::of(request.extensions());
        let responses = wire::session::serve(&self.shared, headers, arrival, request.into_inner());
        Ok(Response::new(Box::pin(responses)))
    }
}

/// An answer that keeps its room until it is written: [`crate::request_layer`] sees to that.
fn unwritten<T>(answer: T, room: Ticket) -> Response<T> {
    let mut response = Response::new(answer);
    response.extensions_mut().insert(Arc::new(room));
    response
}

/// The earlier of the client's and the server's.
fn deadline(arrived: Instant, client: Option<Instant>, server: Duration) -> Instant {
    let server = arrived + server;
    client.map_or(server, |client| client.min(server))
}

fn response_headers(timings: &v1::Timings) -> ResponseHeaders {
    ResponseHeaders {
        batch_frames: timings.batch_frames,
        processing: Duration::from_micros(timings.total_us),
        queue: Duration::from_micros(timings.queue_us),
        workers: timings.workers.clone(),
    }
}
