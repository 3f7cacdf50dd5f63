//! How fast the messages of sessions are read, and of other calls that send many.
//!
//! A voice sends some fifty messages a second. Each costs its client a few bytes and the server some microseconds: it is
//! taken in, the producer looks for what to do, whoever waits for answers is woken. Sessions that say as much as fits into
//! their windows, and begin again when that has ended them, keep the cores from everybody. So what a tenant, or an
//! address, may say in all of them together has a rate. More is left unread until it is time, as if the network were slow:
//! nothing is refused or lost.

use std::{sync::Arc, time::Duration};

use lipsync_core::{TenantId, saturate::u32_of};

use crate::starts::{StartRate, Starts, pause};

/// Messages a second for each session that there may be, and as many at once. Ten milliseconds of audio a message, and
/// as many ends and interruptions, are two hundred.
const PER_SESSION: u32 = 200;
/// Sessions that are counted at least: a small server may be sent audio in a hurry.
const MIN_SESSIONS: usize = 100;
/// What beginning a session costs, in messages.
const OPENING: u32 = 50;
/// Messages that are counted together.
const TOGETHER: u32 = 32;
/// Whoever would have to wait for longer is not counted, and waits for this long: what has been begun and given up must
/// not add up.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is read of one call.
#[derive(Debug)]
pub struct Talk {
    talks: Arc<Starts<TenantId>>,
    /// Who takes turns with others; `None`: nobody is told apart.
    whose: Option<TenantId>,
    rate: StartRate,
    n_left: u32,
}

impl Talk {
    /// That of a call of somebody, where there may be so many sessions.
    pub(crate) fn new(
        talks: Arc<Starts<TenantId>>,
        whose: Option<TenantId>,
        max_sessions: usize,
    ) -> Self {
        let per_second = PER_SESSION.saturating_mul(u32_of(max_sessions.max(MIN_SESSIONS)));
        Self {
            talks,
            whose,
            rate: StartRate {
                per_second,
                burst: per_second,
            },
            n_left: 0,
        }
    }

    /// Waits until a session may be begun.
    pub(crate) async fn opens(&self) {
        pause(self.count(OPENING)).await;
    }

    /// Waits until the next message may be taken.
    pub(crate) async fn listens(&mut self) {
        pause(self.hears()).await;
    }

    /// Counts a message, and says how long it has to wait.
    pub fn hears(&mut self) -> Duration {
        if self.n_left > 0 {
            self.n_left -= 1;
            return Duration::ZERO;
        }
        self.n_left = TOGETHER - 1;
        self.count(TOGETHER)
    }

    fn count(&self, n: u32) -> Duration {
        let Some(whose) = &self.whose else {
            return Duration::ZERO;
        };
        let wait = self.talks.wait_for(n, whose, self.rate, PATIENCE);
        wait.unwrap_or(PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::Instant;

    use super::*;

    fn talk(talks: &Arc<Starts<TenantId>>, whose: &str) -> Talk {
        Talk::new(Arc::clone(talks), Some(TenantId::new(whose)), 100)
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_very_much_is_heard_in_its_time_and_others_at_once() {
        let (talks, began) = (Arc::default(), Instant::now());
        let rate = talk(&talks, "a").rate;
        // In many sessions, which begin and end: a new one has no more than the old ones.
        let mut n_heard = 0;
        while n_heard < 3 * rate.per_second {
            let mut session = talk(&talks, "a");
            session.opens().await;
            for _ in 0..TOGETHER * 40 {
                session.listens().await;
                n_heard += 1;
            }
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(2), "{took:?}");
        assert!(took <= Duration::from_millis(2400), "{took:?}");
        let other = talk(&talks, "b");
        assert!(other.opens().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_that_are_given_up_do_not_add_up() {
        let talks = Arc::default();
        let began = Instant::now();
        for _ in 0..100_000 {
            let given_up = talk(&talks, "a");
            let _ = given_up.opens().now_or_never();
        }
        talk(&talks, "a").opens().await;
        assert!(began.elapsed() <= 2 * PATIENCE, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_voice_in_each_session_never_waits() {
        let talks = Arc::default();
        let mut voices: Vec<_> = (0..100).map(|_| talk(&talks, "a")).collect();
        for voice in &mut voices {
            voice.opens().await;
        }
        let began = Instant::now();
        for n in 1..=500_u32 {
            for voice in &mut voices {
                voice.listens().await;
            }
            assert_eq!(began.elapsed(), Duration::from_millis(10) * (n - 1));
            tokio::time::advance(Duration::from_millis(10)).await;
        }
    }
}
