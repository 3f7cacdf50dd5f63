//! What idle workers prepare.

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::*;

type Preparing = Receiver<(u32, crossbeam_channel::Sender<()>)>;

fn next(preparing: &Preparing) -> (u32, crossbeam_channel::Sender<()>) {
    preparing
        .recv_timeout(TOO_LONG)
        .expect("a frame must be prepared")
}

#[test]
fn idle_workers_prepare_each_frame_once() {
    let pool = pool(2, 4, 8);
    let (fake, preparing) = Fake::preparing();
    run(&pool, fake::followed_job(&fake, 0..4, 10..15));
    let mut prepared: Vec<u32> = (0..5)
        .map(|_| {
            let (frame, go) = next(&preparing);
            go.send(()).unwrap();
            frame
        })
        .collect();
    prepared.sort_unstable();
    assert_eq!(prepared, [10, 11, 12, 13, 14]);
    // Nobody holds the network when all is prepared.
    until(|| Arc::strong_count(&fake) == 1);
    assert!(preparing.is_empty());
}

#[test]
fn a_job_that_waits_stops_it() {
    let pool = pool(1, 4, 8);
    let (fake, preparing) = Fake::preparing();
    run(&pool, fake::followed_job(&fake, 0..1, 10..20));
    let (frame, go) = next(&preparing);
    assert_eq!(frame, 10);
    // Nobody tells the preparer to go on: only the job that waits can end it.
    let job = fake::job(&fake, 1..3);
    assert_eq!(run(&pool, job).faces, fake::faces(1..3));
    drop(go);
    pool.shutdown(TOO_LONG);
    assert!(preparing.is_empty(), "the other frames are not prepared");
}

#[test]
fn a_panic_ends_the_preparing_and_nothing_else() {
    let pool = pool(1, 4, 8);
    let (fake, preparing) = Fake::preparing();
    let ahead = fake::UNLUCKY..fake::UNLUCKY + 9;
    run(&pool, fake::followed_job(&fake, 0..1, ahead));
    let (_, go) = next(&preparing);
    go.send(()).unwrap();
    until(|| Arc::strong_count(&fake) == 1);
    assert!(preparing.is_empty());
    assert_eq!(run(&pool, fake::job(&fake, 1..3)).faces, fake::faces(1..3));
}

#[test]
fn a_shutdown_does_not_wait_for_it() {
    let pool = pool(1, 4, 8);
    let (fake, preparing) = Fake::preparing();
    run(&pool, fake::followed_job(&fake, 0..1, 10..20));
    let (_, go) = next(&preparing);
    // Nobody tells the preparer to go on: only the end of the pool can end it.
    pool.shutdown(TOO_LONG);
    assert_eq!(Arc::strong_count(&fake), 1, "the worker has ended");
    drop(go);
    assert!(preparing.is_empty(), "the other frames are not prepared");
}

#[test]
fn nothing_is_prepared_for_a_network_that_is_gone() {
    let pool = pool(1, 4, 8);
    let (fake, preparing) = Fake::preparing();
    run(&pool, fake::followed_job(&fake, 0..1, 10..20));
    let (frame, go) = next(&preparing);
    assert_eq!(frame, 10);
    drop(fake);
    go.send(()).unwrap();
    // The worker had the last hold of it, for that frame alone.
    let more = preparing.recv_timeout(TOO_LONG);
    assert_eq!(more.err(), Some(RecvTimeoutError::Disconnected));
}
