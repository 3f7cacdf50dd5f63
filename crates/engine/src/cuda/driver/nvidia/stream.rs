//! A CUDA stream with its pinned staging memory, and captured graphs.
#![expect(unsafe_code, reason = "calls into the CUDA driver")]

use std::{cell::Cell, ffi::c_void, ops::Range, ptr, slice, sync::Arc};

use cudarc::driver::{
    DriverError,
    result::{self, stream::StreamKind},
    sys::{self, CUresult},
};

use super::Nvidia;
use crate::{
    EngineError,
    cuda::{
        driver::{Captured, Set, Stream, patience::RealClock, record},
        launch::Launch,
    },
};

/// A worker's stream.
#[derive(Debug)]
pub(super) struct NvidiaStream {
    driver: Arc<Nvidia>,
    stream: sys::CUstream,
    staging: [Staging; 2],
}

/// One of a stream's staging memories.
#[derive(Debug)]
struct Staging {
    /// Pinned host memory, initialised; null where there is none.
    memory: *mut u8,
    n_bytes: usize,
    /// Whether a copy may be reading or writing it.
    is_copying: bool,
    /// Recorded behind what is to be waited for; null until one is needed.
    mark: sys::CUevent,
    is_marked: bool,
}

impl Staging {
    const NONE: Self = Self {
        memory: ptr::null_mut(),
        n_bytes: 0,
        is_copying: false,
        mark: ptr::null_mut(),
        is_marked: false,
    };

    /// Everything in it is done.
    fn rest(&mut self) {
        self.is_copying = false;
        self.is_marked = false;
    }
}

// SAFETY: handles and pointers to memory that only this has; the driver's functions may be called from
// any thread once the context is current there, which `bind` sees to.
unsafe impl Send for NvidiaStream {}

/// A CUDA graph, ready to run.
#[derive(Debug)]
pub(crate) struct Graph {
    driver: Arc<Nvidia>,
    exec: sys::CUgraphExec,
}

// SAFETY: as for a stream: a handle.
unsafe impl Send for Graph {}

impl NvidiaStream {
    pub fn new(driver: Arc<Nvidia>) -> Result<Self, EngineError> {
        driver.bind()?;
        let stream =
            result::stream::create(StreamKind::NonBlocking).map_err(|e| driver.failed(e))?;
        Ok(Self {
            driver,
            stream,
            staging: [Staging::NONE; 2],
        })
    }

    /// Whether all that was started is done.
    fn is_done(&self) -> Result<bool, DriverError> {
        // SAFETY: the stream exists.
        let state = unsafe { sys::cuStreamQuery(self.stream) };
        match state {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            state => state.result().map(|()| true),
        }
    }

    /// Waits; false where that took too long.
    fn wait_for_all(&self) -> Result<bool, DriverError> {
        let options = self.driver.options();
        if options.is_blocking {
            // SAFETY: the stream exists.
            return unsafe { result::stream::synchronize(self.stream) }.map(|()| true);
        }
        options
            .patience()
            .wait(&RealClock::start(), || self.is_done())
    }

    /// Whether all is done that was started before a mark.
    fn has_passed(mark: sys::CUevent) -> Result<bool, DriverError> {
        // SAFETY: the event exists, and was recorded.
        match unsafe { sys::cuEventQuery(mark) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            state => state.result().map(|()| true),
        }
    }

    fn free_staging(&mut self, set: Set) {
        let staging = &mut self.staging[set as usize];
        // A device that hangs may still write there.
        if !staging.memory.is_null() && self.driver.bind().is_ok() {
            // SAFETY: the pointer is that of `malloc_host`, and is forgotten below.
            let _ = unsafe { result::free_host(staging.memory.cast::<c_void>()) };
        }
        staging.memory = ptr::null_mut();
        staging.n_bytes = 0;
    }

    /// Checks a range of a staging memory, which a copy is about to use; where it starts.
    fn staged(&mut self, set: Set, range: &Range<usize>) -> Result<*mut u8, EngineError> {
        let staging = &mut self.staging[set as usize];
        if range.start > range.end || range.end > staging.n_bytes {
            return Err(EngineError::Input {
                what: "staging memory",
                expected: range.end,
                actual: staging.n_bytes,
            });
        }
        staging.is_copying = true;
        // A mark that was made before does not speak of this copy.
        staging.is_marked = false;
        Ok(staging.memory.wrapping_add(range.start))
    }

    fn start(&self, launch: &Launch) -> Result<(), EngineError> {
        let bytes = launch.args.to_bytes();
        let word = |b: &[u8]| {
            b.iter()
                .rev()
                .fold(0_u64, |word, &byte| word << 8 | u64::from(byte))
        };
        // Whole words, so that the structure is aligned.
        let mut words: Vec<u64> = bytes.chunks_exact(8).map(word).collect();
        let mut params = [words.as_mut_ptr().cast::<c_void>()];
        // SAFETY: the kernel takes one structure, of as many bytes and with the same fields as `words`
        // (tests compare both with the PTX and the sources); the driver copies it during the call. What the
        // kernel reads and writes is device memory that the worker holds until it has waited.
        unsafe {
            result::launch_kernel(
                self.driver.compiled(launch.kernel),
                (launch.blocks, 1, 1),
                (launch.threads, 1, 1),
                launch.shared_bytes,
                self.stream,
                &mut params,
            )
        }
        .map_err(|error| self.driver.failed(error))
    }

    /// Ends a capture.
    fn end_capture(&self) -> Result<Recording, EngineError> {
        // SAFETY: the stream exists and is capturing.
        unsafe { result::stream::end_capture(self.stream) }
            .map(Recording)
            .map_err(|error| self.driver.failed(error))
    }
}

/// What a stream captured; null where there was nothing. Only what is made of it is kept.
struct Recording(sys::CUgraph);

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the graph is nobody else's: what is instantiated of it does not need it.
            let _ = unsafe { result::graph::destroy(self.0) };
        }
    }
}

impl NvidiaStream {
    fn instantiate(&self, recording: &Recording) -> Result<sys::CUgraphExec, EngineError> {
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph has just been captured.
        unsafe { result::graph::instantiate(recording.0, flags) }
            .map_err(|error| self.driver.failed(error))
    }
}

impl Stream for NvidiaStream {
    fn staging(&mut self, set: Set, n_bytes: usize) -> Result<&mut [u8], EngineError> {
        if self.staging[set as usize].is_copying {
            self.wait(set, &|| false)?;
        }
        if self.staging[set as usize].n_bytes < n_bytes {
            self.driver.bind()?;
            self.free_staging(set);
            // SAFETY: initialised below, before anything reads it.
            let pinned = unsafe { result::malloc_host(n_bytes, 0) }
                .map_err(|error| self.driver.failed_to_get(n_bytes as u64, error))?;
            let staging = &mut self.staging[set as usize];
            staging.memory = pinned.cast::<u8>();
            // SAFETY: the memory has so many bytes and is nobody else's.
            unsafe { ptr::write_bytes(staging.memory, 0, n_bytes) };
            staging.n_bytes = n_bytes;
        }
        let staging = &self.staging[set as usize];
        if staging.memory.is_null() {
            return Ok(&mut []);
        }
        // SAFETY: `n_bytes` initialised bytes, only reachable through `self`, and no copy is under way there: copies
        // of the other set have memory of their own.
        Ok(unsafe { slice::from_raw_parts_mut(staging.memory, staging.n_bytes) })
    }

    fn upload(&mut self, (set, from): (Set, Range<usize>), to: u64) -> Result<(), EngineError> {
        let start = self.staged(set, &from)?;
        self.driver.bind()?;
        // SAFETY: the range lies in the staging memory, as `staged` checked.
        let bytes = unsafe { slice::from_raw_parts(start, from.len()) };
        // SAFETY: the bytes neither move nor change before the copy is waited for: `staging` sees to it.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream) }
            .map_err(|error| self.driver.failed(error))
    }

    fn download(&mut self, from: u64, (set, to): (Set, Range<usize>)) -> Result<(), EngineError> {
        let start = self.staged(set, &to)?;
        self.driver.bind()?;
        // SAFETY: the range lies in the staging memory, as `staged` checked, and no reference to it is
        // held: `staging` borrows `self`.
        let bytes = unsafe { slice::from_raw_parts_mut(start, to.len()) };
        // SAFETY: nothing looks at the bytes before the copy is waited for: `staging` sees to it.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream) }
            .map_err(|error| self.driver.failed(error))
    }

    fn mark(&mut self, set: Set) -> Result<(), EngineError> {
        self.driver.bind()?;
        if self.staging[set as usize].mark.is_null() {
            // It tells no times, and who waits for it in the driver sleeps.
            let flags = sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32
                | sys::CUevent_flags_enum::CU_EVENT_BLOCKING_SYNC as u32;
            let mut mark = ptr::null_mut();
            // SAFETY: a place for a handle.
            unsafe { sys::cuEventCreate(&raw mut mark, flags) }
                .result()
                .map_err(|error| self.driver.failed(error))?;
            self.staging[set as usize].mark = mark;
        }
        // SAFETY: event and stream exist and are of one context.
        unsafe { result::event::record(self.staging[set as usize].mark, self.stream) }
            .map_err(|error| self.driver.failed(error))?;
        self.staging[set as usize].is_marked = true;
        Ok(())
    }

    fn wait(&mut self, set: Set, stop: &dyn Fn() -> bool) -> Result<bool, EngineError> {
        let Staging {
            mark, is_marked, ..
        } = self.staging[set as usize];
        if stop() {
            return Ok(false);
        }
        if !is_marked {
            return self.synchronize().map(|()| true);
        }
        self.driver.bind()?;
        let options = self.driver.options();
        let is_stopped = Cell::new(false);
        let is_over = || {
            let has_passed = Self::has_passed(mark)?;
            is_stopped.set(!has_passed && stop());
            Ok(has_passed || is_stopped.get())
        };
        let waited = match options.is_blocking {
            // SAFETY: the event exists, and was recorded.
            true => unsafe { result::event::synchronize(mark) }.map(|()| true),
            false => options.patience().wait(&RealClock::start(), is_over),
        };
        if !waited.map_err(|error| self.driver.failed(error))? {
            return Err(self.driver.lose());
        }
        if is_stopped.get() {
            return Ok(false);
        }
        self.staging[set as usize].rest();
        Ok(true)
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), EngineError> {
        self.driver.bind()?;
        self.start(launch)
    }

    fn capture(&mut self, launches: &[Launch]) -> Result<Captured, EngineError> {
        self.driver.bind()?;
        // Other threads may allocate and capture meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream exists, and nothing else uses it.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(|error| self.driver.failed(error))?;
        let recording = record(launches, |launch| self.start(launch), || self.end_capture())?;
        Ok(Captured::Graph(Graph {
            driver: Arc::clone(&self.driver),
            exec: self.instantiate(&recording)?,
        }))
    }

    fn prepare(&mut self, captured: &Captured) -> Result<(), EngineError> {
        self.driver.bind()?;
        match captured {
            // SAFETY: graph and stream exist and are of one context.
            Captured::Graph(graph) => unsafe { result::graph::upload(graph.exec, self.stream) }
                .map_err(|error| self.driver.failed(error)),
            Captured::Launches(_) => Ok(()),
        }
    }

    fn replay(&mut self, captured: &Captured) -> Result<(), EngineError> {
        self.driver.bind()?;
        match captured {
            // SAFETY: graph and stream exist and are of one context; one stream at a time has the graph,
            // because it belongs to the worker that the stream belongs to.
            Captured::Graph(graph) => unsafe { result::graph::launch(graph.exec, self.stream) }
                .map_err(|error| self.driver.failed(error)),
            Captured::Launches(recorded) => recorded
                .launches()
                .iter()
                .try_for_each(|launch| self.start(launch)),
        }
    }

    fn synchronize(&mut self) -> Result<(), EngineError> {
        self.driver.bind()?;
        let waited = self.wait_for_all();
        if !waited.map_err(|error| self.driver.failed(error))? {
            return Err(self.driver.lose());
        }
        self.staging.iter_mut().for_each(Staging::rest);
        Ok(())
    }
}

impl Drop for NvidiaStream {
    fn drop(&mut self) {
        // Where waiting fails the context is lost, and so is everything that ran in it.
        let _ = self.synchronize();
        for set in [Set::First, Set::Second] {
            self.free_staging(set);
        }
        if self.driver.bind().is_ok() {
            for staging in &self.staging {
                if !staging.mark.is_null() {
                    // SAFETY: created by `mark`, destroyed only here.
                    let _ = unsafe { result::event::destroy(staging.mark) };
                }
            }
            // SAFETY: created by `new`, destroyed only here.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.driver.bind().is_ok() {
            // SAFETY: instantiated by `capture`, destroyed only here. Its worker waits before it lets go.
            let _ = unsafe { result::graph::exec_destroy(self.exec) };
        }
    }
}
