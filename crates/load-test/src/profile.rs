//! When requests are due: pure schedules in time since the start of a run.
//!
//! A schedule knows nothing of answers. That makes a load test *open loop*: a slow server does not
//! slow down the users, as it would not in life, and latency is measured from the moment when a
//! request was due rather than from the moment when a held-up client got round to sending it.
//! `saturate` alone is a closed loop and has no schedule.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::random::Random;

/// How long a user speaks in each turn of a conversation.
pub const SPEAKING: Duration = Duration::from_secs(4);
/// Length of a turn: 4 s of speech, 7 s of listening, 4 s of waiting.
pub const TURN: Duration = Duration::from_secs(15);

/// How users behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Closed loop: each user keeps one request in flight. Finds the highest throughput.
    Saturate,
    /// Open loop: each user speaks 4 s at the frame rate, listens 7 s, waits 4 s, from a random phase.
    Conversational,
    /// Open loop: each user speaks without pause, in one endless utterance.
    Monologue,
    /// Open loop: `--rate` requests per second over all users, evenly spaced.
    Rate,
}

impl Profile {
    /// One line for the report.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Saturate => {
                "saturate (closed loop: one request, or one utterance of a stream, in flight per user)"
            }
            Self::Conversational => {
                "conversational (open loop: speaking 4 s, listening 7 s, waiting 4 s)"
            }
            Self::Monologue => "monologue (open loop: speaking all the time)",
            Self::Rate => "rate (open loop: evenly spaced requests)",
        }
    }
}

/// One request and when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// When, since the start of the run.
    pub at: Duration,
    /// Place of its first frame on the user's timeline.
    pub first_frame: u64,
    /// Frames wanted.
    pub n_frames: u32,
}

/// One utterance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utterance {
    /// When it starts, since the start of the run.
    pub at: Duration,
    /// Place of its first frame on the user's timeline.
    pub first_frame: u64,
    /// Frames that it lasts, at least 1.
    pub n_frames: u64,
}

/// How long `n_frames` last at `fps`, to the microsecond.
#[must_use]
pub fn frames_time(n_frames: u64, fps: u32) -> Duration {
    Duration::from_micros(n_frames.saturating_mul(1_000_000) / u64::from(fps.max(1)))
}

/// Whole frames that begin within `time` at `fps`.
#[must_use]
pub fn frames_within(time: Duration, fps: u32) -> u64 {
    let frames = time.as_micros() * u128::from(fps) / 1_000_000;
    u64::try_from(frames).unwrap_or(u64::MAX)
}

/// Frames needed to cover `time` at `fps`.
#[must_use]
pub fn frames_covering(time: Duration, fps: u32) -> u64 {
    let frames = (time.as_micros() * u128::from(fps)).div_ceil(1_000_000);
    u64::try_from(frames).unwrap_or(u64::MAX)
}

/// The user's position in its turn when the run starts, 0..15 s.
///
/// It depends only on the seed and the user, so a run with more users contains the same ones.
#[must_use]
pub fn phase(seed: u64, user: u64) -> Duration {
    Duration::from_micros(Random::new(seed, user).below(15_000_000))
}

/// The endless utterances of one user in a conversation.
///
/// A user may start in the middle of an utterance, so the load is that of a long conversation from the
/// first second on.
pub fn utterances(phase: Duration, fps: u32) -> impl Iterator<Item = Utterance> + Send {
    let whole = frames_within(SPEAKING, fps).max(1);
    let rest = whole.saturating_sub(frames_within(phase, fps));
    let first = (rest > 0).then_some(Utterance {
        at: Duration::ZERO,
        first_frame: 0,
        n_frames: rest,
    });
    let mut next = Utterance {
        at: TURN.saturating_sub(phase),
        first_frame: rest,
        n_frames: whole,
    };
    first.into_iter().chain(std::iter::from_fn(move || {
        let this = next;
        next.at = this.at.checked_add(TURN)?;
        next.first_frame = this.first_frame.checked_add(whole)?;
        Some(this)
    }))
}

/// The speech of one user who never stops, up to `end`.
pub fn monologue(end: Duration, fps: u32) -> impl Iterator<Item = Utterance> + Send {
    std::iter::once(Utterance {
        at: Duration::ZERO,
        first_frame: 0,
        n_frames: frames_covering(end, fps).max(1),
    })
}

/// Cuts an utterance into requests of `batch` frames, one each `batch / fps` seconds; the last may
/// be shorter.
pub fn shots(utterance: Utterance, batch: u32, fps: u32) -> impl Iterator<Item = Shot> + Send {
    let step = u64::from(batch.max(1));
    (0..utterance.n_frames.div_ceil(step)).map(move |i| {
        let left = utterance.n_frames - i * step;
        Shot {
            at: utterance.at + frames_time(i * step, fps),
            first_frame: utterance.first_frame + i * step,
            n_frames: u32::try_from(left).map_or(batch, |left| left.min(batch)),
        }
    })
}

/// Every `n_users`-th of `rate` requests per second, starting with number `user`.
pub fn steady(rate: f64, user: u64, n_users: u64, batch: u32) -> impl Iterator<Item = Shot> + Send {
    (0_u64..).map_while(move |i| {
        let place = i.checked_mul(n_users)?.checked_add(user)?;
        Some(Shot {
            at: Duration::try_from_secs_f64(place as f64 / rate).ok()?,
            first_frame: i.checked_mul(u64::from(batch))?,
            n_frames: batch,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn a_turn_in_batches_of_eight() {
        let turn = utterances(secs(15.0), 25).next().expect("endless");
        let all: Vec<Shot> = shots(turn, 8, 25).collect();
        assert_eq!(all.len(), 13);
        assert_eq!(all[1].at, secs(0.32));
        assert_eq!(all[12].n_frames, 4);
        assert_eq!(all[12].first_frame, 96);
    }

    #[test]
    fn a_user_who_starts_speaking_speaks_again_after_fifteen_seconds() {
        let two: Vec<Utterance> = utterances(Duration::ZERO, 25).take(2).collect();
        assert_eq!((two[0].at, two[0].n_frames), (secs(0.0), 100));
        assert_eq!((two[1].at, two[1].first_frame), (secs(15.0), 100));
    }

    #[test]
    fn a_user_in_mid_utterance_finishes_it() {
        let two: Vec<Utterance> = utterances(secs(3.0), 25).take(2).collect();
        assert_eq!((two[0].at, two[0].n_frames), (secs(0.0), 25));
        assert_eq!(
            (two[1].at, two[1].n_frames, two[1].first_frame),
            (secs(12.0), 100, 25)
        );
    }

    #[test]
    fn phases_are_those_of_the_servers_tune() {
        let first = [0, 1, 2].map(|user| phase(1, user));
        let expected = [11_428_519, 5_525_782, 4_013_707];
        assert_eq!(first, expected.map(Duration::from_micros));
    }

    #[test]
    fn steady_users_share_the_rate() {
        let at =
            |user| -> Vec<Duration> { steady(10.0, user, 2, 8).take(3).map(|s| s.at).collect() };
        assert_eq!(at(0), [secs(0.0), secs(0.2), secs(0.4)]);
        assert_eq!(at(1), [secs(0.1), secs(0.3), secs(0.5)]);
    }

    proptest! {
        #[test]
        fn speech_makes_every_frame_once_at_its_time(
            phase_us in 0_u64..15_000_000, batch in 1_u32..70, fps in 1_u32..61,
        ) {
            let mut expected_frame = 0;
            let mut last = Duration::ZERO;
            for utterance in utterances(Duration::from_micros(phase_us), fps).take(4) {
                prop_assert!(utterance.n_frames > 0);
                for shot in shots(utterance, batch, fps) {
                    prop_assert_eq!(shot.first_frame, expected_frame);
                    prop_assert!(shot.n_frames >= 1 && shot.n_frames <= batch);
                    prop_assert!(shot.at >= last);
                    let place = shot.first_frame - utterance.first_frame;
                    prop_assert_eq!(shot.at, utterance.at + frames_time(place, fps));
                    expected_frame += u64::from(shot.n_frames);
                    last = shot.at;
                }
            }
        }

        #[test]
        fn phases_lie_in_the_turn_and_repeat(seed: u64, user in 0_u64..100_000) {
            prop_assert!(phase(seed, user) < TURN);
            prop_assert_eq!(phase(seed, user), phase(seed, user));
        }
    }
}
