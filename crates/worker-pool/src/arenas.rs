//! The host's memory that a worker's workspace keeps between runs, and when it goes back.
//!
//! A workspace grows to the largest network that it runs. It stays so for the networks that are in memory and
//! that the worker has run in the last minute; when one of them is gone, so is the memory that it alone needed.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use lipsync_engine::Generator;

use crate::cost::is_same;

/// How often an idle worker looks whether it may give memory back.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// For how long memory is kept for a network that is not run.
pub(crate) const KEEP: Duration = Duration::from_secs(60);

/// The networks that a worker's memory is kept for.
#[derive(Default)]
pub(crate) struct Arenas(Vec<Use>);

struct Use {
    generator: Weak<dyn Generator>,
    n_bytes: u64,
    last: Instant,
}

impl Arenas {
    /// The worker runs this network.
    pub(crate) fn note(&mut self, generator: &Arc<dyn Generator>, now: Instant) {
        let mut uses = self.0.iter_mut();
        match uses.find(|of| is_same(&of.generator, generator)) {
            Some(of) => of.last = now,
            None => self.0.push(Use {
                generator: Arc::downgrade(generator),
                n_bytes: generator.workspace_bytes(),
                last: now,
            }),
        }
    }

    /// Forgets networks that are gone or have not been run for a while; if there were any, what the rest
    /// needs.
    ///
    /// Nothing else makes memory go: workspaces also grow beyond the largest of their networks, where one needs
    /// more of one kind of memory and another of another, and would be emptied at every change.
    pub(crate) fn forget(&mut self, now: Instant) -> Option<u64> {
        let n_before = self.0.len();
        self.0.retain(|of| {
            of.generator.strong_count() > 0 && now.saturating_duration_since(of.last) < KEEP
        });
        let needed = self.0.iter().map(|of| of.n_bytes).max();
        (self.0.len() < n_before).then(|| needed.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fake::Fake;

    fn network(n_bytes: u64) -> Arc<dyn Generator> {
        Arc::new(Fake::with_workspace_bytes(n_bytes))
    }

    #[test]
    fn memory_is_kept_for_what_is_there_and_in_use() {
        let (small, large) = (network(10), network(4000));
        let start = Instant::now();
        let mut arenas = Arenas::default();
        arenas.note(&small, start);
        arenas.note(&large, start);
        assert_eq!(arenas.forget(start), None, "nobody is gone");
        drop(large);
        assert_eq!(arenas.forget(start), Some(10));
        assert_eq!(arenas.forget(start), None, "it is said once");
        arenas.note(&small, start + KEEP / 2);
        assert_eq!(arenas.forget(start + KEEP), None, "it was run since");
        assert_eq!(arenas.forget(start + KEEP / 2 + KEEP), Some(0));
    }
}
