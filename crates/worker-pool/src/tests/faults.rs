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
    // The workers are through with it.
    until(|| Arc::strong_count(&gated) == 1);
    let stats = pool.stats();
    assert_eq!(stats.workers.iter().map(|w| w.restarts).sum::<u64>(), 1);
    assert_eq!(stats.failed, 1, "a job fails once");
    assert_adds_up(&stats);
}

#[test]
fn a_passing_fault_of_the_device_fails_its_job_and_rebuilds_the_session() {
    let pool = gpu_pool(8, Duration::ZERO);
    let (gated, calls) = Fake::gated();
    let gated = gated.on(GPU);
    let doomed = pool.submit(fake::job(&gated, 0..2)).unwrap();
    calls.next().go(Act::Fault { sticky: false });
    let error = wait(doomed).unwrap_err();
    assert!(matches!(
        error,
        PoolError::Engine(EngineError::DeviceFault { sticky: false, .. })
    ));
    let fake = Arc::new(Fake::default()).on(GPU);
    assert_eq!(run(&pool, fake::job(&fake, 3..5)).faces, fake::faces(3..5));
    assert_eq!(*pool.lost_device().borrow(), None);
    let worker = pool.stats().workers[0];
    assert_eq!((worker.faults, worker.restarts, worker.frames), (1, 0, 2));
}

#[test]
fn a_passing_fault_in_a_shared_batch_fails_nobody() {
    let pool = gpu_pool(8, Duration::ZERO);
    let (gated, calls) = Fake::gated();
    let gated = gated.on(GPU);
    let first = pool.submit(fake::job(&gated, 0..1)).unwrap();
    let held = calls.next();
    let second = pool.submit(fake::job(&gated, 1..2)).unwrap();
    until(|| pool.stats().queue_depth == 0);
    let others = [2, 4].map(|id| pool.submit(fake::job(&gated, id..id + 2)).unwrap());
    held.go(Act::Succeed);
    calls.next().go(Act::Succeed);
    let shared = calls.next();
    assert_eq!(shared.ids, [2, 3, 4, 5]);
    shared.go(Act::Fault { sticky: false });
    for ids in [[2, 3], [4, 5]] {
        let alone = calls.next();
        assert_eq!(alone.ids, ids);
        alone.go(Act::Succeed);
    }
    for (handle, ids) in [first, second].into_iter().zip([0..1, 1..2]) {
        assert_eq!(wait(handle).unwrap().faces, fake::faces(ids));
    }
    for (handle, ids) in others.into_iter().zip([2..4, 4..6]) {
        assert_eq!(wait(handle).unwrap().faces, fake::faces(ids));
    }
    assert_eq!(pool.stats().workers[0].faults, 1);
}

#[test]
fn a_lost_device_fails_all_that_is_there_for_it_and_refuses_more() {
    let other = Device::Cuda(1);
    let pool = start(PoolConfig {
        devices: vec![GPU, GPU, other],
        queue_capacity: 8,
        max_batch_frames: 8,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    });
    let mut lost = pool.lost_device();
    let (gated, calls) = Fake::gated();
    let gated = gated.on(GPU);
    let (first, second) = (fake::job(&gated, 0..1), fake::job(&gated, 1..2));
    let first = pool.submit(first).unwrap();
    let struck = calls.next();
    let second = pool.submit(second).unwrap();
    let running = calls.next();
    let fake = Arc::new(Fake::default());
    let waiting = pool.submit(fake::job(&gated, 2..3)).unwrap();
    struck.go(Act::Fault { sticky: true });
    let is_lost = |result| matches!(result, Err(PoolError::DeviceLost { device: GPU }));
    assert!(is_lost(wait(first)));
    assert!(lost.has_changed().unwrap());
    let report = lost.borrow_and_update().clone().unwrap();
    assert_eq!((report.device, &*report.reason), (GPU, "told to fail"));
    // What was running ends as it ends, what waited is not begun.
    running.go(Act::Succeed);
    assert_eq!(wait(second).unwrap().faces, fake::faces(1..2));
    assert!(is_lost(wait(waiting)));
    assert_eq!(gated.n_calls(), 2);
    let refused = pool.submit(fake::job(&gated, 0..1)).unwrap_err();
    assert!(matches!(refused, PoolError::DeviceLost { device: GPU }));
    let elsewhere = fake.on(other);
    let output = run(&pool, fake::job(&elsewhere, 5..6));
    assert_eq!(output.timings.workers, [2]);
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
    let ledger = Arc::new(Ledger::new(1, None));
    ledger.admit(crate::Work::Unary).unwrap();
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
