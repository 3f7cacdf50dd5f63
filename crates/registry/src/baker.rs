//! Baking in the background: one avatar at a time, after those that serve.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{
        Arc, Condvar, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lipsync_core::{ModelId, saturate::millis, sync::unpoisoned};

use crate::{PackFault, bake::BakeEffort, frames::Frames, lock};

/// The avatars that wait for their pack. A thread runs only while there are some.
#[derive(Default)]
pub(crate) struct Baker {
    state: Mutex<State>,
    /// Told when the thread ends.
    ended: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Each model at most once. Models that are dropped before their turn are skipped.
    queue: VecDeque<(ModelId, Weak<Frames>)>,
    is_running: bool,
}

impl Baker {
    /// Has a pack baked when its turn comes.
    pub(crate) fn enqueue(self: &Arc<Self>, id: &ModelId, frames: &Arc<Frames>) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        let mut state = lock(&self.state);
        state.queue.retain(|(queued, _)| queued != id);
        state.queue.push_back((id.clone(), Arc::downgrade(frames)));
        if state.is_running {
            return;
        }
        let baker = Arc::clone(self);
        let thread = thread::Builder::new().name("baker".into());
        match thread.spawn(move || baker.run()) {
            Ok(_) => state.is_running = true,
            // It stays queued; the next one tries again.
            Err(error) => tracing::warn!(%error, "cannot start a thread for baking"),
        }
    }

    /// Ends what is being baked, without leaving a part of it, and bakes nothing any more.
    ///
    /// Blocks until that is done, at most for `limit`.
    pub(crate) fn stop(&self, limit: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let mut state = lock(&self.state);
        state.queue.clear();
        let ended = self
            .ended
            .wait_timeout_while(state, limit, |state| state.is_running);
        drop(unpoisoned(ended));
    }

    fn run(&self) {
        let _end = End(self);
        loop {
            let (id, frames) = {
                let mut state = lock(&self.state);
                match state.queue.pop_front() {
                    Some(next) => next,
                    None => {
                        state.is_running = false;
                        return;
                    }
                }
            };
            if let Some(frames) = frames.upgrade() {
                self.bake(&id, &frames);
            }
        }
    }

    fn bake(&self, id: &ModelId, frames: &Frames) {
        let n_cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let effort = BakeEffort {
            // Half of the cores, which requests take back as they need them.
            n_threads: NonZeroUsize::new(n_cores / 2).unwrap_or(NonZeroUsize::MIN),
            is_background: true,
            stop: &self.stop,
        };
        let started = Instant::now();
        tracing::info!(model = %id, "baking");
        match frames.bake(&effort, &mut |_| ()) {
            Ok(pack) => {
                let (bake_ms, n_bytes) = (millis(started.elapsed()), pack.n_bytes());
                tracing::info!(model = %id, bake_ms, n_bytes, "pack ready");
            }
            Err(PackFault::Busy) => {
                tracing::info!(model = %id, "another process is baking the pack");
            }
            Err(PackFault::Stopped) => tracing::info!(model = %id, "baking stopped"),
            Err(PackFault::Unwritable { .. }) => {
                tracing::warn!(model = %id, "set cache_dir to put packs elsewhere");
            }
            // It was said when the state changed.
            Err(_) => {}
        }
    }
}

/// Says that the thread has ended, if it is by a panic: otherwise another may run by then.
struct End<'a>(&'a Baker);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            lock(&self.0.state).is_running = false;
        }
        self.0.ended.notify_all();
    }
}
