//! A server that answers with tiny pictures, as slowly or wrongly as a test wants.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lipsync::v1::{
    Cleared, CompositedFrame, InferBatchCompositeRequest, InferBatchCompositeResponse,
    ListModelsRequest, ListModelsResponse, LoadModelRequest, LoadModelResponse, ModelStats, Opened,
    OutputFormat, SegmentEnd, StreamCompositeRequest, StreamCompositeResponse, UnloadModelRequest,
    UnloadModelResponse, audio_chunk,
    lip_sync_server::{LipSync, LipSyncServer},
    model_admin_server::{ModelAdmin, ModelAdminServer},
    stream_composite_request, stream_composite_response,
};
use lipsync::v1::{
    GetBackgroundRequest, GetBackgroundResponse, GetModelStatsRequest, GetModelStatsResponse,
};
use tokio::{net::TcpListener, sync::Mutex, sync::mpsc};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

const WIDTH: u32 = 4;
const HEIGHT: u32 = 2;
/// Bytes of one frame of 16 kHz s16 mono at 25 fps.
const PCM_FRAME_BYTES: usize = 1_280;

/// What the server does wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Behaviour {
    /// Refuses every n-th unary request; 0 = none.
    pub refuse_every: u64,
    /// Takes this long for each unary request, one at a time.
    pub serial_delay: Duration,
    /// Announces one frame more in `segment_end` than it sent.
    pub lose_last_frame: bool,
    /// Sends one more frame of a segment after it was confirmed to be cleared.
    pub frame_after_clear: bool,
    /// Ends a stream with UNAVAILABLE after this many frames; 0 = never.
    pub break_after_frames: u64,
}

struct Fake {
    behaviour: Behaviour,
    n_requests: AtomicU64,
    worker: Mutex<()>,
}

/// Starts a server on a free port and returns its address.
pub async fn serve(behaviour: Behaviour) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let fake = Arc::new(Fake {
        behaviour,
        n_requests: AtomicU64::new(0),
        worker: Mutex::new(()),
    });
    let server = Server::builder()
        .add_service(LipSyncServer::from_arc(Arc::clone(&fake)))
        .add_service(ModelAdminServer::from_arc(fake))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    address.to_string()
}

fn frame(index: u64, segment_id: u64, format: OutputFormat) -> CompositedFrame {
    let pixels = (WIDTH * HEIGHT) as usize;
    let data = match format {
        OutputFormat::Rgb => vec![0; pixels * 3],
        OutputFormat::I420 => vec![0; pixels + 4],
        OutputFormat::Png => b"\x89PNG\r\n\x1a\n...".to_vec(),
        _ => vec![0xff, 0xd8, 0xff, 0xd9],
    };
    CompositedFrame {
        frame_index: index,
        segment_id,
        format: format.into(),
        width: WIDTH,
        height: HEIGHT,
        data: data.into(),
        ..CompositedFrame::default()
    }
}

#[tonic::async_trait]
impl LipSync for Fake {
    async fn infer_batch_composite(
        &self,
        request: Request<InferBatchCompositeRequest>,
    ) -> Result<Response<InferBatchCompositeResponse>, Status> {
        let n = self.n_requests.fetch_add(1, Ordering::Relaxed) + 1;
        let every = self.behaviour.refuse_every;
        if every > 0 && n.is_multiple_of(every) {
            return Err(Status::resource_exhausted("the queue is full"));
        }
        if !self.behaviour.serial_delay.is_zero() {
            let _busy = self.worker.lock().await;
            tokio::time::sleep(self.behaviour.serial_delay).await;
        }
        let request = request.into_inner();
        let format = request.output.unwrap_or_default().format();
        let start = request.start_frame_index;
        Ok(Response::new(InferBatchCompositeResponse {
            frames: (start..start + u64::from(request.frame_count))
                .map(|index| frame(index, 0, format))
                .collect(),
            ..Default::default()
        }))
    }

    async fn get_background(
        &self,
        _request: Request<GetBackgroundRequest>,
    ) -> Result<Response<GetBackgroundResponse>, Status> {
        Err(Status::unimplemented("nobody here asks for it"))
    }

    type StreamCompositeStream =
        Pin<Box<dyn Stream<Item = Result<StreamCompositeResponse, Status>> + Send>>;

    async fn stream_composite(
        &self,
        request: Request<Streaming<StreamCompositeRequest>>,
    ) -> Result<Response<Self::StreamCompositeStream>, Status> {
        let (answers, stream) = mpsc::channel(1024);
        let behaviour = self.behaviour;
        let mut inbox = request.into_inner();
        tokio::spawn(async move {
            let mut live = LiveSession {
                behaviour,
                answers,
                n_sent: 0,
                segment_id: 0,
                n_in_segment: 0,
            };
            while let Ok(Some(message)) = inbox.message().await {
                if live.answer(message).await.is_none() {
                    return;
                }
            }
            live.end_segment().await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

struct LiveSession {
    behaviour: Behaviour,
    answers: mpsc::Sender<Result<StreamCompositeResponse, Status>>,
    n_sent: u64,
    segment_id: u64,
    n_in_segment: u64,
}

impl LiveSession {
    /// `None` when the stream is over.
    async fn answer(&mut self, message: StreamCompositeRequest) -> Option<()> {
        match message.message? {
            stream_composite_request::Message::Open(_) => {
                let opened = stream_composite_response::Message::Opened(Opened {
                    fps: 25,
                    width: WIDTH,
                    height: HEIGHT,
                    max_buffered_audio_s: 60,
                    ..Opened::default()
                });
                self.send(opened).await
            }
            stream_composite_request::Message::Audio(chunk) => {
                if self.segment_id != chunk.segment_id {
                    self.segment_id = chunk.segment_id;
                    self.n_in_segment = 0;
                }
                let Some(audio_chunk::Audio::Pcm(pcm)) = chunk.audio else {
                    return None;
                };
                for _ in 0..pcm.len() / PCM_FRAME_BYTES {
                    if self.n_sent > 0 && self.n_sent == self.behaviour.break_after_frames {
                        let broken = Err(Status::unavailable("as the test asked"));
                        self.answers.send(broken).await.ok()?;
                        return None;
                    }
                    if self.behaviour.lose_last_frame && self.n_in_segment == 99 {
                        (self.n_sent, self.n_in_segment) = (self.n_sent + 1, 100);
                        continue;
                    }
                    self.send_frame().await?;
                }
                Some(())
            }
            stream_composite_request::Message::EndSegment(_) => self.end_segment().await,
            stream_composite_request::Message::Clear(_) => {
                self.n_in_segment = 0;
                let cleared = stream_composite_response::Message::Cleared(Cleared {
                    last_pts_us: self.n_sent.checked_sub(1).map(|n| n * 40_000),
                    ..Cleared::default()
                });
                self.send(cleared).await?;
                if self.behaviour.frame_after_clear {
                    self.send_frame().await?;
                }
                Some(())
            }
        }
    }

    async fn send_frame(&mut self) -> Option<()> {
        let frame = CompositedFrame {
            pts_us: self.n_sent * 40_000,
            audio_time_us: Some(self.n_in_segment * 40_000),
            generated: true,
            ..frame(self.n_sent, self.segment_id, OutputFormat::Jpeg)
        };
        self.n_sent += 1;
        self.n_in_segment += 1;
        self.send(stream_composite_response::Message::Frame(frame))
            .await
    }

    async fn end_segment(&mut self) -> Option<()> {
        let n_frames = std::mem::take(&mut self.n_in_segment);
        let end = SegmentEnd {
            segment_id: self.segment_id,
            n_frames,
        };
        self.send(stream_composite_response::Message::SegmentEnd(end))
            .await
    }

    async fn send(&self, message: stream_composite_response::Message) -> Option<()> {
        let answer = StreamCompositeResponse {
            message: Some(message),
        };
        self.answers.send(Ok(answer)).await.ok()
    }
}

fn mira() -> ModelStats {
    ModelStats {
        model_id: "mira".to_owned(),
        fps: 25,
        width: WIDTH,
        height: HEIGHT,
        audio_kind: "ave".to_owned(),
        ..ModelStats::default()
    }
}

#[tonic::async_trait]
impl ModelAdmin for Fake {
    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(ListModelsResponse {
            models: vec![mira()],
        }))
    }

    async fn load_model(
        &self,
        _: Request<LoadModelRequest>,
    ) -> Result<Response<LoadModelResponse>, Status> {
        Ok(Response::new(LoadModelResponse {
            model: Some(mira()),
            load_us: 0,
        }))
    }

    async fn unload_model(
        &self,
        _: Request<UnloadModelRequest>,
    ) -> Result<Response<UnloadModelResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn get_model_stats(
        &self,
        _: Request<GetModelStatsRequest>,
    ) -> Result<Response<GetModelStatsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}
