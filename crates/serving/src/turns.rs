//! Turns of those who wait for the same thing: each tenant, or each address where there are no tenants, one after the
//! other, however much each of them has waiting. Nobody's weight counts here: that is for the workers' time.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use lipsync_core::{TenantId, sync::lock};
use tokio::sync::oneshot;

/// See the module.
#[derive(Debug)]
pub(crate) struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    /// More than none only while nobody waits.
    n_free: usize,
    waiting: HashMap<TenantId, VecDeque<oneshot::Sender<Turn>>>,
    /// Those that wait, each once; the one whose turn it is first.
    round: VecDeque<TenantId>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Option<Arc<Turns>>);

impl Turns {
    /// This many turns at a time.
    pub(crate) fn new(n: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            n_free: n,
            waiting: HashMap::new(),
            round: VecDeque::new(),
        })))
    }

    /// Waits for a turn of somebody; `None`: never, as turns outlast whoever waits.
    pub(crate) async fn take(self: &Arc<Self>, whose: &TenantId) -> Option<Turn> {
        let waiting = {
            let mut state = self.lock();
            if state.n_free > 0 {
                state.n_free -= 1;
                return Some(Turn(Some(Arc::clone(self))));
            }
            state.wait(whose)
        };
        waiting.await.ok()
    }

    /// A turn is over: the next one begins.
    fn pass(self: Arc<Self>) {
        loop {
            let next = self.lock().next();
            let Some(next) = next else { return };
            match next.send(Turn(Some(Arc::clone(&self)))) {
                Ok(()) => return,
                // Whoever waited has gone. Dropped as it is, it would be passed on from in here.
                Err(mut turn) => drop(turn.0.take()),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole.
        lock(&self.0)
    }
}

impl State {
    fn wait(&mut self, whose: &TenantId) -> oneshot::Receiver<Turn> {
        let (turn, waiting) = oneshot::channel();
        let queue = self.waiting.entry(whose.clone()).or_insert_with(|| {
            self.round.push_back(whose.clone());
            VecDeque::new()
        });
        // Those who have gone are as many as those who wait, at most.
        if queue.len().is_power_of_two() {
            queue.retain(|turn| !turn.is_closed());
        }
        queue.push_back(turn);
        waiting
    }

    /// Who is next; where nobody is, the turn is free.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        while let Some(whose) = self.round.pop_front() {
            let queue = self.waiting.get_mut(&whose);
            let next = queue.and_then(VecDeque::pop_front);
            if self.waiting.get(&whose).is_none_or(VecDeque::is_empty) {
                self.waiting.remove(&whose);
            } else {
                self.round.push_back(whose);
            }
            if next.is_some() {
                return next;
            }
        }
        self.n_free += 1;
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn whose(n: usize) -> TenantId {
        TenantId::new(&n.to_string())
    }

    type Waiting = std::pin::Pin<Box<dyn Future<Output = Option<Turn>>>>;

    /// Somebody who waits from now on.
    fn wait(turns: &Arc<Turns>, n: usize) -> Waiting {
        let turns = Arc::clone(turns);
        let mut waiting: Waiting = Box::pin(async move { turns.take(&whose(n)).await });
        assert!((&mut waiting).now_or_never().is_none());
        waiting
    }

    #[tokio::test]
    async fn who_has_one_thing_waiting_is_behind_one_of_each_other() {
        let turns = Turns::new(1);
        let first = turns.take(&whose(0)).await.unwrap();
        let mut waiting: Vec<_> = (0..100).map(|_| (0, wait(&turns, 0))).collect();
        waiting.push((1, wait(&turns, 1)));
        waiting.push((2, wait(&turns, 2)));
        waiting.push((1, wait(&turns, 1)));
        drop(first);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            let ready = waiting
                .iter_mut()
                .enumerate()
                .find_map(|(place, (n, w))| Some((place, *n, w.now_or_never()?)));
            let (place, n, turn) = ready.unwrap();
            order.push(n);
            drop(waiting.remove(place));
            drop(turn);
        }
        assert_eq!(order[..6], [0, 1, 2, 0, 1, 0]);
        assert_eq!(order.len(), 103);
        assert_eq!(turns.lock().n_free, 1);
        assert!(turns.lock().waiting.is_empty() && turns.lock().round.is_empty());
    }

    #[tokio::test]
    async fn who_has_gone_takes_nobodys_turn() {
        let turns = Turns::new(2);
        let held = [
            turns.take(&whose(0)).await.unwrap(),
            turns.take(&whose(0)).await.unwrap(),
        ];
        for n in 0..10_000 {
            drop(wait(&turns, n % 2));
        }
        assert!(turns.lock().waiting.values().all(|queue| queue.len() < 4));
        let last = wait(&turns, 1);
        // One that is given a turn and never learns of it.
        let unaware = wait(&turns, 2);
        drop(held);
        drop(unaware);
        drop(last.await.unwrap());
        assert_eq!(turns.lock().n_free, 2);
    }
}
