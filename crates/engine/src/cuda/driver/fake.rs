//! A device that exists in the host's memory only: for tests, on any machine.
//!
//! It does what a CUDA device is asked to, numerically, with the kernels' scalar twins, counts what is
//! allocated against a total, and fails where it is told to. Work that is started runs when it is waited
//! for and not before, so that what is read too early is wrong.

use std::{
    cell::Cell,
    mem,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use lipsync_core::sync::lock;

use super::{
    Captured, DeviceOptions, Driver, Set, Stream, captured_bytes, held_bytes, patience::RealClock,
    record,
};
use crate::{
    Device, EngineError,
    cuda::{
        Cuda, DeviceInfo,
        launch::Launch,
        twin::{self, BadAddress, Memory},
    },
};

/// What a device is asked to do, as far as it can be told to fail at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Reserving memory on the device.
    Allocate,
    /// Copying to the device or from it.
    Copy,
    /// Starting a kernel or a captured sequence of kernels.
    Launch,
    /// Capturing a sequence of kernels.
    Capture,
    /// Starting a kernel while a sequence is captured.
    Record,
    /// Waiting for what was started.
    Synchronize,
}

/// How a device fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has no memory left.
    OutOfMemory,
    /// The call fails, later ones work.
    Recoverable,
    /// The call fails, and so does everything after it.
    Sticky,
    /// What was started never ends: a wait for it is given up, and so is the device.
    Hang,
}

/// A made-up device; clones are the same device.
#[derive(Debug, Clone)]
pub struct FakeDevice {
    info: DeviceInfo,
    /// Whether kernels compute anything.
    is_computing: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    memory: Memory,
    used_bytes: u64,
    uploaded_bytes: u64,
    n_calls: [u64; 6],
    /// Call, its number, what happens.
    planned: Vec<(Call, u64, Fault)>,
    is_broken: bool,
}

impl FakeDevice {
    /// A device of so many bytes of memory.
    #[must_use]
    pub fn new(ordinal: u32, total_bytes: u64) -> Self {
        Self {
            info: DeviceInfo {
                ordinal,
                name: "fake CUDA device".into(),
                compute_capability: (9, 0),
                total_bytes,
                driver_version: (12, 0),
                pci_bus_id: format!("00000000:{ordinal:02x}:00.0"),
            },
            is_computing: true,
            state: Arc::default(),
        }
    }

    /// The same device with kernels that compute nothing: for what a batch costs the host. Scalar twins cost far more, in
    /// the same thread.
    #[must_use]
    pub fn without_kernels(self) -> Self {
        Self {
            is_computing: false,
            ..self
        }
    }

    /// Opens it, as [`Cuda::open`] opens a real one.
    #[must_use]
    pub fn open(&self) -> Arc<Cuda> {
        Cuda::over(Arc::new(self.clone()))
    }

    /// Lets the `nth` call of this kind from now on fail, counted from 0.
    pub fn inject(&self, call: Call, nth: u64, fault: Fault) {
        let mut state = self.lock();
        let number = state.n_calls[call as usize] + nth;
        state.planned.push((call, number, fault));
    }

    /// How many calls of this kind there were.
    #[must_use]
    pub fn n_calls(&self, call: Call) -> u64 {
        self.lock().n_calls[call as usize]
    }

    /// Bytes in use now: what is allocated, in whole pages, and captured launches.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes
    }

    /// Bytes that streams were told to copy to the device, since it was made.
    #[must_use]
    pub fn uploaded_bytes(&self) -> u64 {
        self.lock().uploaded_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Counts a call, which fails where that is planned.
    fn begin(&self, call: Call, needed: u64) -> Result<MutexGuard<'_, State>, EngineError> {
        let mut state = self.lock();
        let number = state.n_calls[call as usize];
        state.n_calls[call as usize] += 1;
        if state.is_broken {
            return Err(self.fault("it is broken".into(), true));
        }
        let is_due = |&(of, at, _): &(Call, u64, Fault)| of == call && at == number;
        let Some(due) = state.planned.iter().position(is_due) else {
            return Ok(state);
        };
        match state.planned.swap_remove(due).2 {
            Fault::OutOfMemory => Err(EngineError::OutOfMemory {
                needed,
                free: self.info.total_bytes - state.used_bytes,
            }),
            Fault::Recoverable => Err(self.fault("told to fail".into(), false)),
            Fault::Sticky => {
                state.is_broken = true;
                Err(self.fault("told to break".into(), true))
            }
            Fault::Hang => {
                state.is_broken = true;
                Err(self.hang())
            }
        }
    }

    /// Waits as a real device's worker does, for work that never ends; not so long, though.
    fn hang(&self) -> EngineError {
        let options = DeviceOptions {
            hang_limit: std::time::Duration::from_millis(2),
            ..DeviceOptions::default()
        };
        let waited = options
            .patience()
            .wait(&RealClock::start(), || Ok::<_, EngineError>(false));
        debug_assert!(matches!(waited, Ok(false)));
        options.hung(Device::Cuda(self.info.ordinal))
    }

    fn fault(&self, reason: String, sticky: bool) -> EngineError {
        EngineError::DeviceFault {
            device: Device::Cuda(self.info.ordinal).to_string(),
            reason,
            sticky,
        }
    }

    /// What a real device does about an address that is nobody's: it breaks.
    fn illegal(&self, state: &mut State, bad: BadAddress) -> EngineError {
        state.is_broken = true;
        let BadAddress { address, n_bytes } = bad;
        self.fault(
            format!("illegal address {address:#x}, {n_bytes} bytes"),
            true,
        )
    }
}

impl Driver for FakeDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn memory(&self) -> Result<(u64, u64), EngineError> {
        let state = self.lock();
        if state.is_broken {
            return Err(self.fault("it is broken".into(), true));
        }
        let total = self.info.total_bytes;
        Ok((total - state.used_bytes, total))
    }

    fn allocate(&self, n_bytes: usize) -> Result<u64, EngineError> {
        let needed = held_bytes(n_bytes as u64);
        let mut state = self.begin(Call::Allocate, needed)?;
        let free = self.info.total_bytes - state.used_bytes;
        if needed > free {
            return Err(EngineError::OutOfMemory { needed, free });
        }
        state.used_bytes += needed;
        Ok(state.memory.allocate(n_bytes))
    }

    fn free(&self, address: u64) {
        let mut state = self.lock();
        let freed = state.memory.free(address);
        state.used_bytes -= held_bytes(freed);
    }

    fn write(&self, bytes: &[u8], to: u64) -> Result<(), EngineError> {
        let mut state = self.begin(Call::Copy, 0)?;
        match state.memory.bytes_mut(to, bytes.len()) {
            Ok(place) => place.copy_from_slice(bytes),
            Err(bad) => return Err(self.illegal(&mut state, bad)),
        }
        Ok(())
    }

    fn read(&self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError> {
        let mut state = self.begin(Call::Copy, 0)?;
        match state.memory.bytes(from, bytes.len()) {
            Ok(place) => bytes.copy_from_slice(place),
            Err(bad) => return Err(self.illegal(&mut state, bad)),
        }
        Ok(())
    }

    fn stream(self: Arc<Self>) -> Result<Box<dyn Stream>, EngineError> {
        Ok(Box::new(FakeStream {
            device: Self::clone(&self),
            staging: [vec![], vec![]],
            marks: [None; 2],
            started: vec![],
            is_capturing: Cell::new(false),
        }))
    }
}

/// Work that was started and not waited for.
#[derive(Debug)]
enum Work {
    Upload(Set, Range<usize>, u64),
    Download(u64, Set, Range<usize>),
    Launch(Launch),
}

/// Launches that were captured. They take memory on the device until they go.
#[derive(Debug)]
pub(crate) struct Recorded {
    device: FakeDevice,
    launches: Vec<Launch>,
}

impl Recorded {
    pub(crate) fn launches(&self) -> &[Launch] {
        &self.launches
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.device.lock().used_bytes -= captured_bytes(self.launches.len());
    }
}

#[derive(Debug)]
struct FakeStream {
    device: FakeDevice,
    staging: [Vec<u8>; 2],
    /// How much of `started` is before the mark of a set.
    marks: [Option<usize>; 2],
    started: Vec<Work>,
    /// Nothing else can be done meanwhile.
    is_capturing: Cell<bool>,
}

impl FakeStream {
    fn run(&mut self, work: &Work, memory: &mut Memory) -> Result<(), BadAddress> {
        match work {
            Work::Upload(set, from, to) => {
                let bytes = &self.staging[*set as usize][from.clone()];
                memory.bytes_mut(*to, bytes.len())?.copy_from_slice(bytes);
            }
            Work::Download(from, set, to) => {
                let bytes = memory.bytes(*from, to.len())?;
                self.staging[*set as usize][to.clone()].copy_from_slice(bytes);
            }
            Work::Launch(launch) if self.device.is_computing => twin::run(launch, memory)?,
            Work::Launch(_) => {}
        }
        Ok(())
    }

    /// Runs the first so many works.
    fn finish(&mut self, n: usize) -> Result<(), EngineError> {
        let device = self.device.clone();
        let mut state = device.lock();
        let n = n.min(self.started.len());
        for mark in self.marks.iter_mut().flatten() {
            *mark = mark.saturating_sub(n);
        }
        // Its memory comes back: a batch allocates nothing here.
        let mut started = mem::take(&mut self.started);
        let done = started
            .drain(..n)
            .try_for_each(|work| self.run(&work, &mut state.memory));
        self.started = started;
        done.map_err(|bad| device.illegal(&mut state, bad))
    }

    /// As the driver, which starts nothing on a stream that is capturing but what is captured.
    fn expect_no_capture(&self) -> Result<(), EngineError> {
        match self.is_capturing.get() {
            true => Err(self
                .device
                .fault("a capture has not been ended".into(), false)),
            false => Ok(()),
        }
    }

    /// Counts a wait, which may fail; then nothing that was started is done any more.
    fn begin_wait(&mut self) -> Result<(), EngineError> {
        let begun = self.device.begin(Call::Synchronize, 0).map(drop);
        if begun.is_err() {
            self.started.clear();
            self.marks = [None; 2];
        }
        begun
    }
}

impl Stream for FakeStream {
    fn staging(&mut self, set: Set, n_bytes: usize) -> Result<&mut [u8], EngineError> {
        let is_of = |work: &Work| matches!(work, Work::Upload(of, ..) | Work::Download(_, of, _) if *of == set);
        if let Some(last) = self.started.iter().rposition(is_of) {
            self.begin_wait()?;
            self.finish(last + 1)?;
        }
        let staging = &mut self.staging[set as usize];
        if staging.len() < n_bytes {
            staging.resize(n_bytes, 0);
        }
        Ok(staging)
    }

    fn upload(&mut self, (set, from): (Set, Range<usize>), to: u64) -> Result<(), EngineError> {
        self.device.begin(Call::Copy, 0)?.uploaded_bytes += from.len() as u64;
        self.marks[set as usize] = None;
        self.started.push(Work::Upload(set, from, to));
        Ok(())
    }

    fn download(&mut self, from: u64, (set, to): (Set, Range<usize>)) -> Result<(), EngineError> {
        drop(self.device.begin(Call::Copy, 0)?);
        self.marks[set as usize] = None;
        self.started.push(Work::Download(from, set, to));
        Ok(())
    }

    fn mark(&mut self, set: Set) -> Result<(), EngineError> {
        self.marks[set as usize] = Some(self.started.len());
        Ok(())
    }

    fn wait(&mut self, set: Set, stop: &dyn Fn() -> bool) -> Result<bool, EngineError> {
        // Nothing is done before somebody waits to the end, so a wait can always be stopped.
        if stop() {
            return Ok(false);
        }
        let mark = self.marks[set as usize].take();
        self.begin_wait()?;
        self.finish(mark.unwrap_or(usize::MAX))?;
        Ok(true)
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), EngineError> {
        drop(self.device.begin(Call::Launch, 0)?);
        self.expect_no_capture()?;
        self.started.push(Work::Launch(*launch));
        Ok(())
    }

    fn capture(&mut self, launches: &[Launch]) -> Result<Captured, EngineError> {
        drop(self.device.begin(Call::Capture, 0)?);
        self.expect_no_capture()?;
        self.is_capturing.set(true);
        let is_valid = Cell::new(true);
        let start = |_: &Launch| {
            let begun = self.device.begin(Call::Record, 0).map(drop);
            is_valid.set(begun.is_ok());
            begun
        };
        // As the driver ends a capture in which a launch failed.
        let invalid = || self.device.fault("the capture is not valid".into(), false);
        record(launches, start, || {
            self.is_capturing.set(false);
            is_valid.get().then_some(()).ok_or_else(invalid)
        })?;
        let mut state = self.device.lock();
        let needed = captured_bytes(launches.len());
        let free = self.device.info.total_bytes - state.used_bytes;
        if needed > free {
            return Err(EngineError::OutOfMemory { needed, free });
        }
        state.used_bytes += needed;
        Ok(Captured::Launches(Recorded {
            device: self.device.clone(),
            launches: launches.to_vec(),
        }))
    }

    fn prepare(&mut self, _: &Captured) -> Result<(), EngineError> {
        Ok(())
    }

    fn replay(&mut self, captured: &Captured) -> Result<(), EngineError> {
        drop(self.device.begin(Call::Launch, 0)?);
        self.expect_no_capture()?;
        if let Captured::Launches(recorded) = captured {
            let launches = recorded.launches.iter().copied();
            self.started.extend(launches.map(Work::Launch));
        }
        Ok(())
    }

    fn synchronize(&mut self) -> Result<(), EngineError> {
        self.begin_wait()?;
        self.marks = [None; 2];
        self.finish(usize::MAX)
    }
}
