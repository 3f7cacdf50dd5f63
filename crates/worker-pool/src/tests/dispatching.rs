//! Who runs what, and how it is put together.

use super::{
    fake::{self, Act, Fake},
    *,
};
use crate::{
    Face,
    stats::Ledger,
    task::{Done, Run, Task},
};

#[test]
fn jobs_go_round_the_workers() {
    let pool = pool(3, 4, 8);
    let fake = Arc::new(Fake::default());
    for turn in 0..7 {
        let output = run(&pool, fake::job(&fake, 0..1));
        assert_eq!(output.timings.workers, [turn % 3]);
    }
    let batches: Vec<u64> = pool.stats().workers.iter().map(|w| w.batches).collect();
    assert_eq!(batches, [3, 2, 2]);
}

#[test]
fn a_busy_worker_is_passed_over() {
    let pool = pool(2, 4, 8);
    let (gated, calls) = Fake::gated();
    let slow = pool.submit(fake::job(&gated, 0..1)).unwrap();
    let call = calls.next();
    assert_eq!(call.thread, "lipsync-worker-0");
    let fake = Arc::new(Fake::default());
    for _ in 0..5 {
        assert_eq!(run(&pool, fake::job(&fake, 1..2)).timings.workers, [1]);
    }
    call.go(Act::Succeed);
    assert_eq!(wait(slow).unwrap().timings.workers, [0]);
}

#[test]
fn a_job_is_split_over_the_workers_and_put_together_in_order() {
    let pool = pool(4, 4, 8);
    let (gated, calls) = Fake::gated();
    let handle = pool.submit(fake::job(&gated, 10..18)).unwrap();
    let mut running: Vec<_> = (0..4).map(|_| calls.next()).collect();
    running.sort_by_key(|call| call.ids[0]);
    for (i, call) in running.iter().enumerate() {
        assert_eq!(call.ids.len(), 2);
        assert_eq!(call.thread, format!("lipsync-worker-{i}"));
    }
    // The last frames are done first.
    for call in running.into_iter().rev() {
        call.go(Act::Succeed);
    }
    let output = wait(handle).unwrap();
    assert_eq!(output.faces, fake::faces(10..18));
    assert_eq!(output.timings.workers, [0, 1, 2, 3]);
    assert_eq!(output.timings.batch_frames, 2);
}

#[test]
fn batches_are_bounded() {
    let pool = pool(2, 4, 3);
    let fake = Arc::new(Fake::default());
    let output = run(&pool, fake::job(&fake, 0..20));
    assert_eq!(output.faces, fake::faces(0..20));
    // 20 frames over 2 workers in batches of at most 3 are 4 rounds: 3, 3, 3, 3, 3, 3, 2.
    assert_eq!(output.timings.batch_frames, 3);
    assert_eq!(fake.n_calls(), 7);
    let frames: u64 = pool.stats().workers.iter().map(|w| w.frames).sum();
    assert_eq!(frames, 20);
}

#[test]
fn a_long_job_takes_turns_with_what_comes_after_it() {
    let pool = pool(1, 8, 1);
    let (gated, calls) = Fake::gated();
    let long = pool.submit(fake::job(&gated, 0..5)).unwrap();
    let running = calls.next();
    assert_eq!(running.ids, [0]);
    let short = [50, 60].map(|id| pool.submit(fake::job(&gated, id..id + 1)).unwrap());
    running.go(Act::Succeed);
    // One chunk waits at the worker, and the long job was the oldest when the others came.
    for id in [1, 2, 50, 60, 3, 4] {
        let call = calls.next();
        assert_eq!(call.ids, [id]);
        call.go(Act::Succeed);
    }
    assert_eq!(wait(long).unwrap().faces, fake::faces(0..5));
    for (handle, id) in short.into_iter().zip([50, 60]) {
        assert_eq!(wait(handle).unwrap().faces, fake::faces(id..id + 1));
    }
}

#[test]
fn timings_span_the_chunks() {
    let ledger = Arc::new(Ledger::new(1, None));
    ledger.admit(crate::Work::Unary).unwrap();
    let fake = Arc::new(Fake::default());
    let before = Instant::now();
    let (task, handle) = Task::accept(fake::job(&fake, 0..3), ledger);
    let after = Instant::now();
    let ms = Duration::from_millis;
    let done = |worker, n_own, n_frames, start, end| Done {
        faces: vec![Face::default(); n_own],
        run: Run {
            worker,
            n_frames,
            start: after + ms(start),
            end: after + ms(end),
        },
    };
    task.add(1..3, done(3, 2, 2, 12, 25));
    // Shared with four frames of others.
    task.add(0..1, done(1, 1, 5, 10, 15));
    let timings = wait(handle).unwrap().timings;
    assert!(timings.queue >= ms(10) && timings.queue <= ms(10) + (after - before));
    assert_eq!(timings.infer, ms(15));
    assert_eq!(timings.compute, ms(13 + 1));
    assert_eq!(timings.batch_frames, 5);
    assert_eq!(timings.workers, [1, 3]);
}
