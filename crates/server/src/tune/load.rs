//! The clients of a measurement: those that ask without pause, and those that converse.
//!
//! They behave as the users of `lipsync-load-test` do, with the same phases, so that it confirms what is found here.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lipsync::{
    client::Client,
    v1::{InferBatchCompositeRequest, Pcm, infer_batch_composite_request::Audio},
};
use lipsync_core::{
    saturate::{u32_of, usize_of},
    sync::lock,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Frames of a request.
const BATCH: u32 = 8;
/// Frames of audio around those of a request.
const CONTEXT: u32 = 8;
const RATE_HZ: u32 = 16_000;
/// A turn of a conversation, and how long its user speaks in it.
const TURN: Duration = Duration::from_secs(15);
const SPEAKING: Duration = Duration::from_secs(4);
/// Before a probe counts.
const WARM_UP: Duration = Duration::from_secs(3);
/// What a probe takes: the warm-up, a turn, and the last answers.
pub(super) const PROBE: Duration = Duration::from_secs(19);
/// When a request that is not answered has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Users of some models.
#[derive(Clone)]
pub(super) struct Crowd {
    /// At least one.
    pub(super) clients: Vec<Client>,
    /// At least one.
    pub(super) models: Vec<Asked>,
}

/// A model that users ask for.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) fps: u32,
    /// Where on the walk the next request without pause begins. It goes on from one measurement to the next, so that
    /// caches hold what they hold in the long run, and no measurement finds what the one before it had to compute.
    pub(super) walk: Arc<AtomicU64>,
}

/// What users saw.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    pub(super) frames_per_s: f64,
    /// Of the times of answers, from when they were due to be asked for.
    pub(super) p95: Option<Duration>,
    /// The same, in the middle.
    pub(super) median: Option<Duration>,
    /// Part of requests that were not answered.
    pub(super) failed: f64,
    /// What the last one was told.
    pub(super) failure: Option<String>,
}

#[derive(Debug, Default)]
struct Counts {
    frames: u64,
    times: Vec<Duration>,
    n_failed: u64,
    failure: Option<String>,
}

/// When what counts begins and ends.
#[derive(Debug, Clone, Copy)]
struct Window {
    start: Instant,
    from: Duration,
    to: Duration,
}

impl Window {
    fn has(&self, at: Instant) -> bool {
        let since = at.saturating_duration_since(self.start);
        (self.from..self.to).contains(&since)
    }
}

impl Crowd {
    /// Conversations that speak as many frames a second on average.
    pub(super) fn users_for(&self, frames_per_s: f64) -> u64 {
        let fps: u32 = self.models.iter().map(|model| model.fps).sum();
        let fps = f64::from(fps) / self.models.len().max(1) as f64;
        let of_one = fps * SPEAKING.as_secs_f64() / TURN.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float cast saturates, and both are positive"
        )]
        let n = (frames_per_s / of_one.max(0.1)) as u64;
        n.max(1)
    }

    /// Users that ask again as soon as they are answered.
    pub(super) async fn saturate(&self, n_users: usize, time: Duration) -> Spoken {
        let counts = Arc::<Mutex<Counts>>::default();
        let window = Window {
            start: Instant::now(),
            from: Duration::ZERO,
            to: time,
        };
        let mut users = JoinSet::new();
        for n in 0..n_users.max(1) {
            let user = self.user(n as u64, &counts, window);
            users.spawn(async move {
                loop {
                    let now = Instant::now();
                    if !window.has(now) {
                        return;
                    }
                    let step = u64::from(BATCH);
                    let first = user.model.walk.fetch_add(step, Ordering::Relaxed);
                    if !user.ask(first, BATCH, now).await {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            });
        }
        while users.join_next().await.is_some() {}
        Counts::take(&counts, window.start.elapsed())
    }

    /// Users that speak for 4 s in every 15 s, whether they are answered or not.
    pub(super) async fn converse(&self, n_users: u64) -> Spoken {
        let counts = Arc::<Mutex<Counts>>::default();
        let window = Window {
            start: Instant::now(),
            from: WARM_UP,
            to: WARM_UP + TURN,
        };
        let mut users = JoinSet::new();
        for n in 0..n_users {
            let user = self.user(n, &counts, window);
            users.spawn(user.converse(phase(n)));
        }
        while users.join_next().await.is_some() {}
        Counts::take(&counts, TURN)
    }

    fn user(&self, n: u64, counts: &Arc<Mutex<Counts>>, window: Window) -> User {
        let place = |len: usize| usize_of(n) % len.max(1);
        User {
            client: self.clients[place(self.clients.len())].clone(),
            model: self.models[place(self.models.len())].clone(),
            offset: n * 977,
            counts: Arc::clone(counts),
            window,
        }
    }
}

#[derive(Clone)]
struct User {
    client: Client,
    model: Asked,
    /// Where it begins in the voice, frames.
    offset: u64,
    counts: Arc<Mutex<Counts>>,
    window: Window,
}

impl User {
    async fn converse(self, phase: Duration) {
        let mut asking = JoinSet::new();
        for (at, first, n_frames) in requests(phase, self.model.fps, self.window.to) {
            let due = self.window.start + at;
            sleep_until(due).await;
            let user = self.clone();
            asking.spawn(async move { user.ask(first, n_frames, due).await });
            while asking.try_join_next().is_some() {}
        }
        while asking.join_next().await.is_some() {}
    }

    /// Asks for frames that were due to be asked for at `due`; whether they came.
    async fn ask(&self, first: u64, n_frames: u32, due: Instant) -> bool {
        let request = self.request(first, n_frames);
        let asking = self.client.infer_batch_composite(request);
        let answer = tokio::time::timeout(TIMEOUT, asking).await;
        let done = Instant::now();
        let mut counts = lock(&self.counts);
        let failure = match answer {
            Ok(Ok(answer)) => {
                // Those under way at the end count, too, as does the time that they take: of slow networks there may be
                // no others.
                counts.frames += answer.frames.len() as u64;
                if self.window.has(due) {
                    counts.times.push(done - due);
                }
                return true;
            }
            Ok(Err(status)) => status.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if self.window.has(due) {
            counts.n_failed += 1;
        }
        counts.failure = Some(failure);
        false
    }

    fn request(&self, first: u64, n_frames: u32) -> InferBatchCompositeRequest {
        let place = |frame: u64| frame * u64::from(RATE_HZ) / u64::from(self.model.fps.max(1));
        let from = self.offset + first;
        let samples = place(from)..place(from + u64::from(n_frames + 2 * CONTEXT));
        InferBatchCompositeRequest {
            model_id: self.model.id.clone(),
            audio: Some(Audio::Pcm(Pcm {
                samples: samples.flat_map(|n| voice(n).to_le_bytes()).collect(),
                sample_rate_hz: RATE_HZ,
                first_frame: CONTEXT,
                ..Pcm::default()
            })),
            frame_count: n_frames,
            start_frame_index: first,
            ..InferBatchCompositeRequest::default()
        }
    }
}

impl Counts {
    fn take(counts: &Mutex<Self>, time: Duration) -> Spoken {
        let mut counts = std::mem::take(&mut *lock(counts));
        counts.times.sort_unstable();
        let n = counts.times.len();
        let n_all = n as u64 + counts.n_failed;
        let at = |percent: usize| {
            let place = (n * percent).div_ceil(100).saturating_sub(1);
            counts.times.get(place).copied()
        };
        Spoken {
            frames_per_s: counts.frames as f64 / time.as_secs_f64(),
            p95: at(95),
            median: at(50),
            failed: counts.n_failed as f64 / n_all.max(1) as f64,
            failure: counts.failure,
        }
    }
}

/// When a user who speaks as its phase says asks for how many frames, up to `end`: when, the first frame, how many.
fn requests(
    phase: Duration,
    fps: u32,
    end: Duration,
) -> impl Iterator<Item = (Duration, u64, u32)> + Send {
    let fps = fps.max(1);
    let frames =
        |time: Duration| u64::try_from(time.as_micros()).unwrap_or(0) * u64::from(fps) / 1_000_000;
    let whole = frames(SPEAKING).max(1);
    let rest = whole.saturating_sub(frames(phase));
    let first = (rest > 0).then_some((Duration::ZERO, 0, rest));
    let turns = (0..).map(move |n: u32| {
        let at = (TURN * (n + 1)).saturating_sub(phase);
        (at, rest + u64::from(n) * whole, whole)
    });
    let speeches = first.into_iter().chain(turns);
    let requests = speeches.flat_map(move |(at, first, n_frames)| {
        let step = u64::from(BATCH);
        (0..n_frames.div_ceil(step)).map(move |n| {
            let micros = n * step * 1_000_000 / u64::from(fps);
            let left = n_frames - n * step;
            let n_now = u32_of(usize_of(left.min(step)));
            (at + Duration::from_micros(micros), first + n * step, n_now)
        })
    });
    requests.take_while(move |(at, ..)| *at < end)
}

/// Where in its turn a user is at the start: as the load test's, with its usual seed.
fn phase(user: u64) -> Duration {
    let seed = 1_u64;
    let mut state = seed ^ user.wrapping_mul(0xd134_2543_de82_ef95);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    next();
    Duration::from_micros(next() % 15_000_000)
}

/// A sample of an endless voice: a buzz that swells and fades with each syllable.
fn voice(n: u64) -> i16 {
    let along = |period: u64| (n % period) as f32 / period as f32;
    let loudness = (along(3200) * std::f32::consts::PI).sin();
    let buzz = 2.0 * along(107) - 1.0;
    #[expect(clippy::cast_possible_truncation, reason = "within the range of i16")]
    let sample = (loudness * buzz * 12_000.0) as i16;
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_speak_four_seconds_of_fifteen() {
        let all: Vec<_> = requests(Duration::from_secs(3), 25, Duration::from_secs(18)).collect();
        // A second that is left, and from 12 s on the next four.
        assert_eq!(all[0], (Duration::ZERO, 0, 8));
        assert_eq!(all[3], (Duration::from_millis(960), 24, 1));
        assert_eq!(all[4], (Duration::from_secs(12), 25, 8));
        assert_eq!(all.len(), 4 + 13);
        assert_eq!(all.iter().map(|(.., n)| n).sum::<u32>(), 125);
        let silent: Vec<_> = requests(Duration::from_secs(5), 25, Duration::from_secs(9)).collect();
        assert_eq!(silent, []);
    }

    #[test]
    fn phases_are_those_of_the_load_test() {
        // Of its `profile::phase(1, user)`, whose test has the same.
        let first = [0, 1, 2].map(phase);
        let expected = [11_428_519, 5_525_782, 4_013_707];
        assert_eq!(first, expected.map(Duration::from_micros));
    }

    #[test]
    fn the_voice_is_loud_and_the_percentile_is_one_of_the_times() {
        let peak = (0..16_000).map(|n| voice(n).unsigned_abs()).max();
        assert!(peak.is_some_and(|peak| (8_000..13_000).contains(&peak)));
        let counts = Mutex::new(Counts {
            times: (1..=100).map(Duration::from_millis).collect(),
            frames: 50,
            n_failed: 25,
            failure: None,
        });
        let said = Counts::take(&counts, Duration::from_secs(2));
        assert_eq!(said.p95, Some(Duration::from_millis(95)));
        assert_eq!(said.median, Some(Duration::from_millis(50)));
        assert!((said.failed - 0.2).abs() < 1e-9 && (said.frames_per_s - 25.0).abs() < 1e-9);
        assert_eq!(Counts::take(&counts, Duration::from_secs(1)).p95, None);
    }
}
