//! How many frames a second each tenant has had generated.
//!
//! A token bucket without tokens (the generic cell rate algorithm): of each tenant there is one moment, at which its
//! bucket will be full again. A frame moves it by the tenant's time for one frame. It may lie no further ahead than
//! its burst takes.
//!
//! Sessions that are paced are never slowed down, as that would break their speech: when one opens, the frames a
//! second of its model are booked, and more than the rate cannot be booked. Their frames count all the same, so that
//! calls have what is left.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use lipsync_core::{TenantId, saturate::u64_of, sync::lock};
use tokio::time::Instant;

use crate::rights::FrameRate;

/// The most that paced sessions can leave to be paid by the tenant's next calls: their rate may have been lowered
/// while they last.
const MAX_DEBT: Duration = Duration::from_secs(60);
/// Tenants that are looked through at least, before those at rest are forgotten.
const MIN_SWEEP: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    buckets: HashMap<TenantId, Bucket>,
    /// Tenants at which those at rest are forgotten.
    sweep_at: usize,
}

#[derive(Debug)]
struct Bucket {
    full_at: Instant,
    /// Frames a second of paced sessions that are open.
    booked_fps: u32,
}

/// Frames that were counted for work that may still be refused: then they are given back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Charge {
    rates: Arc<Rates>,
    tenant: TenantId,
    cost: Duration,
    is_begun: bool,
}

/// Frames a second of a session, while it is open.
#[derive(Debug)]
pub(crate) struct Booking {
    rates: Arc<Rates>,
    tenant: TenantId,
    fps: u32,
}

impl FrameRate {
    /// What `n` frames take.
    fn cost(self, n: usize) -> Duration {
        let nanos = u64_of(n).saturating_mul(1_000_000_000) / u64::from(self.per_second.max(1));
        Duration::from_nanos(nanos)
    }

    fn burst_cost(self) -> Duration {
        self.cost(lipsync_core::saturate::usize_of(self.burst))
    }
}

impl Rates {
    /// Counts `n` frames, if there are that many now.
    ///
    /// # Errors
    /// When there will be, if nothing else is counted until then; `None`: they are more than a burst.
    pub(crate) fn charge(
        self: &Arc<Self>,
        tenant: &TenantId,
        rate: FrameRate,
        n: usize,
    ) -> Result<Charge, Option<Duration>> {
        let cost = rate.cost(n);
        let burst = rate.burst_cost();
        if cost > burst {
            return Err(None);
        }
        let now = Instant::now();
        let mut state = self.lock();
        let bucket = state.bucket(tenant, now);
        let full_at = bucket.full_at.max(now) + cost;
        let ahead = full_at - now;
        if ahead > burst {
            return Err(Some(ahead - burst));
        }
        bucket.full_at = full_at;
        Ok(Charge {
            rates: Arc::clone(self),
            tenant: tenant.clone(),
            cost,
            is_begun: false,
        })
    }

    /// How long work that is not paced has to wait before `n` frames of it are due.
    pub(crate) fn wait(&self, tenant: &TenantId, rate: FrameRate, n: usize) -> Duration {
        let now = Instant::now();
        let mut state = self.lock();
        let full_at = state.bucket(tenant, now).full_at;
        let burst = rate.burst_cost();
        let ahead = full_at.saturating_duration_since(now) + rate.cost(n).min(burst);
        ahead.saturating_sub(burst)
    }

    /// Counts `n` frames, whether there are that many or not.
    pub(crate) fn owe(&self, tenant: &TenantId, rate: FrameRate, n: usize) {
        let now = Instant::now();
        let mut state = self.lock();
        let bucket = state.bucket(tenant, now);
        let furthest = now + rate.burst_cost() + MAX_DEBT;
        bucket.full_at = (bucket.full_at.max(now) + rate.cost(n)).min(furthest);
    }

    /// Books the frames a second of a session.
    ///
    /// # Errors
    /// What is booked already, if there would be too many.
    pub(crate) fn book(
        self: &Arc<Self>,
        tenant: &TenantId,
        rate: FrameRate,
        fps: u32,
    ) -> Result<Booking, u32> {
        let mut state = self.lock();
        let bucket = state.bucket(tenant, Instant::now());
        let booked = bucket.booked_fps.saturating_add(fps);
        if booked > rate.per_second {
            return Err(bucket.booked_fps);
        }
        bucket.booked_fps = booked;
        Ok(Booking {
            rates: Arc::clone(self),
            tenant: tenant.clone(),
            fps,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole.
        lock(&self.0)
    }
}

impl State {
    fn bucket(&mut self, tenant: &TenantId, now: Instant) -> &mut Bucket {
        if !self.buckets.contains_key(tenant) && self.buckets.len() >= self.sweep_at {
            let is_busy = |bucket: &Bucket| bucket.full_at > now || bucket.booked_fps > 0;
            self.buckets.retain(|_, bucket| is_busy(bucket));
            self.sweep_at = (self.buckets.len() * 2).max(MIN_SWEEP);
        }
        self.buckets.entry(tenant.clone()).or_insert(Bucket {
            full_at: now,
            booked_fps: 0,
        })
    }
}

impl Charge {
    /// The work is handed to the workers: from now on the frames count, even if their client leaves.
    pub(crate) fn begin(&mut self) {
        self.is_begun = true;
    }

    /// The workers have not taken it on.
    pub(crate) fn give_back(mut self) {
        self.is_begun = false;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.is_begun {
            return;
        }
        if let Some(bucket) = self.rates.lock().buckets.get_mut(&self.tenant) {
            let before = bucket.full_at.checked_sub(self.cost);
            bucket.full_at = before.unwrap_or(bucket.full_at);
        }
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        if let Some(bucket) = self.rates.lock().buckets.get_mut(&self.tenant) {
            bucket.booked_fps = bucket.booked_fps.saturating_sub(self.fps);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const RATE: FrameRate = FrameRate {
        per_second: 100,
        burst: 64,
    };

    fn tenant(n: usize) -> TenantId {
        TenantId::new(&format!("t{n}"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_says_truly_when_there_will_be_room() {
        let (rates, a) = (Arc::new(Rates::default()), tenant(1));
        let charge = |n| rates.charge(&a, RATE, n);
        charge(64).unwrap().begin();
        let wait = charge(10).unwrap_err().unwrap();
        assert_eq!(wait, Duration::from_millis(100));
        advance(wait - Duration::from_nanos(1)).await;
        assert!(charge(10).is_err());
        advance(Duration::from_nanos(1)).await;
        charge(10).unwrap().begin();
        assert!(charge(1).is_err());
        assert_eq!(charge(65).unwrap_err(), None, "more than ever fits");
        assert!(
            rates.charge(&tenant(2), RATE, 64).is_ok(),
            "others have theirs"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn over_time_it_is_the_rate_and_a_burst() {
        let (rates, a) = (Arc::new(Rates::default()), tenant(1));
        let mut n_frames = 0;
        for _ in 0..1000 {
            if let Ok(mut charge) = rates.charge(&a, RATE, 7) {
                charge.begin();
                n_frames += 7;
            }
            advance(Duration::from_millis(10)).await;
        }
        assert!((1000..=1064).contains(&n_frames), "{n_frames} in 10 s");
    }

    #[tokio::test(start_paused = true)]
    async fn refused_work_gives_its_frames_back() {
        let (rates, a) = (Arc::new(Rates::default()), tenant(1));
        for _ in 0..100 {
            drop(rates.charge(&a, RATE, 64).unwrap());
            let mut begun = rates.charge(&a, RATE, 64).unwrap();
            begun.begin();
            begun.give_back();
        }
        assert!(rates.charge(&a, RATE, 64).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn paced_sessions_are_booked_and_never_wait_but_calls_pay_for_them() {
        let (rates, a) = (Arc::new(Rates::default()), tenant(1));
        let sessions: Vec<_> = (0..4).map(|_| rates.book(&a, RATE, 25).unwrap()).collect();
        assert_eq!(rates.book(&a, RATE, 25).unwrap_err(), 100);
        rates.owe(&a, RATE, 164);
        let wait = rates.charge(&a, RATE, 1).unwrap_err().unwrap();
        assert_eq!(wait, Duration::from_millis(1010));
        assert_eq!(rates.wait(&a, RATE, 8), Duration::from_millis(1080));
        drop(sessions);
        assert!(rates.book(&a, RATE, 100).is_ok());
        // However much they owe, it is over some day.
        (0..100).for_each(|_| rates.owe(&a, RATE, 4096));
        advance(MAX_DEBT + Duration::from_secs(1)).await;
        assert!(rates.charge(&a, RATE, 1).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_at_rest_are_forgotten() {
        let rates = Arc::new(Rates::default());
        for n in 0..10_000 {
            rates.owe(&tenant(n), RATE, 1);
            advance(Duration::from_millis(10)).await;
        }
        assert!(rates.lock().buckets.len() <= 2 * MIN_SWEEP);
    }
}
