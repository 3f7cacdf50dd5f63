//! What `submit` and `start` do not take.

use super::{
    fake::{self, Act, Fake},
    *,
};
use crate::Work;

#[test]
fn a_full_queue_refuses_at_once_and_loses_nothing() {
    let pool = pool(1, 4, 8);
    let (call, running, next) = occupy(&pool);
    let fake = Arc::new(Fake::default());
    let waiting: Vec<_> = (0..4)
        .map(|i| pool.submit(fake::job(&fake, i..i + 1)).unwrap())
        .collect();
    // The engine is held all the while, so a `submit` that waited for room would never return.
    for _ in 0..10 {
        let refused = pool.submit(fake::job(&fake, 0..1)).unwrap_err();
        assert!(matches!(refused, PoolError::QueueFull { capacity: 4 }));
    }
    let stats = pool.stats();
    assert_eq!((stats.queue_capacity, stats.queue_depth), (4, 4));
    assert_eq!((stats.submitted, stats.rejected), (6, 10));
    assert_eq!((stats.completed, stats.in_flight), (0, 6));
    assert_adds_up(&stats);

    call.go(Act::Succeed);
    assert_eq!(wait(running).unwrap().faces, fake::faces(900..901));
    assert_eq!(wait(next).unwrap().faces, fake::faces(901..902));
    for (i, handle) in (0..).zip(waiting) {
        assert_eq!(wait(handle).unwrap().faces, fake::faces(i..i + 1));
    }
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.rejected), (6, 10));
    assert_eq!((stats.queue_depth, stats.in_flight), (0, 0));
    assert_adds_up(&stats);
}

/// Otherwise whoever has many sessions leaves no place for the calls of others, and the other way round.
#[test]
fn sessions_and_calls_have_places_of_their_own() {
    let pool = pool(1, 2, 8);
    let (call, running, next) = occupy(&pool);
    let fake = Arc::new(Fake::default());
    let submit = |work, i| {
        let mut job = fake::job(&fake, i..i + 1);
        job.claim.work = work;
        pool.submit(job)
    };
    let mut waiting = Vec::new();
    for (i, work) in (0..).zip([Work::Live, Work::Live, Work::Unary, Work::Unary]) {
        waiting.push(submit(work, i).unwrap());
    }
    for work in [Work::Live, Work::Unary] {
        let refused = submit(work, 9).unwrap_err();
        assert!(matches!(refused, PoolError::QueueFull { capacity: 2 }));
    }
    let stats = pool.stats();
    assert_eq!((stats.queue_depth, stats.live_depth), (4, 2));
    // A session that leaves makes room for a session.
    drop(waiting.remove(0));
    assert!(submit(Work::Unary, 9).is_err());
    // Once the dispatcher has noticed.
    until(|| {
        submit(Work::Live, 4).is_ok_and(|handle| {
            waiting.push(handle);
            true
        })
    });
    call.go(Act::Succeed);
    for handle in [running, next].into_iter().chain(waiting) {
        wait(handle).unwrap();
    }
    let stats = pool.stats();
    assert_eq!((stats.queue_depth, stats.live_depth), (0, 0));
}

#[test]
fn a_job_takes_one_place_until_its_last_chunk_is_handed_out() {
    let pool = pool(1, 1, 1);
    let (gated, calls) = Fake::gated();
    let fake = Arc::new(Fake::default());
    let handle = pool.submit(fake::job(&gated, 0..5)).unwrap();
    // While chunk i runs, i + 1 waits at the worker; the last three are in the queue at first.
    for i in 0..3 {
        let call = calls.next();
        assert_eq!(call.ids, [i]);
        assert_eq!(pool.stats().queue_depth, 1);
        let refused = pool.submit(fake::job(&fake, 9..10)).unwrap_err();
        assert!(matches!(refused, PoolError::QueueFull { capacity: 1 }));
        call.go(Act::Succeed);
    }
    let call = calls.next();
    until(|| pool.stats().queue_depth == 0);
    let other = pool.submit(fake::job(&fake, 9..10)).unwrap();
    call.go(Act::Succeed);
    calls.next().go(Act::Succeed);
    assert_eq!(wait(handle).unwrap().faces, fake::faces(0..5));
    assert_eq!(wait(other).unwrap().faces, fake::faces(9..10));
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let pool = pool(1, 1, 1);
    let fake = Arc::new(Fake::default());
    let bad = |job: Job| match pool.submit(job).unwrap_err() {
        PoolError::BadJob {
            what,
            expected,
            actual,
        } => (what, expected, actual),
        other => panic!("{other:?}"),
    };
    let job = || fake::job(&fake, 0..2);

    assert_eq!(bad(fake::job(&fake, 0..0)), ("frames (at least)", 1, 0));
    let mut short_crop = job();
    short_crop.frames[1].crop = Arc::from([0; 11]);
    assert_eq!(bad(short_crop), ("bytes of a face crop", 12, 11));
    let audio = Arc::from([0.0; 5]);
    let long_audio = Job { audio, ..job() };
    assert_eq!(bad(long_audio), ("floats of audio windows", 4, 5));

    let stats = pool.stats();
    assert_eq!((stats.submitted, stats.rejected), (0, 3));
    assert_eq!(fake.n_calls(), 0);
}

#[test]
fn a_pool_of_nothing_is_refused() {
    let good = || PoolConfig {
        devices: vec![Device::Cpu],
        queue_capacity: 1,
        max_batch_frames: 1,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    };
    let setting = |config| match WorkerPool::start(config, Arc::new(())) {
        Err(PoolError::BadConfig { setting }) => setting,
        other => panic!("{other:?}"),
    };
    let devices = Vec::new();
    assert_eq!(setting(PoolConfig { devices, ..good() }), "worker count");
    let queue_capacity = 0;
    let no_queue = PoolConfig {
        queue_capacity,
        ..good()
    };
    assert_eq!(setting(no_queue), "queue capacity");
    let max_batch_frames = 0;
    let no_batch = PoolConfig {
        max_batch_frames,
        ..good()
    };
    assert_eq!(setting(no_batch), "batch size");
}
