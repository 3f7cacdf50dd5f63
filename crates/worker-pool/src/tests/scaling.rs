//! A wave of load in virtual time over workers that are real: they come and go while jobs run.

use std::collections::VecDeque;

use super::*;
use crate::scaling::{LOOK_INTERVAL, Look, Scaler, WorkerRange};

/// Jobs that a worker does in a second, by the virtual clock.
const PER_WORKER: usize = 20;

#[test]
fn two_workers_become_eight_and_two_again_and_no_job_is_lost() {
    let pool = pool(2, 256, 8);
    let fake = Arc::new(Fake::default());
    let mut scaler = Scaler::new(WorkerRange { min: 2, max: 8 });
    let mut look = Look::default();
    // When each job that waits came, in seconds.
    let mut waiting = VecDeque::new();
    let (mut n_sent, mut counts) = (0_u32, Vec::new());
    for second in 1..=400_u32 {
        let rush = (100..200).contains(&second);
        waiting.extend(std::iter::repeat_n(second, if rush { 120 } else { 15 }));
        let n_run = waiting.len().min(PER_WORKER * pool.stats().n_workers());
        let run: Vec<_> = waiting.drain(..n_run).collect();
        let handles: Vec<_> = run
            .iter()
            .map(|_| {
                n_sent += 1;
                pool.submit(fake::job(&fake, n_sent..n_sent + 1)).unwrap()
            })
            .collect();
        let waits = run.iter().map(|came| LOOK_INTERVAL * (second - came));
        look = Look {
            now: LOOK_INTERVAL * second,
            n_workers: pool.stats().n_workers(),
            work: look.work + n_run as f64,
            busy: look.busy + LOOK_INTERVAL * u32::try_from(n_run).unwrap() / 20,
            n_begun: look.n_begun + n_run as u64,
            waited: look.waited + waits.sum::<Duration>(),
            n_done: look.n_done + n_run as u64,
            n_waiting: waiting.len(),
            ..look
        };
        if let Some(change) = scaler.look(look) {
            for _ in change.from..change.to {
                pool.join_worker(Device::Cpu).unwrap();
            }
            for worker in (change.to..change.from).rev() {
                pool.leave_worker(worker).unwrap();
            }
            until(|| pool.stats().n_workers() == change.to);
            counts.push(change.to);
        }
        let first = n_sent + 1 - u32::try_from(n_run).unwrap();
        for (handle, id) in handles.into_iter().zip(first..) {
            assert_eq!(wait(handle).unwrap().faces, fake::faces(id..id + 1));
        }
    }
    assert_eq!(counts.iter().max(), Some(&8), "{counts:?}");
    assert_eq!(counts.last(), Some(&2), "{counts:?}");
    assert!(waiting.is_empty());
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (u64::from(n_sent), 0));
    assert_eq!(stats.times.n_done, stats.completed);
    assert_eq!(
        stats.workers.iter().map(|w| w.work).sum::<u64>(),
        stats.completed
    );
}
