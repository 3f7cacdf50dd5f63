//! Closures that say when they start, and end one by one when they are told to.

use std::{
    cell::Cell,
    pin::Pin,
    sync::{Mutex, mpsc},
};

use futures_util::FutureExt as _;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;

type Run = Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>>;

struct Stage {
    pool: CpuPool,
    starts: UnboundedSender<&'static str>,
    started: UnboundedReceiver<&'static str>,
    end: mpsc::Sender<()>,
    ends: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Stage {
    fn new(n_slots: usize) -> Self {
        let (starts, started) = unbounded_channel();
        let (end, ends) = mpsc::channel();
        Self {
            pool: CpuPool::with_slots(n_slots),
            starts,
            started,
            end,
            ends: Arc::new(Mutex::new(ends)),
        }
    }

    /// Work that has taken its place in the pool.
    async fn submit(&self, name: &'static str) -> Run {
        let pool = self.pool.of(TenantId::new(name));
        let pool = if name.starts_with("live") {
            pool.live()
        } else {
            pool
        };
        let (starts, ends) = (self.starts.clone(), Arc::clone(&self.ends));
        let mut run: Run = Box::pin(async move {
            pool.run(move || {
                starts.send(name).map_err(ServeError::internal)?;
                // A test that fails drops the sender: then everything ends.
                let _ = ends.lock().unwrap().recv();
                Ok(())
            })
            .await
        });
        assert!((&mut run).now_or_never().is_none());
        run
    }

    /// Who starts, in order, when one after the other ends.
    async fn order(&mut self, runs: Vec<Run>) -> Vec<&'static str> {
        let runs: Vec<_> = runs.into_iter().map(tokio::spawn).collect();
        let mut order = Vec::new();
        for _ in 0..self.pool.n_slots {
            order.push(self.started.recv().await.unwrap());
        }
        while order.len() < runs.len() {
            self.end.send(()).unwrap();
            order.push(self.started.recv().await.unwrap());
        }
        for _ in 0..self.pool.n_slots {
            self.end.send(()).unwrap();
        }
        for run in runs {
            run.await.unwrap().unwrap();
        }
        order
    }
}

#[tokio::test]
async fn a_session_waits_for_the_end_of_one_closure_of_a_pool_full_of_batch_work() {
    let mut stage = Stage::new(2);
    let mut runs = Vec::new();
    for _ in 0..20 {
        runs.push(stage.submit("batch").await);
    }
    runs.push(stage.submit("live").await);
    let order = stage.order(runs).await;
    assert_eq!(order.iter().position(|&name| name == "live"), Some(2));
}

/// However much one has waiting, another waits for one closure of it.
#[tokio::test]
async fn batch_work_of_several_takes_turns() {
    let mut stage = Stage::new(1);
    let mut runs = Vec::new();
    for name in ["a", "a", "a", "a", "a", "b", "b"] {
        runs.push(stage.submit(name).await);
    }
    let order = stage.order(runs).await;
    assert_eq!(order, ["a", "a", "b", "a", "b", "a", "a"]);
}

/// Whoever floods the pool with sessions keeps nobody else out, neither their sessions nor their calls.
#[tokio::test]
async fn sessions_of_several_take_turns() {
    let mut stage = Stage::new(1);
    let mut runs = Vec::new();
    for name in [
        "live a", "live a", "live a", "live a", "live b", "c", "live b",
    ] {
        runs.push(stage.submit(name).await);
    }
    let order = stage.order(runs).await;
    assert_eq!(
        order,
        [
            "live a", "live a", "live b", "c", "live a", "live b", "live a"
        ]
    );
}

#[tokio::test]
async fn batch_work_has_its_turn_in_a_pool_full_of_sessions() {
    let mut stage = Stage::new(1);
    let mut runs = Vec::new();
    for name in ["live", "batch", "live", "live", "batch"] {
        runs.push(stage.submit(name).await);
    }
    let order = stage.order(runs).await;
    assert_eq!(order, ["live", "batch", "live", "live", "batch"]);
}

#[tokio::test]
async fn held_batch_work_holds_no_session() {
    let pool = CpuPool::with_slots(2);
    let held = pool.hold_batch().await.unwrap();
    let mut batch = Box::pin(pool.run(|| Ok(1)));
    assert!((&mut batch).now_or_never().is_none());
    assert_eq!(pool.live().run(|| Ok(2)).await.unwrap(), 2);
    assert!((&mut batch).now_or_never().is_none());
    drop(held);
    assert_eq!(batch.await.unwrap(), 1);
}

#[tokio::test]
async fn many_items_take_a_closure_for_each_slot_at_a_time_and_keep_their_order() {
    let stage = Stage::new(2);
    let ends = Arc::clone(&stage.ends);
    let n_drawn = Cell::new(0);
    let items = (0..11).inspect(|_| n_drawn.set(n_drawn.get() + 1));
    let mut all = Box::pin(stage.pool.run_each(items, 2, move |&n| {
        let _ = ends.lock().unwrap().recv();
        Ok(10 * n)
    }));
    assert!((&mut all).now_or_never().is_none());
    assert_eq!(n_drawn.get(), 4);
    for _ in 0..11 {
        stage.end.send(()).unwrap();
    }
    let expected: Vec<_> = (0..11).map(|n| 10 * n).collect();
    assert_eq!(all.await.unwrap(), expected);
}

#[tokio::test]
async fn nothing_begins_after_a_failure() {
    let pool = CpuPool::with_slots(1);
    let n_drawn = Cell::new(0);
    let items = (0..11).inspect(|_| n_drawn.set(n_drawn.get() + 1));
    let done = pool.run_each(items, 1, |&n| match n {
        2 => Err(ServeError::internal("two")),
        n => Ok(n),
    });
    assert!(done.await.is_err());
    assert_eq!(n_drawn.get(), 3);
}
