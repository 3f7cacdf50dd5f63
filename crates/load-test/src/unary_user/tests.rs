//! The loops under virtual time, against a server that is a function.

use std::sync::Mutex;

use lipsync::v1::{CompositedFrame, OutputFormat, OutputOptions};
use tokio::time::Instant;

use super::*;
use crate::{args::Input, model::Model, profile, track::Track};

/// Answers after `delay`, or with a status; `stall` is added to the first answer.
#[derive(Clone)]
struct Fake {
    delay: Duration,
    stall: Duration,
    status: Option<Code>,
    wrong_count: bool,
    sent_at: Arc<Mutex<Vec<Duration>>>,
    start: Instant,
}

impl Caller for Fake {
    async fn call(
        &self,
        request: tonic::Request<InferBatchCompositeRequest>,
    ) -> Result<InferBatchCompositeResponse, Status> {
        let is_first = {
            let mut sent_at = self.sent_at.lock().expect("no panic");
            sent_at.push(self.start.elapsed());
            sent_at.len() == 1
        };
        let stall = if is_first { self.stall } else { Duration::ZERO };
        tokio::time::sleep(self.delay + stall).await;
        if let Some(code) = self.status {
            return Err(Status::new(code, "as the test asked"));
        }
        let request = request.into_inner();
        let n = u64::from(request.frame_count) - u64::from(self.wrong_count);
        let frames = (request.start_frame_index..request.start_frame_index + n)
            .map(|index| CompositedFrame {
                frame_index: index,
                format: OutputFormat::Rgb.into(),
                width: 2,
                height: 2,
                data: vec![0; 12].into(),
                ..CompositedFrame::default()
            })
            .collect();
        Ok(InferBatchCompositeResponse {
            frames,
            ..Default::default()
        })
    }
}

fn fake() -> Fake {
    Fake {
        delay: Duration::from_millis(100),
        stall: Duration::ZERO,
        status: None,
        wrong_count: false,
        sent_at: Arc::default(),
        start: Instant::now(),
    }
}

fn user(caller: Fake, end_ms: u64) -> UnaryUser<Fake> {
    let clock = Clock {
        start: caller.start,
        warm_up: Duration::ZERO,
        end: Duration::from_millis(end_ms),
    };
    let speaker = Speaker {
        model: Arc::new(Model {
            id: "mira".to_owned(),
            fps: 25,
            width: 2,
            height: 2,
            audio_kind: "ave".to_owned(),
        }),
        track: Arc::new(Track::voice(1, 1, 3)),
        input: Input::Pcm,
        offset_frames: 64,
        context_frames: 8,
        output: OutputOptions {
            format: OutputFormat::Rgb.into(),
            ..OutputOptions::default()
        },
        priority: lipsync::v1::Priority::Unspecified,
    };
    UnaryUser {
        caller,
        speaker: Arc::new(speaker),
        fps: 25,
        timeout: Duration::from_secs(5),
        clock,
        stats: SharedStats::new(clock),
    }
}

#[tokio::test(start_paused = true)]
async fn the_open_loop_does_not_wait_for_answers() {
    let fake = Fake {
        stall: Duration::from_millis(900),
        ..fake()
    };
    let user = user(fake.clone(), 1_000);
    let stats = user.stats.clone();
    user.follow(profile::steady(10.0, 0, 1, 8)).await;
    let sent: Vec<u128> = fake
        .sent_at
        .lock()
        .expect("no panic")
        .iter()
        .map(Duration::as_millis)
        .collect();
    // tokio's timer has a grain of 1 ms.
    for (i, sent) in sent.iter().enumerate() {
        assert!(sent.abs_diff(i as u128 * 100) <= 1, "{i} at {sent} ms");
    }
    let stats = stats.lock();
    assert_eq!((stats.requests, stats.ok), (10, 10));
    assert!(
        stats.latency.max() > 990_000,
        "the answer after the end counts"
    );
    assert_eq!(stats.frames_missed, 8);
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_place_is_latency() {
    // More requests than places while none is answered: the surplus leaves late.
    let fake = Fake {
        delay: Duration::from_secs(1),
        ..fake()
    };
    let user = user(fake, 10_000);
    let stats = user.stats.clone();
    let n = MAX_IN_FLIGHT as u64 + 1;
    user.follow((0..n).map(|i| Shot {
        at: Duration::ZERO,
        first_frame: i,
        n_frames: 1,
    }))
    .await;
    let stats = stats.lock();
    assert_eq!(stats.ok, n);
    assert!(stats.latency.max() >= 1_990_000, "{}", stats.latency.max());
    assert!(stats.service.max() <= 1_010_000, "{}", stats.service.max());
}

#[tokio::test(start_paused = true)]
async fn what_was_due_but_could_not_be_sent_is_a_failure() {
    let fake = Fake {
        delay: Duration::from_secs(4),
        ..fake()
    };
    let user = user(fake, 1_000);
    let stats = user.stats.clone();
    user.follow(profile::steady(100.0, 0, 1, 1)).await;
    let stats = stats.lock();
    assert_eq!((stats.requests, stats.ok), (100, MAX_IN_FLIGHT as u64));
    assert_eq!(stats.outcomes["unfinished"], 36);
    assert_eq!(stats.frames_missed, 100);
}

#[tokio::test(start_paused = true)]
async fn the_closed_loop_keeps_one_in_flight_and_ends() {
    let fake = fake();
    let user = user(fake.clone(), 1_000);
    let stats = user.stats.clone();
    user.saturate(8).await;
    let stats = stats.lock();
    // 100 ms each and a grain of 1 ms: ten or nine.
    assert!((9..=10).contains(&stats.ok), "{}", stats.ok);
    assert_eq!(stats.frames_missed, 0);
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_by_code_and_not_hammered() {
    let fake = Fake {
        delay: Duration::ZERO,
        status: Some(Code::ResourceExhausted),
        ..fake()
    };
    let user = user(fake, 1_000);
    let stats = user.stats.clone();
    user.saturate(8).await;
    let stats = stats.lock();
    assert_eq!(stats.ok, 0);
    assert!((9..=10).contains(&stats.outcomes["RESOURCE_EXHAUSTED"]));
    assert_eq!(
        stats.last_failure().as_deref(),
        Some("RESOURCE_EXHAUSTED: as the test asked")
    );
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_deadline_exceeded_and_a_short_answer_is_invalid() {
    let silent = Fake {
        delay: Duration::from_secs(3_600),
        ..fake()
    };
    let user_of_silent = user(silent, 1_000);
    let stats = user_of_silent.stats.clone();
    user_of_silent.saturate(8).await;
    assert_eq!(stats.lock().outcomes["DEADLINE_EXCEEDED"], 1);

    let short = Fake {
        wrong_count: true,
        ..fake()
    };
    let user_of_short = user(short, 150);
    let stats = user_of_short.stats.clone();
    user_of_short.saturate(8).await;
    assert_eq!(stats.lock().outcomes["invalid count"], 1);
}
