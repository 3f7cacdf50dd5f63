//! Faults that pass, frames that fail alone, batches that fail as such, networks that keep failing, and calls that
//! would wait for too long.

use std::sync::atomic::Ordering;

use lipsync_engine::{EngineError, Generator};

use super::{
    fake::{self, Act, Fake},
    *,
};
use crate::{BreakerRules, BreakerState, Claim, RecoveryStats, cost::thread_time};

const MS: Duration = Duration::from_millis(1);

fn recovering(n_workers: usize, recovery: Recovery) -> WorkerPool {
    start(PoolConfig {
        devices: vec![Device::Cpu; n_workers],
        queue_capacity: 64,
        max_batch_frames: 8,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery,
    })
}

/// Runs again at once, and refuses nothing.
fn patient(max_tries: u32) -> Recovery {
    Recovery {
        max_tries,
        backoff: MS,
        breaker: None,
    }
}

/// Two frames that fail, and two that do not.
const HALF_BAD: std::ops::Range<u32> = (1 << 31) - 2..(1 << 31) + 2;

#[test]
fn frames_that_failed_are_run_again() {
    let pool = recovering(1, patient(3));
    let (gated, calls) = Fake::gated();
    let handle = pool.submit(fake::job(&gated, 0..1)).unwrap();
    calls.next().go(Act::Fail);
    calls.next().go(Act::Fault { sticky: false });
    calls.next().go(Act::Succeed);
    assert_eq!(wait(handle).unwrap().faces, fake::faces(0..1));
    let stats = pool.stats();
    let expected = RecoveryStats {
        failed_batches: 2,
        retries: 2,
        recovered: 1,
        ..RecoveryStats::default()
    };
    assert_eq!(stats.recovery, expected);
    assert_eq!((stats.completed, stats.failed), (1, 0));
    assert_adds_up(&stats);
}

#[test]
fn tries_come_to_an_end() {
    let pool = recovering(1, patient(3));
    let fake = Fake::that(Act::Fail);
    let error = wait(pool.submit(fake::job(&fake, 0..1)).unwrap()).unwrap_err();
    assert!(matches!(
        error,
        PoolError::Engine(EngineError::Device { .. })
    ));
    assert_eq!(fake.n_calls(), 3);
    let stats = pool.stats();
    assert_eq!((stats.recovery.retries, stats.recovery.recovered), (2, 0));
    assert_eq!((stats.completed, stats.failed), (0, 1));
}

#[test]
fn nothing_is_tried_beyond_a_deadline_or_that_would_fail_again() {
    let later = Recovery {
        backoff: Duration::from_secs(3600),
        ..patient(3)
    };
    let pool = recovering(1, later);
    let deadline = Some(Instant::now() + TOO_LONG);
    let fake = Fake::that(Act::Fail);
    let job = fake::due(fake::job(&fake, 0..1), deadline);
    assert!(matches!(
        wait(pool.submit(job).unwrap()),
        Err(PoolError::Engine(_))
    ));
    let panics = Fake::that(Act::Panic);
    let job = fake::job(&panics, 0..1);
    assert!(matches!(
        wait(pool.submit(job).unwrap()),
        Err(PoolError::Panicked)
    ));
    assert_eq!((fake.n_calls(), panics.n_calls()), (1, 1));
}

#[test]
fn the_pause_doubles_and_a_cancelled_job_is_not_taken_up() {
    let recovery = Recovery {
        backoff: 50 * MS,
        ..patient(4)
    };
    let now = Instant::now();
    let pauses: Vec<_> = (1..=4).map(|n| recovery.again_at(n, now)).collect();
    assert_eq!(
        pauses,
        [
            Some(now + 50 * MS),
            Some(now + 100 * MS),
            Some(now + 200 * MS),
            None
        ]
    );
    let pool = recovering(
        1,
        Recovery {
            backoff: Duration::from_secs(3600),
            ..patient(4)
        },
    );
    let fake = Fake::that(Act::Fail);
    let handle = pool.submit(fake::job(&fake, 0..1)).unwrap();
    until(|| pool.stats().recovery.failed_batches == 1);
    drop(handle);
    // The pool ends although nobody took it up.
    pool.shutdown(TOO_LONG);
    assert_eq!(fake.n_calls(), 1);
    assert_eq!(pool.stats().cancelled, 1);
    assert_adds_up(&pool.stats());
}

#[test]
fn a_partial_answer_has_the_frames_that_worked_and_says_which_did_not() {
    for max_tries in [2, 3] {
        let pool = recovering(1, patient(max_tries));
        let fake = Arc::new(Fake::default());
        let whole = fake::job(&fake, HALF_BAD);
        let partial = Job {
            allow_partial: true,
            ..whole.clone()
        };
        let output = run(&pool, partial);
        let failed: Vec<usize> = output.failed.iter().map(|failed| failed.frame).collect();
        assert_eq!(failed, [0, 1]);
        assert!(
            output
                .failed
                .iter()
                .all(|failed| matches!(*failed.error, PoolError::Engine(_)))
        );
        assert_eq!(output.faces[2..], fake::faces(HALF_BAD)[2..]);
        assert!(output.faces[..2].iter().all(|face| face.is_empty()));
        assert_eq!(pool.stats().recovery.failed_frames, 2);
        assert!(wait(pool.submit(whole).unwrap()).is_err());
        let stats = pool.stats();
        assert_eq!((stats.completed, stats.failed), (1, 1));
        assert_adds_up(&stats);
    }
}

#[test]
fn where_batches_fail_as_such_frames_are_run_one_by_one() {
    let pool = recovering(1, patient(2));
    let fake = Fake::that_fails_in_batches();
    let network = Arc::clone(&fake) as Arc<dyn Generator>;
    for n in 1..=3 {
        assert!(!pool.health(&network).single_frames);
        assert_eq!(run(&pool, fake::job(&fake, 0..4)).faces, fake::faces(0..4));
        assert_eq!(fake.n_calls(), n * 5, "together, then one by one");
    }
    assert!(pool.health(&network).single_frames);
    assert_eq!(run(&pool, fake::job(&fake, 0..4)).faces, fake::faces(0..4));
    assert_eq!(fake.n_calls(), 3 * 5 + 4, "one by one from the beginning");
    let expected = RecoveryStats {
        failed_batches: 3,
        split_batches: 3,
        single_begun: 1,
        ..RecoveryStats::default()
    };
    assert_eq!(pool.stats().recovery, expected);
}

#[test]
fn a_network_that_keeps_failing_is_refused_and_comes_back() {
    let recovery = Recovery {
        breaker: Some(BreakerRules::default()),
        ..Recovery::none()
    };
    let pool = recovering(1, recovery);
    let mut changes = pool.watch_health();
    let fake = Arc::new(Fake::default());
    let network = Arc::clone(&fake) as Arc<dyn Generator>;
    fake.is_broken.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        let handle = pool.submit(fake::job(&fake, 0..1)).unwrap();
        assert!(matches!(wait(handle), Err(PoolError::Engine(_))));
    }
    until(|| pool.health(&network).breaker == BreakerState::Open);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let refused = pool.submit(fake::job(&fake, 0..1)).unwrap_err();
    let PoolError::KeepsFailing { retry } = refused else {
        panic!("{refused:?}")
    };
    assert!(!retry.is_zero());
    assert_eq!(fake.n_calls(), 5);
    // Nobody else notices.
    let other = Arc::new(Fake::default());
    assert_eq!(run(&pool, fake::job(&other, 3..4)).faces, fake::faces(3..4));
    fake.is_broken.store(false, Ordering::SeqCst);
    // It takes a second.
    let mut n_worked = 0;
    while pool.health(&network).breaker != BreakerState::Closed {
        if let Ok(handle) = pool.submit(fake::job(&fake, 0..1)) {
            wait(handle).unwrap();
            n_worked += 1;
        }
        thread::yield_now();
    }
    assert_eq!(n_worked, 4, "one, two, four, eight at once");
    assert!(changes.has_changed().unwrap());
    let stats = pool.stats();
    assert_eq!(
        (stats.recovery.breaker_opened, stats.recovery.breaker_closed),
        (1, 1)
    );
    assert!(stats.recovery.breaker_refused >= 1);
    assert_eq!(stats.rejected, stats.recovery.breaker_refused);
    assert_eq!((stats.failed, stats.completed), (5, 1 + 4));
    assert_adds_up(&stats);
}

#[test]
fn a_call_that_would_wait_for_too_long_is_refused_at_once() {
    let pool = recovering(1, Recovery::none());
    let (gated, calls) = Fake::gated();
    let network = Arc::clone(&gated) as Arc<dyn Generator>;
    pool.time_frame(&network, || {
        let end = thread_time() + 20 * MS;
        while thread_time() < end {
            std::hint::black_box(end);
        }
    });
    let running = pool.submit(fake::job(&gated, 0..1)).unwrap();
    let call = calls.next();
    let waiting = pool.submit(fake::job(&gated, 0..20)).unwrap();
    let with = |claim: Claim| Job {
        claim,
        ..fake::job(&gated, 0..1)
    };
    let hurried = |max_wait| Claim {
        max_wait: Some(max_wait),
        ..Claim::default()
    };
    let refused = pool.submit(with(hurried(100 * MS))).unwrap_err();
    let PoolError::WaitTooLong { expected, limit } = refused else {
        panic!("{refused:?}")
    };
    assert!(expected >= 200 * MS && limit == 100 * MS, "{expected:?}");
    let deadline = Some(Instant::now() + 100 * MS);
    let late = fake::due(fake::job(&gated, 0..1), deadline);
    assert!(matches!(
        pool.submit(late),
        Err(PoolError::WaitTooLong { .. })
    ));
    // What others wait for is not its own wait, and what waits for its frames is no call.
    let other = Claim {
        tenant: lipsync_core::TenantId::new("other"),
        ..hurried(100 * MS)
    };
    let live = Claim {
        work: crate::Work::Live,
        ..hurried(100 * MS)
    };
    let patient = hurried(TOO_LONG);
    let accepted = [other, live, patient].map(|claim| pool.submit(with(claim)).unwrap());
    let stats = pool.stats();
    assert_eq!((stats.shed, stats.rejected), (2, 2));
    drop((running, waiting, accepted));
    call.go(Act::Succeed);
    until(|| pool.stats().in_flight == 0);
    let wait = pool.expected_wait(Device::Cpu, &Claim::default());
    assert_eq!(wait, Duration::ZERO, "nothing waits any more");
}

#[test]
fn workers_come_and_go_under_load_and_nothing_is_lost() {
    let pool = recovering(2, Recovery::default());
    let fake = Arc::new(Fake::default());
    let is_over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut n_jobs = 0_u64;
                    while n_jobs < 50 || !is_over.load(Ordering::SeqCst) {
                        assert_eq!(run(&pool, fake::job(&fake, 0..9)).faces, fake::faces(0..9));
                        n_jobs += 1;
                    }
                    n_jobs
                })
            })
            .collect();
        let mut joined: Vec<usize> = (0..6)
            .map(|_| pool.join_worker(Device::Cpu).unwrap())
            .collect();
        assert_eq!(pool.stats().n_workers(), 8);
        until(|| joined.iter().all(|&n| pool.stats().workers[n].batches > 0));
        while let Some(worker) = joined.pop() {
            pool.leave_worker(worker).unwrap();
        }
        until(|| pool.stats().n_workers() == 2);
        is_over.store(true, Ordering::SeqCst);
        let n_jobs: u64 = clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum();
        let stats = pool.stats();
        assert_eq!(
            (stats.completed, stats.failed, stats.in_flight),
            (n_jobs, 0, 0)
        );
        assert_adds_up(&stats);
    });
}
