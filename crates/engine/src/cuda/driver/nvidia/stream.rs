//! A CUDA stream with its pinned staging memory, and captured graphs.
#![expect(unsafe_code, reason = "calls into the CUDA driver")]

use std::{ffi::c_void, ops::Range, ptr, slice, sync::Arc};

use cudarc::driver::{
    DriverError,
    result::{self, stream::StreamKind},
    sys::{self, CUresult},
};

use super::Nvidia;
use crate::{
    EngineError,
    cuda::{
        driver::{Captured, Stream, patience::RealClock},
        launch::Launch,
    },
};

/// A worker's stream.
#[derive(Debug)]
pub(super) struct NvidiaStream {
    driver: Arc<Nvidia>,
    stream: sys::CUstream,
    /// Pinned host memory, initialised; null where there is none.
    staging: *mut u8,
    staging_bytes: usize,
    /// Whether a copy may be reading or writing the staging memory.
    is_copying: bool,
}

// SAFETY: handles and a pointer to memory that only this has; the driver's functions may be called from
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
            staging: ptr::null_mut(),
            staging_bytes: 0,
            is_copying: false,
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
    fn wait(&self) -> Result<bool, DriverError> {
        let options = self.driver.options();
        if options.is_blocking {
            // SAFETY: the stream exists.
            return unsafe { result::stream::synchronize(self.stream) }.map(|()| true);
        }
        options
            .patience()
            .wait(&RealClock::start(), || self.is_done())
    }

    fn free_staging(&mut self) {
        // A device that hangs may still write there.
        if !self.staging.is_null() && self.driver.bind().is_ok() {
            // SAFETY: the pointer is that of `malloc_host`, and is forgotten below.
            let _ = unsafe { result::free_host(self.staging.cast::<c_void>()) };
        }
        self.staging = ptr::null_mut();
        self.staging_bytes = 0;
    }

    /// Checks a range of the staging memory; where it starts.
    fn staged(&self, range: &Range<usize>) -> Result<*mut u8, EngineError> {
        if range.start > range.end || range.end > self.staging_bytes {
            return Err(EngineError::Input {
                what: "staging memory",
                expected: range.end,
                actual: self.staging_bytes,
            });
        }
        Ok(self.staging.wrapping_add(range.start))
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

    /// Ends a capture; null where there is nothing to make a graph of.
    fn end_capture(&self) -> Result<sys::CUgraph, EngineError> {
        // SAFETY: the stream exists and is capturing.
        unsafe { result::stream::end_capture(self.stream) }
            .map_err(|error| self.driver.failed(error))
    }
}

impl NvidiaStream {
    fn instantiate(&self, graph: sys::CUgraph) -> Result<sys::CUgraphExec, EngineError> {
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph has just been captured.
        unsafe { result::graph::instantiate(graph, flags) }
            .map_err(|error| self.driver.failed(error))
    }
}

impl Stream for NvidiaStream {
    fn staging(&mut self, n_bytes: usize) -> Result<&mut [u8], EngineError> {
        if self.is_copying {
            self.synchronize()?;
        }
        if self.staging_bytes < n_bytes {
            self.driver.bind()?;
            self.free_staging();
            // SAFETY: initialised below, before anything reads it.
            let pinned = unsafe { result::malloc_host(n_bytes, 0) }
                .map_err(|error| self.driver.failed_to_get(n_bytes as u64, error))?;
            self.staging = pinned.cast::<u8>();
            // SAFETY: the memory has so many bytes and is nobody else's.
            unsafe { ptr::write_bytes(self.staging, 0, n_bytes) };
            self.staging_bytes = n_bytes;
        }
        if self.staging.is_null() {
            return Ok(&mut []);
        }
        // SAFETY: `staging_bytes` initialised bytes, only reachable through `self`, and no copy is under way.
        Ok(unsafe { slice::from_raw_parts_mut(self.staging, self.staging_bytes) })
    }

    fn upload(&mut self, from: Range<usize>, to: u64) -> Result<(), EngineError> {
        let start = self.staged(&from)?;
        self.driver.bind()?;
        self.is_copying = true;
        // SAFETY: the range lies in the staging memory, as `staged` checked.
        let bytes = unsafe { slice::from_raw_parts(start, from.len()) };
        // SAFETY: the bytes neither move nor change before the stream is waited for: `staging` sees to it.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream) }
            .map_err(|error| self.driver.failed(error))
    }

    fn download(&mut self, from: u64, to: Range<usize>) -> Result<(), EngineError> {
        let start = self.staged(&to)?;
        self.driver.bind()?;
        self.is_copying = true;
        // SAFETY: the range lies in the staging memory, as `staged` checked, and no reference to it is
        // held: `staging` borrows `self`.
        let bytes = unsafe { slice::from_raw_parts_mut(start, to.len()) };
        // SAFETY: nothing looks at the bytes before the stream is waited for: `staging` sees to it.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream) }
            .map_err(|error| self.driver.failed(error))
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
        let started = launches.iter().try_for_each(|launch| self.start(launch));
        // The capture ends whatever came of the launches. Where one failed, that is the reason; the capture's own
        // error says only that it is not valid any more.
        let ended = self.end_capture();
        let graph = started.and(ended)?;
        let exec = self.instantiate(graph);
        // SAFETY: nothing needs the graph once it is instantiated, or could not be.
        let _ = unsafe { result::graph::destroy(graph) };
        Ok(Captured::Graph(Graph {
            driver: Arc::clone(&self.driver),
            exec: exec?,
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
        if !self.wait().map_err(|error| self.driver.failed(error))? {
            return Err(self.driver.lose());
        }
        self.is_copying = false;
        Ok(())
    }
}

impl Drop for NvidiaStream {
    fn drop(&mut self) {
        // Where waiting fails the context is lost, and so is everything that ran in it.
        let _ = self.synchronize();
        self.free_staging();
        if self.driver.bind().is_ok() {
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
