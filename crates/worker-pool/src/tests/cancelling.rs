//! Dropped handles and deadlines.

use super::{
    fake::{self, Act, Fake},
    *,
};

#[test]
fn a_cancelled_waiting_job_never_runs_and_leaves_its_place() {
    let pool = pool(1, 1, 8);
    let (call, running, at_worker) = occupy(&pool);
    let fake = Arc::new(Fake::default());
    let queued = pool.submit(fake::job(&fake, 0..1)).unwrap();
    assert_eq!(pool.stats().queue_depth, 1);

    drop(queued);
    drop(at_worker);
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.queue_depth), (2, 0));
    assert_eq!(stats.in_flight, 1);
    assert_adds_up(&stats);
    // The place is free; the channel behind it is, as soon as the dispatcher gets round to it.
    let mut later = None;
    until(|| {
        later = pool.submit(fake::job(&fake, 5..6)).ok();
        later.is_some()
    });

    call.go(Act::Succeed);
    wait(running).unwrap();
    assert_eq!(wait(later.unwrap()).unwrap().faces, fake::faces(5..6));
    assert_eq!(fake.n_calls(), 1, "only the later job ran");
    assert_eq!(pool.stats().workers[0].batches, 2);
}

#[test]
fn a_cancelled_running_job_is_dropped_with_its_other_chunks() {
    let pool = pool(1, 4, 1);
    let (gated, calls) = Fake::gated();
    let handle = pool.submit(fake::job(&gated, 0..4)).unwrap();
    let call = calls.next();
    drop(handle);
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.in_flight), (1, 0));
    assert_eq!(stats.queue_depth, 0);

    call.go(Act::Succeed);
    run(&pool, fake::job(&Arc::new(Fake::default()), 0..1));
    assert_eq!(gated.n_calls(), 1);
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled), (1, 1));
    assert_adds_up(&stats);
}

#[test]
fn dropping_the_handle_after_the_answer_cancels_nothing() {
    let pool = pool(1, 4, 1);
    let handle = pool
        .submit(fake::job(&Arc::new(Fake::default()), 0..1))
        .unwrap();
    until(|| pool.stats().completed == 1);
    drop(handle);
    assert_eq!(pool.stats().cancelled, 0);
}

#[test]
fn an_expired_job_never_runs() {
    let pool = pool(1, 4, 1);
    let fake = Arc::new(Fake::default());
    let job = fake::due(fake::job(&fake, 0..2), Some(Instant::now()));
    let error = wait(pool.submit(job).unwrap()).unwrap_err();
    assert!(matches!(error, PoolError::Expired));
    assert_eq!(fake.n_calls(), 0);
    assert_eq!(pool.stats().failed, 1);
}

#[test]
fn a_queued_job_expires_while_the_engine_is_busy() {
    let pool = pool(1, 4, 1);
    let (call, running, next) = occupy(&pool);
    let fake = Arc::new(Fake::default());
    let deadline = Instant::now() + Duration::from_millis(20);
    let job = |deadline| fake::due(fake::job(&fake, 0..1), deadline);
    let patient = pool.submit(job(None)).unwrap();
    let hurried = pool.submit(job(Some(deadline))).unwrap();
    // Nothing but the passing of time ends it: the engine is held.
    assert!(matches!(wait(hurried), Err(PoolError::Expired)));
    assert!(Instant::now() >= deadline);
    assert_eq!(pool.stats().queue_depth, 1);

    call.go(Act::Succeed);
    for handle in [running, next, patient] {
        wait(handle).unwrap();
    }
    assert_eq!(fake.n_calls(), 1);
}

#[test]
fn a_deadline_that_passes_between_chunks_ends_the_job() {
    let pool = pool(1, 4, 1);
    let (gated, calls) = Fake::gated();
    let deadline = Instant::now() + Duration::from_millis(50);
    let job = fake::due(fake::job(&gated, 0..2), Some(deadline));
    let handle = pool.submit(job).unwrap();
    // On a stalled machine the first chunk may expire too, or its call come too late: then there is none
    // to hold.
    let call = calls.next_before(deadline);
    until(|| Instant::now() >= deadline);
    drop((call, calls));
    assert!(matches!(wait(handle), Err(PoolError::Expired)));
    assert!(gated.n_calls() <= 1);
}

#[test]
fn a_cancelled_chunk_stops_after_the_frame_that_runs() {
    let pool = pool(1, 4, 8);
    let (gated, calls) = Fake::gated_by_frame();
    let handle = pool.submit(fake::job(&gated, 0..8)).unwrap();
    calls.next().go(Act::Succeed);
    let call = calls.next();
    drop(handle);
    call.go(Act::Succeed);
    run(&pool, fake::job(&Arc::new(Fake::default()), 0..1));
    assert_eq!(gated.n_calls(), 2);
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.completed, stats.failed), (1, 1, 0));
    assert_eq!((stats.workers[0].frames, stats.workers[0].restarts), (3, 0));
    assert_adds_up(&stats);
}

#[test]
fn an_expired_chunk_stops_after_the_frame_that_runs() {
    let pool = pool(1, 4, 8);
    let (gated, calls) = Fake::gated_by_frame();
    let deadline = Instant::now() + Duration::from_millis(50);
    let job = fake::due(fake::job(&gated, 0..8), Some(deadline));
    let handle = pool.submit(job).unwrap();
    // As above, a stalled machine may have nothing to hold.
    let call = calls.next_before(deadline);
    until(|| Instant::now() >= deadline);
    drop((call, calls));
    assert!(matches!(wait(handle), Err(PoolError::Expired)));
    run(&pool, fake::job(&Arc::new(Fake::default()), 0..1));
    assert!(gated.n_calls() <= 1);
}

#[test]
fn a_chunk_that_is_wanted_runs_to_its_end() {
    let pool = pool(1, 4, 8);
    let (gated, calls) = Fake::gated_by_frame();
    let handle = pool.submit(fake::job(&gated, 3..7)).unwrap();
    for id in 3..7 {
        let call = calls.next();
        assert_eq!(call.ids, [id]);
        call.go(Act::Succeed);
    }
    let output = wait(handle).unwrap();
    assert_eq!(output.faces, fake::faces(3..7));
    assert_eq!(output.timings.batch_frames, 4);
}
