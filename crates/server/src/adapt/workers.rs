//! Workers that join and leave by what the load needs.

use std::{sync::Arc, time::Instant};

use lipsync_engine::Device;
use lipsync_worker_pool::{
    PoolError, PoolStats, WorkerPool,
    scaling::{Change, LOOK_INTERVAL, Look, Scaler, WorkerRange},
};
use tokio::time::MissedTickBehavior;

use super::Events;
use crate::core_state::Shared;

/// Has as many workers as the load needs, of these devices, until it is dropped.
pub(crate) async fn keep_scaling(shared: Arc<Shared>, range: WorkerRange, devices: Vec<Device>) {
    let range = WorkerRange {
        // Each device has one.
        min: range.min.max(devices.len()),
        ..range
    };
    let mut scaler = Scaler::new(range);
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let stats = shared.pipeline.workers.stats();
        let look = Look {
            now: begun.elapsed(),
            n_expected: shared.outlook.n_workers(),
            ..look(&stats)
        };
        let Some(change) = scaler.look(look) else {
            continue;
        };
        let (pool, events) = (
            Arc::clone(&shared.pipeline.workers),
            Arc::clone(&shared.events),
        );
        let devices = devices.clone();
        // Whoever joins gets ready first, which takes its time on a GPU.
        let changing = tokio::task::spawn_blocking(move || {
            follow(&pool, &devices, &change, &events);
        });
        if let Err(error) = changing.await {
            tracing::error!(%error, "the number of workers could not be changed");
        }
    }
}

/// What a pool has done, in the words of a [`Scaler`], but for the time and what is expected.
fn look(stats: &PoolStats) -> Look {
    let times = stats.times;
    Look {
        n_workers: stats.n_workers(),
        work: stats.workers.iter().map(|worker| worker.work as f64).sum(),
        busy: stats.workers.iter().map(|worker| worker.busy).sum(),
        n_begun: times.n_begun,
        waited: times.waited,
        n_done: times.n_done,
        lasted: times.lasted,
        n_wide: times.n_wide,
        n_waiting: stats.queue_depth,
        ..Look::default()
    }
}

/// Makes a change, one worker after the other, and notes it.
fn follow(pool: &WorkerPool, devices: &[Device], change: &Change, events: &Events) {
    let Change { from, to, reason } = *change;
    let (n_workers, changed) = if to > from {
        let joined = (from..to).try_fold(from, |n_workers, _| match join_one(pool, devices) {
            Ok(()) => Ok(n_workers + 1),
            Err(error) => Err((n_workers, error)),
        });
        joined.map_or_else(|(n, error)| (n, Err(error)), |n| (n, Ok(())))
    } else {
        let (n_gone, changed) = leave(pool, from - to);
        (from - n_gone, changed)
    };
    if let Err(error) = changed {
        // The next look finds how many there are.
        tracing::warn!(%error, "the number of workers could not be changed");
    }
    if n_workers != from {
        let text = format!("{from} workers become {n_workers}: {reason}");
        events.note("workers", reason.name(), text);
    }
}

/// Has this many workers on these devices. Those that leave may still have work when it returns. It blocks: whoever joins
/// gets ready first.
///
/// # Errors
/// What kept one from joining or leaving.
pub(crate) fn have_workers(
    pool: &WorkerPool,
    devices: &[Device],
    n_workers: usize,
) -> Result<(), PoolError> {
    let n_now = pool.stats().n_workers();
    for _ in n_now..n_workers {
        join_one(pool, devices)?;
    }
    leave(pool, n_now.saturating_sub(n_workers)).1
}

/// Adds a worker where there are fewest.
fn join_one(pool: &WorkerPool, devices: &[Device]) -> Result<(), PoolError> {
    let stats = pool.stats();
    let n_on = |device: &Device| {
        let here = stats.workers.iter().filter(|worker| worker.is_here);
        here.filter(|worker| worker.device == *device).count()
    };
    match devices.iter().min_by_key(|device| n_on(device)) {
        Some(&device) => pool.join_worker(device).map(drop),
        None => Ok(()),
    }
}

/// Lets `n` workers go, one after the other: each time the newest where there are most. How many have gone, and what
/// kept the rest.
fn leave(pool: &WorkerPool, n: usize) -> (usize, Result<(), PoolError>) {
    let stats = pool.stats();
    let workers = stats.workers.iter().enumerate();
    let here = workers.filter(|(_, worker)| worker.is_here);
    // Those that leave are still there while they have batches, so all are chosen from one count.
    let mut here: Vec<_> = here.map(|(number, of)| (number, of.device)).collect();
    let mut n_gone = 0;
    while n_gone < n {
        let n_beside = |device| here.iter().filter(|&&(_, of)| of == device).count();
        let newest = (0..here.len()).max_by_key(|&place| (n_beside(here[place].1), here[place].0));
        let Some(newest) = newest else { break };
        match pool.leave_worker(here.remove(newest).0) {
            Ok(_) => n_gone += 1,
            // It is leaving already.
            Err(PoolError::NoSuchWorker { .. }) => {}
            Err(error) => return (n_gone, Err(error)),
        }
    }
    (n_gone, Ok(()))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use lipsync_worker_pool::{PoolConfig, Recovery, Scheduling, scaling::Reason};

    use super::*;

    const GPUS: [Device; 2] = [Device::Cuda(0), Device::Cuda(1)];

    fn n_by_device(pool: &WorkerPool) -> Vec<usize> {
        let mut counts: BTreeMap<Device, usize> = BTreeMap::new();
        for worker in pool.stats().workers.iter().filter(|worker| worker.is_here) {
            *counts.entry(worker.device).or_default() += 1;
        }
        counts.into_values().collect()
    }

    #[test]
    fn workers_are_spread_over_the_devices_as_they_come_and_go() {
        let config = PoolConfig {
            devices: GPUS.to_vec(),
            queue_capacity: 4,
            max_batch_frames: 4,
            max_batch_wait: Duration::ZERO,
            scheduling: Scheduling::default(),
            recovery: Recovery::none(),
        };
        let pool = WorkerPool::start(config, Arc::new(())).unwrap();
        let events = Events::default();
        let reason = Reason::Expected;
        let change = |from, to| Change { from, to, reason };
        follow(&pool, &GPUS, &change(2, 5), &events);
        assert_eq!(n_by_device(&pool), [3, 2]);
        follow(&pool, &GPUS, &change(5, 8), &events);
        assert_eq!(n_by_device(&pool), [4, 4]);
        assert_eq!(look(&pool.stats()).n_workers, 8);
        follow(&pool, &GPUS, &change(8, 2), &events);
        while pool.stats().n_workers() > 2 {
            std::thread::yield_now();
        }
        assert_eq!(n_by_device(&pool), [1, 1]);
        for n_workers in [5, 2, 2] {
            have_workers(&pool, &GPUS, n_workers).unwrap();
            while pool.stats().n_workers() > n_workers {
                std::thread::yield_now();
            }
            assert_eq!(n_by_device(&pool).iter().sum::<usize>(), n_workers);
        }
        assert_eq!(n_by_device(&pool), [1, 1]);
        let texts: Vec<_> = events
            .latest()
            .into_iter()
            .map(|event| event.text)
            .collect();
        assert_eq!(texts.len(), 3);
        assert!(
            texts[0].starts_with("2 workers become 5: more load"),
            "{texts:?}"
        );
    }
}
