//! Batches that a worker starts behind the one that its device computes.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use lipsync_core::FaceGeometry;
use lipsync_engine::{EngineError, FaceInput, Generator, Ticket, Workspace};

use super::{fake, *};

/// A network on a made-up stream of one worker. Batches begin at once and are done when the test says so.
#[derive(Default)]
struct Stream {
    /// What was asked of it, with the ids of the frames.
    log: Mutex<Vec<(&'static str, Vec<u32>)>>,
    under_way: Mutex<VecDeque<(Ticket, Vec<u32>)>>,
    n_begun: AtomicU64,
    /// Batches that are done, of those that have begun.
    n_done: AtomicU64,
    /// What the next wait meets.
    meets: Mutex<Option<EngineError>>,
    refuses: AtomicBool,
    is_on_cpu: bool,
}

impl Stream {
    fn note(&self, what: &'static str, ids: &[u32]) {
        self.log.lock().unwrap().push((what, ids.to_vec()));
    }

    /// What has been asked of it so far, of some kind or of all.
    fn seen(&self, of: &str) -> Vec<Vec<u32>> {
        let log = self.log.lock().unwrap();
        let of = log.iter().filter(|(what, _)| *what == of);
        of.map(|(_, ids)| ids.clone()).collect()
    }

    /// Lets one more batch be done.
    fn pass(&self) {
        self.n_done.fetch_add(1, Ordering::SeqCst);
    }

    fn until_begun(&self, n: usize) {
        until(|| self.seen("begin").len() == n);
    }
}

fn fault(sticky: bool) -> EngineError {
    EngineError::DeviceFault {
        device: GPU.to_string(),
        reason: "told to fail".into(),
        sticky,
    }
}

fn ids(frames: &[FaceInput<'_>]) -> Vec<u32> {
    frames.iter().filter_map(|frame| frame.frame).collect()
}

fn faces(ids: &[u32]) -> Vec<Vec<u8>> {
    ids.iter().flat_map(|&id| fake::faces(id..id + 1)).collect()
}

impl Generator for Stream {
    fn geometry(&self) -> FaceGeometry {
        fake::Fake::default().geometry()
    }

    fn audio_shape(&self) -> [usize; 3] {
        [1, 2, 1]
    }

    fn weights_bytes(&self) -> u64 {
        0
    }

    fn device(&self) -> Device {
        match self.is_on_cpu {
            true => Device::Cpu,
            false => GPU,
        }
    }

    fn warm_up(&self, _: &mut Workspace, _: usize) -> Result<(), EngineError> {
        self.note("warm up", &[]);
        Ok(())
    }

    fn infer(
        &self,
        _: &mut Workspace,
        frames: &[FaceInput<'_>],
        to: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        let ids = ids(frames);
        self.note("infer", &ids);
        self.under_way.lock().unwrap().clear();
        to.extend(faces(&ids));
        Ok(())
    }

    fn begin(
        &self,
        _: &mut Workspace,
        frames: &[FaceInput<'_>],
    ) -> Result<Option<Ticket>, EngineError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let ids = ids(frames);
        let ticket = Ticket(self.n_begun.fetch_add(1, Ordering::SeqCst));
        let mut under_way = self.under_way.lock().unwrap();
        assert!(under_way.len() < 2, "more than two under way");
        under_way.push_back((ticket, ids.clone()));
        self.note("begin", &ids);
        Ok(Some(ticket))
    }

    fn wait(
        &self,
        _: &mut Workspace,
        ticket: Ticket,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, EngineError> {
        let first = self.under_way.lock().unwrap().front().map(|first| first.0);
        assert_eq!(first, Some(ticket), "in order");
        let began = Instant::now();
        loop {
            if stop() {
                return Ok(false);
            }
            if self.n_done.load(Ordering::SeqCst) > ticket.0 {
                return match self.meets.lock().unwrap().take() {
                    Some(error) => {
                        self.under_way.lock().unwrap().clear();
                        Err(error)
                    }
                    None => Ok(true),
                };
            }
            // A test that has failed comes down all the same.
            assert!(began.elapsed() < 2 * TOO_LONG, "never done");
            thread::yield_now();
        }
    }

    fn finish(
        &self,
        workspace: &mut Workspace,
        ticket: Ticket,
        to: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        self.wait(workspace, ticket, &|| false)?;
        let first = self.under_way.lock().unwrap().pop_front();
        let (_, ids) = first.expect("the wait has seen it");
        self.note("finish", &ids);
        to.extend(faces(&ids));
        Ok(())
    }
}

fn job(stream: &Arc<Stream>, id: u32) -> Job {
    Job {
        generator: Arc::clone(stream) as Arc<dyn Generator>,
        ..fake::job(&Arc::default(), id..id + 1)
    }
}

fn submit(pool: &WorkerPool, stream: &Arc<Stream>, id: u32) -> JobHandle {
    pool.submit(job(stream, id)).unwrap()
}

fn assert_faces(handle: JobHandle, id: u32) {
    assert_eq!(wait(handle).unwrap().faces, fake::faces(id..id + 1));
}

/// A pool of one worker on a GPU, and two batches of a frame each under way there.
fn two_under_way() -> (WorkerPool, Arc<Stream>, JobHandle, JobHandle) {
    let (pool, stream) = (gpu_pool(8, Duration::ZERO), Arc::<Stream>::default());
    let first = submit(&pool, &stream, 0);
    stream.until_begun(1);
    let second = submit(&pool, &stream, 1);
    stream.until_begun(2);
    (pool, stream, first, second)
}

#[test]
fn the_next_batch_begins_while_one_computes_and_answers_come_in_order() {
    let (pool, stream, first, second) = two_under_way();
    assert_eq!(stream.seen("finish").len(), 0);
    stream.pass();
    // It is answered while the second computes, and a third begins behind that.
    assert_faces(first, 0);
    let third = submit(&pool, &stream, 2);
    stream.until_begun(3);
    assert_eq!(stream.seen("finish"), [[0]]);
    stream.pass();
    assert_faces(second, 1);
    stream.pass();
    assert_faces(third, 2);
    assert_eq!(stream.seen("finish"), [[0], [1], [2]]);
    assert_eq!(stream.seen("infer").len(), 0);
    assert_adds_up(&pool.stats());
}

#[test]
fn time_behind_another_batch_counts_once() {
    let began = Instant::now();
    let (pool, stream, first, second) = two_under_way();
    // Long beside all else, so that it would be seen twice.
    until(|| began.elapsed() > Duration::from_millis(30));
    stream.pass();
    assert_faces(first, 0);
    stream.pass();
    assert_faces(second, 1);
    let lasted = began.elapsed();
    let stats = pool.stats();
    let worker = &stats.workers[0];
    assert_eq!((worker.batches, worker.frames), (2, 2));
    assert!(worker.busy <= lasted, "{:?} of {lasted:?}", worker.busy);
}

#[test]
fn a_job_that_is_cancelled_under_way_costs_its_neighbours_nothing() {
    let (pool, stream, first, second) = two_under_way();
    drop(second);
    let third = submit(&pool, &stream, 2);
    stream.pass();
    assert_faces(first, 0);
    stream.until_begun(3);
    stream.pass();
    stream.pass();
    assert_faces(third, 2);
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.completed), (1, 2));
    assert_adds_up(&stats);
}

#[test]
fn what_is_behind_a_batch_that_fails_is_run_again() {
    let (pool, stream, first, second) = two_under_way();
    *stream.meets.lock().unwrap() = Some(fault(false));
    stream.pass();
    let failed = wait(first);
    assert!(matches!(failed, Err(PoolError::Engine(_))), "{failed:?}");
    assert_faces(second, 1);
    assert_eq!(stream.seen("infer"), [[1]]);
    assert_eq!(pool.stats().workers[0].faults, 1);
}

#[test]
fn a_device_that_is_lost_is_lost_for_both() {
    let (pool, stream, first, second) = two_under_way();
    *stream.meets.lock().unwrap() = Some(fault(true));
    stream.pass();
    for handle in [first, second] {
        let lost = wait(handle);
        assert!(
            matches!(lost, Err(PoolError::DeviceLost { .. })),
            "{lost:?}"
        );
    }
    assert_eq!(stream.seen("infer").len(), 0);
    assert_adds_up(&pool.stats());
}

#[test]
fn memory_that_is_short_is_seen_to_by_a_run() {
    let (pool, stream, first, second) = two_under_way();
    *stream.meets.lock().unwrap() = Some(EngineError::OutOfMemory { needed: 2, free: 1 });
    stream.pass();
    // One frame cannot be halved.
    let short = wait(first);
    assert!(
        matches!(short, Err(PoolError::OutOfMemory { .. })),
        "{short:?}"
    );
    assert_faces(second, 1);
    assert_eq!(pool.stats().workers[0].out_of_memory, 1);
}

#[test]
fn a_batch_that_cannot_begin_is_run() {
    let (pool, stream) = (gpu_pool(8, Duration::ZERO), Arc::<Stream>::default());
    stream.refuses.store(true, Ordering::SeqCst);
    assert_faces(submit(&pool, &stream, 0), 0);
    assert_eq!(stream.seen("infer"), [[0]]);
}

#[test]
fn the_cpu_begins_nothing() {
    let stream = Arc::new(Stream {
        is_on_cpu: true,
        ..Stream::default()
    });
    let pool = pool(1, 8, 8);
    for id in 0..3 {
        assert_faces(submit(&pool, &stream, id), id);
    }
    assert_eq!(stream.seen("infer"), [[0], [1], [2]]);
    assert_eq!(stream.seen("begin").len(), 0);
}

/// A line that never ends must not keep a new model from being loaded.
#[test]
fn an_order_to_warm_up_comes_before_a_batch_behind_another() {
    let (pool, stream, first, second) = two_under_way();
    let generator: Arc<dyn Generator> = Arc::<Stream>::clone(&stream);
    let third = thread::scope(|scope| {
        let warm = scope.spawn(|| pool.warm_up(&generator));
        let orders = pool.roster.lock().warm_ups_of(0).unwrap();
        until(|| orders.len() == 1);
        drop(orders);
        stream.pass();
        assert_faces(first, 0);
        let third = submit(&pool, &stream, 2);
        // It waits at the worker, beside the order.
        until(|| pool.roster.lock().on(GPU).all(|worker| worker.load() == 2));
        stream.pass();
        assert_faces(second, 1);
        stream.pass();
        warm.join().unwrap().unwrap();
        third
    });
    assert_faces(third, 2);
    let log = stream.log.lock().unwrap();
    let at = |what, id| log.iter().position(|each| *each == (what, vec![id]));
    assert!(at("begin", 2) > at("finish", 1), "{log:?}");
    assert!(log.iter().any(|(what, _)| *what == "warm up"), "{log:?}");
}

#[test]
fn a_pool_that_stops_finishes_what_is_under_way() {
    let (pool, stream, first, second) = two_under_way();
    let stopping = thread::spawn(move || pool.shutdown(TOO_LONG));
    stream.pass();
    stream.pass();
    assert_faces(first, 0);
    assert_faces(second, 1);
    stopping.join().unwrap();
}
