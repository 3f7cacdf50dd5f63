//! Generators that fail: one job ends, nothing else notices.

use lipsync_engine::EngineError;

use super::{
    fake::{self, Act, Fake},
    *,
};
use crate::{stats::Ledger, task::Task};

#[test]
fn a_panic_fails_its_job_and_the_worker_is_rebuilt() {
    let pool = pool(1, 8, 8);
    let (gated, calls) = Fake::gated();
    let fake = Arc::new(Fake::default());
    let doomed = pool.submit(fake::job(&gated, 0..2)).unwrap();
    let others: Vec<_> = (0..3)
        .map(|i| pool.submit(fake::job(&fake, i..i + 2)).unwrap())
        .collect();
    calls.next().go(Act::Panic);
    assert!(matches!(wait(doomed), Err(PoolError::Panicked)));
    for (i, handle) in (0..).zip(others) {
        assert_eq!(wait(handle).unwrap().faces, fake::faces(i..i + 2));
    }
    let stats = pool.stats();
    assert_eq!((stats.failed, stats.completed), (1, 3));
    let worker = stats.workers[0];
    assert_eq!((worker.restarts, worker.batches, worker.frames), (1, 4, 6));
    assert_adds_up(&stats);
}

#[test]
fn an_engine_error_fails_its_job_and_skips_the_rest_of_it() {
    let pool = pool(1, 8, 1);
    let (gated, calls) = Fake::gated();
    let doomed = pool.submit(fake::job(&gated, 0..4)).unwrap();
    let other = pool
        .submit(fake::job(&Arc::new(Fake::default()), 7..9))
        .unwrap();
    calls.next().go(Act::Succeed);
    calls.next().go(Act::Fail);
    let error = wait(doomed).unwrap_err();
    assert!(matches!(
        error,
        PoolError::Engine(EngineError::Device { .. })
    ));
    assert_eq!(wait(other).unwrap().faces, fake::faces(7..9));
    assert_eq!(gated.n_calls(), 2);
    let stats = pool.stats();
    assert_eq!((stats.failed, stats.completed), (1, 1));
    assert_eq!(stats.workers[0].restarts, 0);
    assert_adds_up(&stats);
}

#[test]
fn the_first_error_of_a_split_job_counts() {
    let pool = pool(2, 8, 1);
    let (gated, calls) = Fake::gated();
    let handle = pool.submit(fake::job(&gated, 0..2)).unwrap();
    let (first, second) = (calls.next(), calls.next());
    second.go(Act::Fail);
    let error = wait(handle).unwrap_err();
    assert!(matches!(error, PoolError::Engine(_)));
    first.go(Act::Panic);
    until(|| pool.stats().workers.iter().map(|w| w.restarts).sum::<u64>() == 1);
    assert_eq!(pool.stats().failed, 1, "a job fails once");
}

#[test]
fn a_missing_face_is_an_engine_error() {
    let pool = pool(1, 8, 8);
    let handle = pool
        .submit(fake::job(&Fake::that(Act::Short), 0..3))
        .unwrap();
    match wait(handle).unwrap_err() {
        PoolError::Engine(EngineError::Input {
            expected, actual, ..
        }) => assert_eq!((expected, actual), (3, 2)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_that_every_thread_let_go_of_is_lost() {
    let ledger = Arc::new(Ledger::new(1, 1));
    ledger.admit().unwrap();
    let job = fake::job(&Arc::new(Fake::default()), 0..1);
    let (task, handle) = Task::accept(job, Arc::clone(&ledger));
    drop(task);
    assert!(matches!(wait(handle), Err(PoolError::Lost)));
    let stats = ledger.snapshot();
    assert_eq!(
        (stats.failed, stats.queue_depth, stats.in_flight),
        (1, 0, 0)
    );
}
