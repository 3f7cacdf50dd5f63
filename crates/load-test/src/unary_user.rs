//! One user who requests batches of frames with unary calls.

use std::{future::Future, sync::Arc, time::Duration};

use lipsync::{
    call_error::in_plain_words,
    client::KeyedChannel,
    v1::{InferBatchCompositeRequest, InferBatchCompositeResponse, lip_sync_client::LipSyncClient},
};
use prost::Message as _;
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::{Code, Status};

use crate::{
    profile::{Shot, frames_time},
    speaker::Speaker,
    stats::{Clock, Outcome, Sample, SharedStats},
};

/// Requests that one user of an open loop may have in flight. It bounds memory if a server never answers. A
/// request beyond it is sent late, and the wait counts as latency.
pub const MAX_IN_FLIGHT: usize = 64;
/// Pause of a closed-loop user after a failure.
pub const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Something that answers unary requests: the server, or a fake in tests.
pub trait Caller: Clone + Send + Sync + 'static {
    /// Sends one request and waits for its answer.
    fn call(
        &self,
        request: tonic::Request<InferBatchCompositeRequest>,
    ) -> impl Future<Output = Result<InferBatchCompositeResponse, Status>> + Send;
}

impl Caller for LipSyncClient<KeyedChannel> {
    async fn call(
        &self,
        request: tonic::Request<InferBatchCompositeRequest>,
    ) -> Result<InferBatchCompositeResponse, Status> {
        // A client is a handle; a clone shares the connection.
        let answer = self.clone().infer_batch_composite(request).await?;
        Ok(answer.into_inner())
    }
}

/// One user.
#[derive(Debug, Clone)]
pub struct UnaryUser<C> {
    /// Where requests go.
    pub caller: C,
    /// The user's requests.
    pub speaker: Arc<Speaker>,
    /// Frames per second that the user consumes.
    pub fps: u32,
    /// Time limit for an answer.
    pub timeout: Duration,
    /// The time of the run.
    pub clock: Clock,
    /// Where samples go.
    pub stats: SharedStats,
}

impl<C: Caller> UnaryUser<C> {
    /// Closed loop: the next request leaves when the last is answered.
    pub async fn saturate(self, batch: u32) {
        let mut first_frame = 0;
        loop {
            let at = self.clock.now();
            if at >= self.clock.end {
                return;
            }
            let shot = Shot {
                at,
                first_frame,
                n_frames: batch,
            };
            if self.fire(shot).await != Outcome::Frames {
                self.clock
                    .sleep_until((self.clock.now() + RETRY_AFTER).min(self.clock.end))
                    .await;
            }
            first_frame += u64::from(batch);
        }
    }

    /// Open loop: requests leave when they are due, answered or not. Ends when the last answer is in.
    pub async fn follow(self, shots: impl Iterator<Item = Shot> + Send) {
        let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let mut flights = JoinSet::new();
        for shot in shots.take_while(|shot| shot.at < self.clock.end) {
            self.clock.sleep_until(shot.at).await;
            while flights.try_join_next().is_some() {}
            let place = tokio::select! {
                // In this order, an overdue shot is sent as long as there is time and place.
                biased;
                () = self.clock.sleep_until(self.clock.end) => None,
                place = Arc::clone(&places).acquire_owned() => place.ok(),
            };
            let Some(place) = place else {
                self.give_up(shot);
                continue;
            };
            let user = self.clone();
            flights.spawn(async move {
                user.fire(shot).await;
                drop(place);
            });
        }
        while flights.join_next().await.is_some() {}
    }

    /// Counts a request that was due, but that the run had no time for.
    fn give_up(&self, shot: Shot) {
        self.stats
            .lock()
            .record(&self.sample(shot, shot.at, Outcome::Unfinished));
    }

    /// Sends one request, waits, checks, counts.
    async fn fire(&self, shot: Shot) -> Outcome {
        let message = self.speaker.request(shot.first_frame, shot.n_frames);
        let bytes_up = message.encoded_len() as u64;
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.timeout);
        let sent = self.clock.now();
        let result = tokio::time::timeout(self.timeout, self.caller.call(request)).await;
        let done = self.clock.now();
        let (outcome, bytes_down, status) = match result {
            Err(_) => (Outcome::Status(Code::DeadlineExceeded), 0, None),
            // tonic's own timer ends a call with CANCELLED.
            Ok(Err(status)) if status.code() == Code::Cancelled && done - sent >= self.timeout => {
                (Outcome::Status(Code::DeadlineExceeded), 0, None)
            }
            Ok(Err(status)) => (Outcome::Status(status.code()), 0, Some(status)),
            Ok(Ok(answer)) => {
                let expected = self.speaker.expected();
                let fault = expected.check_answer(&answer, shot.first_frame, shot.n_frames);
                let outcome = fault.map_or_else(Outcome::Invalid, |()| Outcome::Frames);
                (outcome, answer.encoded_len() as u64, None)
            }
        };
        let sample = Sample {
            done,
            bytes_up,
            bytes_down,
            ..self.sample(shot, sent, outcome)
        };
        let mut stats = self.stats.lock();
        stats.record(&sample);
        if let Some(status) = status.map(in_plain_words) {
            stats.keep_failure(status.code(), status.message());
        }
        outcome
    }

    fn sample(&self, shot: Shot, sent: Duration, outcome: Outcome) -> Sample {
        Sample {
            intended: shot.at,
            sent: Some(sent),
            done: sent,
            due: shot.at + frames_time(u64::from(shot.n_frames), self.fps),
            n_frames: u64::from(shot.n_frames),
            bytes_up: 0,
            bytes_down: 0,
            outcome,
        }
    }
}

#[cfg(test)]
mod tests;
