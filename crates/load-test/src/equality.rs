//! Compares the frames that users get at the same time with those that each gets alone.

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use lipsync::v1::InferBatchCompositeResponse;
use prost::Message as _;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{Error, speaker::Speaker, unary_user::Caller};

/// Requests of each user, in sequence.
const N_REQUESTS: u64 = 4;

/// The result of the comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Equality {
    /// Users at once.
    pub users: u64,
    /// Frames that were requested twice.
    pub frames: u64,
    /// Those of them that differed in any byte.
    pub different: u64,
    /// Frames in the largest batch that the server executed for one user alone.
    pub largest_batch_alone: u32,
    /// The same for all users at once.
    pub largest_batch_together: u32,
}

impl fmt::Display for Equality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} users at once: {} of {} frames differ from what each got alone",
            self.users, self.different, self.frames
        )?;
        writeln!(
            f,
            "largest executed batch: {} frames alone, {} at once",
            self.largest_batch_alone, self.largest_batch_together
        )
    }
}

/// One user's frames, each as a hash, and the largest batch that one was in.
#[derive(Debug, Default)]
struct Seen {
    frames: Vec<u64>,
    largest_batch: u32,
}

impl Seen {
    fn add(&mut self, answer: InferBatchCompositeResponse) {
        let batch = answer.timings.map_or(0, |timings| timings.batch_frames);
        self.largest_batch = self.largest_batch.max(batch);
        self.frames.extend(answer.frames.iter().map(|frame| {
            let mut hasher = DefaultHasher::new();
            frame.encode_to_vec().hash(&mut hasher);
            hasher.finish()
        }));
    }
}

/// Makes every user request the same frames twice: first alone, then all users at once.
///
/// # Errors
/// [`Error::Refused`]: a request was not answered, so there is no result.
pub async fn compare<C: Caller>(
    users: Vec<(C, Speaker)>,
    batch: u32,
    timeout: Duration,
) -> Result<Equality, Error> {
    let mut found = Equality {
        users: users.len() as u64,
        ..Equality::default()
    };
    let mut alone = Vec::with_capacity(users.len());
    for user in &users {
        let seen = ask(user.clone(), batch, timeout).await?;
        found.largest_batch_alone = found.largest_batch_alone.max(seen.largest_batch);
        found.frames += seen.frames.len() as u64;
        alone.push(seen.frames);
    }
    let mut together = JoinSet::new();
    for (user, expected) in users.into_iter().zip(alone) {
        together.spawn(async move { (ask(user, batch, timeout).await, expected) });
    }
    for (seen, expected) in together.join_all().await {
        let seen = seen?;
        found.largest_batch_together = found.largest_batch_together.max(seen.largest_batch);
        let n_missing = expected.len().abs_diff(seen.frames.len());
        let pairs = seen.frames.iter().zip(&expected);
        found.different += (n_missing + pairs.filter(|(a, b)| a != b).count()) as u64;
    }
    Ok(found)
}

async fn ask<C: Caller>(
    (caller, speaker): (C, Speaker),
    batch: u32,
    timeout: Duration,
) -> Result<Seen, Error> {
    let mut seen = Seen::default();
    for n in 0..N_REQUESTS {
        let mut request = tonic::Request::new(speaker.request(n * u64::from(batch), batch));
        request.set_timeout(timeout);
        let answer = caller.call(request).await;
        seen.add(answer.map_err(Error::refused("InferBatchComposite"))?);
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use lipsync::v1::{CompositedFrame, InferBatchCompositeRequest, OutputOptions, Timings};
    use tonic::Status;

    use super::*;
    use crate::{
        args::{Args, Input},
        model::Model,
        report::Outcome,
        track::Track,
    };

    /// Frames whose bytes are their place, and from the `wrong`th call on something else; none where it is 0.
    #[derive(Clone)]
    struct Echo {
        n_calls: Arc<AtomicU64>,
        wrong: u64,
    }

    impl Caller for Echo {
        async fn call(
            &self,
            request: tonic::Request<InferBatchCompositeRequest>,
        ) -> Result<InferBatchCompositeResponse, Status> {
            let call = self.n_calls.fetch_add(1, Ordering::SeqCst);
            let request = request.into_inner();
            if self.wrong == 0 {
                return Err(Status::unavailable("not now"));
            }
            let byte = u8::from(call >= self.wrong);
            let frame = CompositedFrame {
                frame_index: request.start_frame_index,
                data: vec![byte].into(),
                ..CompositedFrame::default()
            };
            Ok(InferBatchCompositeResponse {
                frames: vec![frame; request.frame_count as usize],
                timings: Some(Timings {
                    batch_frames: if call < 8 { 3 } else { 6 },
                    ..Timings::default()
                }),
                ..Default::default()
            })
        }
    }

    async fn compare_two(wrong: u64) -> Result<Equality, Error> {
        let model = Model {
            id: "m".into(),
            fps: 25,
            width: 4,
            height: 2,
            audio_kind: "ave".into(),
        };
        let speaker = Speaker {
            model: Arc::new(model),
            track: Arc::new(Track::voice(1, 0, 3)),
            input: Input::Pcm,
            offset_frames: 64,
            context_frames: 0,
            output: OutputOptions::default(),
            priority: lipsync::v1::Priority::Unspecified,
        };
        let caller = Echo {
            n_calls: Arc::default(),
            wrong,
        };
        let users = vec![(caller, speaker); 2];
        compare(users, 3, Duration::from_secs(1)).await
    }

    #[tokio::test]
    async fn frames_that_differ_when_all_ask_at_once_are_counted() {
        // Two users with four requests, twice.
        let same = compare_two(u64::MAX).await.expect("answers");
        let expected = Equality {
            users: 2,
            frames: 24,
            different: 0,
            largest_batch_alone: 3,
            largest_batch_together: 6,
        };
        assert_eq!(same, expected);
        let one_wrong = compare_two(15).await.expect("answers");
        assert_eq!(one_wrong.different, 3);
        assert_eq!(compare_two(8).await.expect("answers").different, 24);
    }

    #[tokio::test]
    async fn without_an_answer_nothing_is_known() {
        let refused = compare_two(0).await;
        assert!(matches!(refused, Err(Error::Refused { .. })));
    }

    #[test]
    fn a_comparison_of_nothing_passes_no_more_than_one_of_different_frames() {
        use clap::Parser as _;
        let args = Args::parse_from(["t", "--compare-alone"]);
        for (frames, different, passed) in [(0, 0, false), (8, 1, false), (8, 0, true)] {
            let found = Equality {
                frames,
                different,
                ..Equality::default()
            };
            assert_eq!(Outcome::Equality(found).passed(&args), passed);
        }
    }
}
