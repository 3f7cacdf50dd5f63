//! A generator whose runs a test can hold and steer one by one, for tests of what runs networks.
//!
//! Its faces say which crop and which audio they were made of: frames have ids, and [`crop`] and [`audio`] are made of
//! them.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use lipsync_core::FaceGeometry;
use lipsync_engine::{Device, EngineError, FaceInput, Generator, Workspace};

/// No wait is meant to end by this: a test that runs into it has found a hang.
const TOO_LONG: Duration = Duration::from_secs(20);

/// How a run ends.
#[derive(Debug, Clone, Copy, Default)]
pub enum Act {
    /// With all faces.
    #[default]
    Succeed,
    /// With an error.
    Fail,
    /// With a panic.
    Panic,
    /// Success is reported, but a face is missing.
    Short,
    /// The device fails.
    Fault {
        /// For good.
        sticky: bool,
    },
}

/// Jobs whose frames have ids with this bit make any batch that they are in fail.
pub const FAILS: u32 = 1 << 30;
/// Or panic.
pub const PANICS: u32 = 1 << 29;

/// A run that has begun and waits.
#[derive(Debug)]
pub struct Call {
    /// The ids of its frames.
    pub ids: Vec<u32>,
    /// The name of its thread.
    pub thread: String,
    go: Sender<Act>,
}

impl Call {
    /// Lets the run go on. Dropping the call means success.
    ///
    /// # Panics
    /// Where the run is over.
    pub fn go(self, act: Act) {
        self.go.send(act).expect("the run waits");
    }
}

/// Runs of a gated generator, as they begin.
#[derive(Debug)]
pub struct Calls(Receiver<Call>);

impl Calls {
    /// The next run.
    ///
    /// # Panics
    /// Where none begins.
    #[must_use]
    pub fn next(&self) -> Call {
        self.0.recv_timeout(TOO_LONG).expect("a run must begin")
    }

    /// The next run, if it begins in time.
    #[must_use]
    pub fn next_before(&self, deadline: Instant) -> Option<Call> {
        self.0.recv_deadline(deadline).ok()
    }
}

/// See the module. The plain one succeeds at once, unless ids have marks ([`FAILS`], [`PANICS`]).
#[derive(Debug, Default)]
pub struct SteeredGenerator {
    act: Act,
    device: Device,
    /// Frames that its device has memory for, unless all.
    capacity: Option<Arc<AtomicUsize>>,
    gate: Option<Sender<Call>>,
    /// Whether its frames are runs of their own.
    by_frame: bool,
    /// Whether batches of several frames fail.
    fails_in_batches: bool,
    /// Whether all fails, for now.
    pub is_broken: AtomicBool,
    workspace_bytes: u64,
    n_calls: AtomicUsize,
    warm: Mutex<Vec<(String, usize)>>,
    /// Each frame that is prepared, and where its preparer is told to go on.
    preparing: Option<Sender<(u32, Sender<()>)>>,
}

impl SteeredGenerator {
    /// One whose runs all end like this.
    #[must_use]
    pub fn that(act: Act) -> Arc<Self> {
        Arc::new(Self {
            act,
            ..Self::default()
        })
    }

    /// One that waits in each run to be told how to end.
    #[must_use]
    pub fn gated() -> (Arc<Self>, Calls) {
        let (gate, calls) = unbounded();
        let fake = Self {
            gate: Some(gate),
            ..Self::default()
        };
        (Arc::new(fake), Calls(calls))
    }

    /// One whose frames succeed only alone.
    #[must_use]
    pub fn that_fails_in_batches() -> Arc<Self> {
        Arc::new(Self {
            fails_in_batches: true,
            ..Self::default()
        })
    }

    /// As [`Self::gated`], frame by frame.
    #[must_use]
    pub fn gated_by_frame() -> (Arc<Self>, Calls) {
        let (fake, calls) = Self::gated();
        let fake = Arc::into_inner(fake).expect("just made");
        let by_frame = true;
        (Arc::new(Self { by_frame, ..fake }), calls)
    }

    /// One that says that a workspace needs this many bytes for it.
    #[must_use]
    pub fn with_workspace_bytes(workspace_bytes: u64) -> Self {
        Self {
            workspace_bytes,
            ..Self::default()
        }
    }

    /// The same on another device.
    ///
    /// # Panics
    /// Where somebody has it already.
    #[must_use]
    pub fn on(self: Arc<Self>, device: Device) -> Arc<Self> {
        let fake = Arc::into_inner(self).expect("just made");
        Arc::new(Self { device, ..fake })
    }

    /// One on a GPU that has memory for batches of this many frames.
    #[must_use]
    pub fn with_capacity(capacity: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            device: Device::Cuda(0),
            capacity: Some(Arc::clone(capacity)),
            ..Self::default()
        })
    }

    /// One that says what it prepares, and waits until it is told to go on or must stop.
    #[must_use]
    pub fn preparing() -> (Arc<Self>, Receiver<(u32, Sender<()>)>) {
        let (preparing, told) = unbounded();
        let fake = Self {
            preparing: Some(preparing),
            ..Self::default()
        };
        (Arc::new(fake), told)
    }

    /// Runs so far.
    #[must_use]
    pub fn n_calls(&self) -> usize {
        self.n_calls.load(Ordering::SeqCst)
    }

    /// The threads that were warmed up, and for how large batches, sorted.
    ///
    /// # Panics
    /// Never: nobody panics with it in hand.
    #[must_use]
    pub fn warm(&self) -> Vec<(String, usize)> {
        let mut warm = self
            .warm
            .lock()
            .expect("no test panics with it in hand")
            .clone();
        warm.sort_unstable();
        warm
    }

    fn check_capacity(&self, n_frames: usize) -> Result<(), EngineError> {
        let free = self.capacity.as_ref().map(|c| c.load(Ordering::SeqCst));
        match free {
            Some(free) if free < n_frames => Err(EngineError::OutOfMemory {
                needed: n_frames as u64,
                free: free as u64,
            }),
            _ => Ok(()),
        }
    }

    fn choose_act(&self, frames: &[FaceInput<'_>]) -> Act {
        let Some(gate) = &self.gate else {
            let has = |bit| frames.iter().any(|f| crop_id(f.crop) & bit != 0);
            return match self.act {
                Act::Succeed if has(FAILS) => Act::Fail,
                Act::Succeed if has(PANICS) => Act::Panic,
                act => act,
            };
        };
        let (go, told) = bounded(1);
        let call = Call {
            ids: frames.iter().map(|f| crop_id(f.crop)).collect(),
            thread: thread::current().name().unwrap_or_default().to_owned(),
            go,
        };
        // A test that has failed listens no more; its pool must still come down.
        let _ = gate.send(call);
        told.recv().unwrap_or_default()
    }
}

impl Generator for SteeredGenerator {
    fn geometry(&self) -> FaceGeometry {
        FaceGeometry {
            region_px: 2,
            crop_px: 2,
            ring_px: 0,
            mask_x: (0, 0),
            mask_y: (0, 0),
            ..FaceGeometry::SMALL
        }
    }

    fn audio_shape(&self) -> [usize; 3] {
        [1, 2, 1]
    }

    fn weights_bytes(&self) -> u64 {
        0
    }

    fn workspace_bytes(&self) -> u64 {
        self.workspace_bytes
    }

    fn device(&self) -> Device {
        self.device
    }

    fn warm_up(&self, _workspace: &mut Workspace, max_batch: usize) -> Result<(), EngineError> {
        self.check_capacity(max_batch)?;
        let thread = thread::current().name().unwrap_or_default().to_owned();
        let mut warm = self.warm.lock().expect("no test panics with it in hand");
        warm.push((thread, max_batch));
        Ok(())
    }

    fn infer(
        &self,
        _workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        self.n_calls.fetch_add(1, Ordering::SeqCst);
        self.check_capacity(frames.len())?;
        assert!(frames.iter().all(|f| f.frame == Some(crop_id(f.crop))));
        faces.extend(frames.iter().map(|f| face(crop_id(f.crop), f.audio)));
        let is_faulty =
            self.is_broken.load(Ordering::SeqCst) || (self.fails_in_batches && frames.len() > 1);
        let act = match is_faulty {
            true => Act::Fail,
            false => self.choose_act(frames),
        };
        match act {
            Act::Succeed => Ok(()),
            Act::Fail => Err(EngineError::Device {
                reason: "told to fail".to_owned(),
            }),
            Act::Panic => panic!("told to panic"),
            Act::Fault { sticky } => Err(EngineError::DeviceFault {
                device: self.device.to_string(),
                reason: "told to fail".to_owned(),
                sticky,
            }),
            Act::Short => {
                faces.pop();
                Ok(())
            }
        }
    }

    fn infer_while(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        if !self.by_frame {
            return self.infer(workspace, frames, faces);
        }
        for frame in frames {
            if !faces.is_empty() && !is_wanted() {
                break;
            }
            self.infer(workspace, &[*frame], faces)?;
        }
        Ok(())
    }

    fn prepare(
        &self,
        _workspace: &mut Workspace,
        frame: u32,
        crop: &dyn Fn() -> Option<Arc<[u8]>>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        let crop = crop().expect("the tests' crops are there");
        assert_eq!(crop_id(&crop), frame);
        let Some(preparing) = &self.preparing else {
            return Ok(());
        };
        let (go, told) = bounded(1);
        if preparing.send((frame, go)).is_ok() {
            // A test that waits for it gives up first.
            let end = Instant::now() + 2 * TOO_LONG;
            while !stop() && told.try_recv().is_err() && Instant::now() < end {
                thread::yield_now();
            }
        }
        match frame {
            UNLUCKY => panic!("told to panic"),
            _ => Ok(()),
        }
    }
}

/// The frame whose preparation panics.
pub const UNLUCKY: u32 = 666;

/// The faces of frames with such crops and audio.
#[must_use]
pub fn faces(ids: Range<u32>) -> Vec<Vec<u8>> {
    ids.map(|id| face(id, &audio(id))).collect()
}

/// The crop of a frame.
#[must_use]
pub fn crop(id: u32) -> Vec<u8> {
    [id, 0, 0].map(u32::to_le_bytes).concat()
}

fn crop_id(crop: &[u8]) -> u32 {
    u32::from_le_bytes([crop[0], crop[1], crop[2], crop[3]])
}

/// The audio of a frame: small bit patterns, which no float arithmetic touches on the way.
#[must_use]
pub fn audio(id: u32) -> [f32; 2] {
    [f32::from_bits(id), f32::from_bits(!id >> 2)]
}

fn face(crop_id: u32, audio: &[f32]) -> Vec<u8> {
    let words = [crop_id, audio[0].to_bits(), audio[1].to_bits()];
    words.map(u32::to_le_bytes).concat()
}
