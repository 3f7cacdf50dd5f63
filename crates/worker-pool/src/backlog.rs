//! The work that waits, so that whoever comes can be told for how long.
//!
//! An estimate from below: it counts what waits, by what it is expected to cost, and not what runs. A job that is
//! refused by it would really have been late.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use lipsync_core::{TenantId, saturate::u32_of, sync::lock};
use lipsync_engine::Device;

use crate::{Claim, PoolError, Work, order::policy::level_of};

/// What waits in all queues.
#[derive(Default)]
pub(crate) struct Backlog(Mutex<BTreeMap<Device, [Level; 3]>>);

/// What waits at one level for one device.
#[derive(Debug, Default)]
struct Level {
    cost: Duration,
    tenants: HashMap<TenantId, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    weight: u32,
    n_frames: usize,
    cost: Duration,
}

impl Backlog {
    /// Frames of a job begin to wait, which take `frame_cost` each.
    pub(crate) fn add(&self, device: Device, claim: &Claim, n_frames: usize, frame_cost: Duration) {
        let cost = times(frame_cost, n_frames);
        let mut devices = lock(&self.0);
        let level = &mut devices.entry(device).or_default()[level_of(claim.priority)];
        level.cost += cost;
        let of = level
            .tenants
            .entry(claim.tenant.clone())
            .or_insert(Waiting {
                weight: 1,
                n_frames: 0,
                cost: Duration::ZERO,
            });
        of.weight = claim.weight.get();
        of.n_frames += n_frames;
        of.cost += cost;
    }

    /// Frames that were added wait no longer.
    pub(crate) fn take(
        &self,
        device: Device,
        claim: &Claim,
        n_frames: usize,
        frame_cost: Duration,
    ) {
        let cost = times(frame_cost, n_frames);
        let mut devices = lock(&self.0);
        let Some(levels) = devices.get_mut(&device) else {
            return;
        };
        let level = &mut levels[level_of(claim.priority)];
        level.cost = level.cost.saturating_sub(cost);
        if let Some(of) = level.tenants.get_mut(&claim.tenant) {
            of.n_frames = of.n_frames.saturating_sub(n_frames);
            of.cost = of.cost.saturating_sub(cost);
            if of.n_frames == 0 {
                level.tenants.remove(&claim.tenant);
            }
        }
    }

    /// How long a job that comes now waits before it is begun, at least, on a device with `n_workers`.
    ///
    /// What is more urgent goes first. On its own level, the jobs of its tenant do, in that tenant's share of the
    /// workers; or all that waits, where that is less.
    pub(crate) fn expected_wait(
        &self,
        device: Device,
        claim: &Claim,
        n_workers: usize,
    ) -> Duration {
        let devices = lock(&self.0);
        let Some(levels) = devices.get(&device) else {
            return Duration::ZERO;
        };
        let own = level_of(claim.priority);
        let above: Duration = levels[..own].iter().map(|level| level.cost).sum();
        let level = &levels[own];
        let before = level.tenants.get(&claim.tenant);
        let weight = u64::from(claim.weight.get());
        let others = level
            .tenants
            .iter()
            .filter(|(tenant, _)| **tenant != claim.tenant);
        let others: u64 = others.map(|(_, of)| u64::from(of.weight)).sum();
        let before = before.map_or(Duration::ZERO, |of| of.cost);
        let shared = before.mul_f64(1.0 + ratio(others, weight));
        let waiting = above + shared.min(level.cost);
        waiting / u32_of(n_workers.max(1))
    }
}

/// Refuses a call that would not be begun before nobody waits for it any more.
pub(crate) fn check_wait(
    claim: &Claim,
    now: Instant,
    expected: impl FnOnce() -> Duration,
) -> Result<(), PoolError> {
    if claim.work == Work::Live {
        return Ok(());
    }
    let left = claim.deadline.map(|at| at.saturating_duration_since(now));
    let limit = left.into_iter().chain(claim.max_wait).min();
    // What is too late already is not refused, but has expired.
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return Ok(());
    };
    let expected = expected();
    if expected <= limit {
        return Ok(());
    }
    Err(PoolError::WaitTooLong { expected, limit })
}

/// Weights are small, so nothing is lost.
fn ratio(one: u64, other: u64) -> f64 {
    let small = |n: u64| f64::from(u32_of(n));
    small(one) / small(other.max(1))
}

fn times(cost: Duration, n: usize) -> Duration {
    cost.saturating_mul(u32_of(n))
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use lipsync_core::{Priority, Weight};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn claim(tenant: &str, weight: u32, priority: Priority) -> Claim {
        Claim {
            tenant: TenantId::new(tenant),
            weight: Weight::new(weight).unwrap(),
            priority,
            ..Claim::default()
        }
    }

    #[test]
    fn the_wait_is_what_goes_before() {
        let backlog = Backlog::default();
        let cpu = Device::Cpu;
        let a = claim("a", 1, Priority::Normal);
        let b = claim("b", 3, Priority::Normal);
        let wait = |claim: &Claim| backlog.expected_wait(cpu, claim, 2);
        assert_eq!(wait(&a), Duration::ZERO);
        backlog.add(cpu, &a, 10, 10 * MS);
        assert_eq!(wait(&a), 50 * MS, "its own");
        assert_eq!(wait(&b), Duration::ZERO, "others have their share");
        backlog.add(cpu, &b, 10, 20 * MS);
        assert_eq!(wait(&a), 150 * MS, "all of both, as its share is a quarter");
        assert_eq!(wait(&b), 100 * MS * 4 / 3);
        assert_eq!(wait(&claim("c", 1, Priority::High)), Duration::ZERO);
        assert_eq!(wait(&claim("c", 1, Priority::Low)), 150 * MS);
        assert_eq!(
            backlog.expected_wait(Device::Cuda(0), &a, 2),
            Duration::ZERO
        );
        backlog.take(cpu, &b, 10, 20 * MS);
        backlog.take(cpu, &a, 10, 10 * MS);
        assert_eq!(wait(&claim("c", 1, Priority::Low)), Duration::ZERO);
        assert!(
            lock(&backlog.0)[&cpu]
                .iter()
                .all(|level| level.tenants.is_empty())
        );
    }
}
