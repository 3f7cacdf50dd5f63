//! Shutdown and drop.

use super::{
    fake::{self, Act, Fake},
    *,
};

#[test]
fn shutdown_finishes_what_was_accepted() {
    let pool = pool(1, 3, 8);
    let (call, running, next) = occupy(&pool);
    let fake = Arc::new(Fake::default());
    let mut handles = vec![running, next];
    for _ in 0..2 {
        handles.push(pool.submit(fake::job(&fake, 0..3)).unwrap());
    }
    thread::scope(|scope| {
        scope.spawn(|| pool.shutdown(TOO_LONG));
        until(|| match pool.submit(fake::job(&fake, 0..1)) {
            Ok(handle) => {
                handles.push(handle);
                false
            }
            Err(PoolError::QueueFull { .. }) => false,
            Err(PoolError::ShuttingDown) => true,
            Err(other) => panic!("{other:?}"),
        });
        call.go(Act::Succeed);
    });
    assert_eq!(pool.stats().in_flight, 0, "the shutdown waits for all");
    let n_accepted = handles.len() as u64;
    for handle in handles {
        wait(handle).unwrap();
    }
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.in_flight), (n_accepted, 0));
    assert_adds_up(&stats);
}

#[test]
fn after_its_grace_shutdown_fails_what_waits_and_returns() {
    let pool = pool(1, 4, 1);
    let (call, running, at_worker) = occupy(&pool);
    let fake = Arc::new(Fake::default());
    let queued = pool.submit(fake::job(&fake, 0..3)).unwrap();
    pool.shutdown(Duration::ZERO);
    for handle in [at_worker, queued] {
        assert!(matches!(wait(handle), Err(PoolError::ShuttingDown)));
    }
    let refused = pool.submit(fake::job(&fake, 0..1)).unwrap_err();
    assert!(matches!(refused, PoolError::ShuttingDown));
    assert_eq!(pool.stats().in_flight, 1);

    // What runs still answers.
    call.go(Act::Succeed);
    assert_eq!(wait(running).unwrap().faces, fake::faces(900..901));
    assert_eq!(fake.n_calls(), 0);
    assert_adds_up(&pool.stats());
    pool.shutdown(Duration::ZERO);
}

#[test]
fn a_job_split_when_the_grace_ends_fails_once() {
    let pool = pool(1, 4, 1);
    let (gated, calls) = Fake::gated();
    let handle = pool.submit(fake::job(&gated, 0..5)).unwrap();
    let call = calls.next();
    pool.shutdown(Duration::ZERO);
    assert!(matches!(wait(handle), Err(PoolError::ShuttingDown)));
    call.go(Act::Succeed);
    // The worker is through with it.
    until(|| Arc::strong_count(&gated) == 1);
    assert_eq!((gated.n_calls(), pool.stats().failed), (1, 1));
    assert_adds_up(&pool.stats());
}

#[test]
fn a_chunk_whose_job_is_abandoned_stops_after_its_frame() {
    let pool = pool(1, 4, 2);
    let (gated, calls) = Fake::gated_by_frame();
    let handle = pool.submit(fake::job(&gated, 0..6)).unwrap();
    let call = calls.next();
    pool.shutdown(Duration::ZERO);
    assert!(matches!(wait(handle), Err(PoolError::ShuttingDown)));
    call.go(Act::Succeed);
    until(|| Arc::strong_count(&gated) == 1);
    assert_eq!(gated.n_calls(), 1, "of two frames in the chunk");
}

#[test]
fn dropping_the_pool_fails_what_waits_and_joins() {
    let pool = pool(1, 4, 1);
    let (call, running, at_worker) = occupy(&pool);
    let fake = Arc::new(Fake::default());
    let queued = pool.submit(fake::job(&fake, 0..3)).unwrap();
    let dropping = thread::spawn(move || drop(pool));
    for handle in [at_worker, queued] {
        assert!(matches!(wait(handle), Err(PoolError::ShuttingDown)));
    }
    assert!(!dropping.is_finished(), "the drop waits for what runs");
    call.go(Act::Succeed);
    dropping.join().unwrap();
    assert_eq!(wait(running).unwrap().faces, fake::faces(900..901));
}

#[test]
fn an_idle_pool_stops_at_once() {
    pool(5, 1, 1).shutdown(Duration::MAX);
    drop(pool(5, 1, 1));
}
