//! A gate that networks stop at.

use std::{
    ops::Deref,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use lipsync_core::sync::lock;

/// Open unless it was closed.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    n_held: usize,
    n_passed: u64,
}

impl Gate {
    /// Holds everything that comes from now on.
    pub fn close(&self) {
        self.set_closed(true);
    }

    /// Lets everything pass, and what is held go on.
    pub fn open(&self) {
        self.set_closed(false);
    }

    fn set_closed(&self, is_closed: bool) {
        lock(&self.state).is_closed = is_closed;
        self.changed.notify_all();
    }

    /// Blocks while the gate is closed.
    pub fn pass(&self) {
        let mut state = lock(&self.state);
        state.n_held += 1;
        self.changed.notify_all();
        let mut state = self.wait_while(state, |state| state.is_closed);
        state.n_held -= 1;
        state.n_passed += 1;
    }

    /// Returns once `n` are held.
    pub fn wait_for_held(&self, n: usize) {
        drop(self.wait_while(lock(&self.state), |state| state.n_held < n));
    }

    /// How many went through.
    #[must_use]
    pub fn n_passed(&self) -> u64 {
        lock(&self.state).n_passed
    }

    fn wait_while<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        is_early: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_while(state, |state| is_early(state));
        waited.expect("nobody panics with the gate's state in hand")
    }
}

/// A closed gate that opens when this is dropped: a test that fails must not leave a worker behind it.
#[derive(Debug)]
pub struct HeldGate(Arc<Gate>);

impl HeldGate {
    /// Closes the gate.
    #[must_use]
    pub fn close(gate: &Arc<Gate>) -> Self {
        gate.close();
        Self(Arc::clone(gate))
    }
}

impl Deref for HeldGate {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.0
    }
}

impl Drop for HeldGate {
    fn drop(&mut self) {
        self.0.open();
    }
}
