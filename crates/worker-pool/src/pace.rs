//! How long networks take for a frame, as measured: what the dispatcher cuts chunks by.
//!
//! Time is that of the thread and not of the clock, so a processor that others use as well makes no network
//! look slow. Devices other than the host compute elsewhere; nothing is measured there.

use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use lipsync_core::sync::lock;
use lipsync_engine::Generator;
use rustix::time::{ClockId, clock_gettime};

/// The paces of all networks that are in memory.
#[derive(Default)]
pub(crate) struct Paces(Mutex<Vec<Pace>>);

struct Pace {
    /// Weak, so that a network goes when its model does, and no later one is taken for it.
    generator: Weak<dyn Generator>,
    per_frame: Duration,
}

impl Paces {
    /// Processor time that a frame of this network takes; `None` where none was measured yet.
    pub(crate) fn of(&self, generator: &Arc<dyn Generator>) -> Option<Duration> {
        let paces = lock(&self.0);
        let pace = paces.iter().find(|pace| pace.is_of(generator))?;
        Some(pace.per_frame)
    }

    /// Takes note that `n_frames` took so long. A quarter of the pace is the newest measurement: a frame
    /// whose encoder half was kept takes less than one that has to be made.
    pub(crate) fn note(&self, generator: &Arc<dyn Generator>, n_frames: usize, busy: Duration) {
        let Some(n_frames) = u32::try_from(n_frames).ok().filter(|&n| n > 0) else {
            return;
        };
        let measured = busy / n_frames;
        let mut paces = lock(&self.0);
        match paces.iter_mut().find(|pace| pace.is_of(generator)) {
            Some(pace) => pace.per_frame = (pace.per_frame * 3 + measured) / 4,
            None => {
                paces.retain(|pace| pace.generator.strong_count() > 0);
                paces.push(Pace {
                    generator: Arc::downgrade(generator),
                    per_frame: measured,
                });
            }
        }
    }
}

impl Pace {
    fn is_of(&self, generator: &Arc<dyn Generator>) -> bool {
        // The address alone: a network may be known by several tables of functions.
        std::ptr::addr_eq(self.generator.as_ptr(), Arc::as_ptr(generator))
    }
}

impl fmt::Debug for Paces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paces").finish_non_exhaustive()
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

    #[test]
    fn a_pace_follows_what_is_measured_and_goes_with_its_network() {
        let paces = Paces::default();
        let network: Arc<dyn Generator> = Arc::new(Fake::default());
        let other: Arc<dyn Generator> = Arc::new(Fake::default());
        assert_eq!(paces.of(&network), None);
        paces.note(&network, 2, 80 * MS);
        paces.note(&other, 1, MS);
        paces.note(&network, 0, 900 * MS);
        assert_eq!(paces.of(&network), Some(40 * MS));
        paces.note(&network, 4, 320 * MS);
        assert_eq!(paces.of(&network), Some(50 * MS));
        assert_eq!(paces.of(&other), Some(MS));
        drop(network);
        let third: Arc<dyn Generator> = Arc::new(Fake::default());
        assert_eq!(paces.of(&third), None);
        paces.note(&third, 1, MS);
        let held = paces.0.lock().unwrap();
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
