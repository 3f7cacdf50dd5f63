//! What networks cost: how long they take for a frame, as measured.
//!
//! On the CPU this is the processor time of the thread and not the clock's, so a processor that others use as
//! well makes no network look slow. Other devices compute elsewhere: there it is the time of the run.

use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use lipsync_core::sync::lock;
use lipsync_engine::{Device, Generator};
use rustix::time::{ClockId, clock_gettime};

/// What a frame of a network has taken so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameCost {
    /// Where it was measured, which is where the network runs.
    pub device: Device,
    /// Time a frame: processor time on the CPU, an equal share of the run's time elsewhere. A moving figure
    /// that follows the newest run by a quarter, since a frame whose encoder half was kept takes less than one
    /// that has to be made.
    pub per_frame: Duration,
    /// Frames that were measured.
    pub n_frames: u64,
}

/// The costs of all networks that are in memory.
#[derive(Default)]
pub(crate) struct Costs(Mutex<Vec<Measured>>);

struct Measured {
    /// Weak, so that a network goes when its model does, and no later one is taken for it.
    generator: Weak<dyn Generator>,
    cost: FrameCost,
}

impl Costs {
    /// What a frame of this network takes; `None` where none was measured yet.
    pub(crate) fn of(&self, generator: &Arc<dyn Generator>) -> Option<FrameCost> {
        let costs = lock(&self.0);
        let measured = costs.iter().find(|measured| measured.is_of(generator))?;
        Some(measured.cost)
    }

    /// Takes note that `n_frames` took this long.
    pub(crate) fn note(&self, generator: &Arc<dyn Generator>, n_frames: usize, time: Duration) {
        let Some(n) = u32::try_from(n_frames).ok().filter(|&n| n > 0) else {
            return;
        };
        let per_frame = time / n;
        let mut costs = lock(&self.0);
        match costs.iter_mut().find(|measured| measured.is_of(generator)) {
            Some(Measured { cost, .. }) => {
                cost.per_frame = (cost.per_frame * 3 + per_frame) / 4;
                cost.n_frames += u64::from(n);
            }
            None => {
                costs.retain(|measured| measured.generator.strong_count() > 0);
                costs.push(Measured {
                    generator: Arc::downgrade(generator),
                    cost: FrameCost {
                        device: generator.device(),
                        per_frame,
                        n_frames: u64::from(n),
                    },
                });
            }
        }
    }
}

impl Measured {
    fn is_of(&self, generator: &Arc<dyn Generator>) -> bool {
        is_same(&self.generator, generator)
    }
}

/// Whether both are the same network.
pub(crate) fn is_same(known: &Weak<dyn Generator>, generator: &Arc<dyn Generator>) -> bool {
    // The address alone: a network may be known by several tables of functions. It is nobody else's as long as
    // `known` keeps the allocation.
    std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(generator))
}

impl fmt::Debug for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Costs").finish_non_exhaustive()
    }
}

/// Processor time that this thread has used so far.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fake::Fake;

    const MS: Duration = Duration::from_millis(1);

    fn per_frame(costs: &Costs, network: &Arc<dyn Generator>) -> Option<Duration> {
        costs.of(network).map(|cost| cost.per_frame)
    }

    #[test]
    fn a_cost_follows_what_is_measured_and_goes_with_its_network() {
        let costs = Costs::default();
        let network: Arc<dyn Generator> = Arc::new(Fake::default());
        let other: Arc<dyn Generator> = Arc::new(Fake::default());
        assert_eq!(per_frame(&costs, &network), None);
        costs.note(&network, 2, 80 * MS);
        costs.note(&other, 1, MS);
        costs.note(&network, 0, 900 * MS);
        assert_eq!(per_frame(&costs, &network), Some(40 * MS));
        costs.note(&network, 4, 320 * MS);
        assert_eq!(per_frame(&costs, &network), Some(50 * MS));
        let cost = costs.of(&network).unwrap();
        assert_eq!((cost.n_frames, cost.device), (6, Device::Cpu));
        assert_eq!(per_frame(&costs, &other), Some(MS));
        drop(network);
        let third: Arc<dyn Generator> = Arc::new(Fake::default());
        assert_eq!(per_frame(&costs, &third), None);
        costs.note(&third, 1, MS);
        let held = costs.0.lock().unwrap();
        assert_eq!(held.len(), 2, "the one that is gone is forgotten");
    }

    #[test]
    fn a_thread_is_charged_for_its_own_work_only() {
        let before = thread_time();
        while thread_time() == before {
            std::hint::black_box(before);
        }
        let after = std::thread::spawn(thread_time).join().unwrap();
        assert!(after < thread_time() + Duration::from_secs(1));
    }
}
