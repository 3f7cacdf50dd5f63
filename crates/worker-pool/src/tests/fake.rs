//! A generator whose faces say which crop and which audio they were made of, and whose runs a test
//! can hold and steer.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use lipsync_core::FaceGeometry;
use lipsync_engine::{Device, EngineError, FaceInput, Generator, Workspace};

use super::TOO_LONG;
use crate::{Claim, FramesAhead, Job, JobFrame};

/// How a run ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Act {
    #[default]
    Succeed,
    Fail,
    Panic,
    /// Success is reported, but a face is missing.
    Short,
    /// The device fails, for good or not.
    Fault {
        sticky: bool,
    },
}

/// Jobs whose frames have ids with this bit make any batch that they are in fail.
pub(super) const FAILS: u32 = 1 << 30;
/// Or panic.
pub(super) const PANICS: u32 = 1 << 29;

/// A run that has begun and waits.
pub(super) struct Call {
    /// The ids of its frames.
    pub(super) ids: Vec<u32>,
    pub(super) thread: String,
    go: Sender<Act>,
}

impl Call {
    /// Lets the run go on. Dropping the call means success.
    pub(super) fn go(self, act: Act) {
        self.go.send(act).unwrap();
    }
}

/// Runs of a gated fake, as they begin.
pub(super) struct Calls(Receiver<Call>);

impl Calls {
    pub(super) fn next(&self) -> Call {
        self.0.recv_timeout(TOO_LONG).expect("a run must begin")
    }

    pub(super) fn next_before(&self, deadline: Instant) -> Option<Call> {
        self.0.recv_deadline(deadline).ok()
    }
}

#[derive(Default)]
pub(crate) struct Fake {
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
    pub(super) is_broken: AtomicBool,
    workspace_bytes: u64,
    n_calls: AtomicUsize,
    warm: Mutex<Vec<(String, usize)>>,
    /// Each frame that is prepared, and where its preparer is told to go on.
    preparing: Option<Sender<(u32, Sender<()>)>>,
}

impl Fake {
    pub(super) fn that(act: Act) -> Arc<Self> {
        Arc::new(Self {
            act,
            ..Self::default()
        })
    }

    pub(super) fn gated() -> (Arc<Self>, Calls) {
        let (gate, calls) = unbounded();
        let fake = Self {
            gate: Some(gate),
            ..Self::default()
        };
        (Arc::new(fake), Calls(calls))
    }

    /// One whose frames succeed only alone.
    pub(super) fn that_fails_in_batches() -> Arc<Self> {
        Arc::new(Self {
            fails_in_batches: true,
            ..Self::default()
        })
    }

    /// As [`Self::gated`], frame by frame.
    pub(super) fn gated_by_frame() -> (Arc<Self>, Calls) {
        let (fake, calls) = Self::gated();
        let fake = Arc::into_inner(fake).expect("just made");
        let by_frame = true;
        (Arc::new(Self { by_frame, ..fake }), calls)
    }

    /// One that says that a workspace needs so many bytes for it.
    pub(crate) fn with_workspace_bytes(workspace_bytes: u64) -> Self {
        Self {
            workspace_bytes,
            ..Self::default()
        }
    }

    /// The same on another device.
    pub(super) fn on(self: Arc<Self>, device: Device) -> Arc<Self> {
        let fake = Arc::into_inner(self).expect("just made");
        Arc::new(Self { device, ..fake })
    }

    /// One on a GPU that has memory for batches of so many frames.
    pub(super) fn with_capacity(capacity: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            device: Device::Cuda(0),
            capacity: Some(Arc::clone(capacity)),
            ..Self::default()
        })
    }

    /// One that says what it prepares, and waits until it is told to go on or must stop.
    pub(super) fn preparing() -> (Arc<Self>, Receiver<(u32, Sender<()>)>) {
        let (preparing, told) = unbounded();
        let fake = Self {
            preparing: Some(preparing),
            ..Self::default()
        };
        (Arc::new(fake), told)
    }

    pub(super) fn n_calls(&self) -> usize {
        self.n_calls.load(Ordering::SeqCst)
    }

    /// The threads that were warmed up, and for how large batches, sorted.
    pub(super) fn warm(&self) -> Vec<(String, usize)> {
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

impl Generator for Fake {
    fn geometry(&self) -> FaceGeometry {
        FaceGeometry {
            region_px: 2,
            crop_px: 2,
            ring_px: 0,
            mask_x: (0, 0),
            mask_y: (0, 0),
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
pub(super) const UNLUCKY: u32 = 666;

/// The frames of a range, as what may follow a job.
struct Following(Range<u32>);

impl FramesAhead for Following {
    fn background_index(&self, n: u32) -> Option<u32> {
        self.0.clone().nth(n.try_into().ok()?)
    }

    fn crop(&self, background_index: u32) -> Option<Arc<[u8]>> {
        Some(crop(background_index).into())
    }
}

/// A job that may be followed by frames `ahead`.
pub(super) fn followed_job(generator: &Arc<Fake>, ids: Range<u32>, ahead: Range<u32>) -> Job {
    Job {
        ahead: Some(Arc::new(Following(ahead))),
        ..job(generator, ids)
    }
}

/// A job of one frame an id.
pub(crate) fn job(generator: &Arc<Fake>, ids: Range<u32>) -> Job {
    Job {
        generator: Arc::clone(generator) as Arc<dyn Generator>,
        frames: ids.clone().map(frame).collect(),
        ahead: None,
        audio: ids.flat_map(audio).collect(),
        allow_partial: false,
        claim: Claim::default(),
    }
}

/// The same job, of use until a deadline only.
pub(super) fn due(job: Job, deadline: Option<Instant>) -> Job {
    Job {
        claim: Claim {
            deadline,
            ..job.claim
        },
        ..job
    }
}

/// The faces that such a job must give.
pub(super) fn faces(ids: Range<u32>) -> Vec<Vec<u8>> {
    ids.map(|id| face(id, &audio(id))).collect()
}

fn frame(id: u32) -> JobFrame {
    JobFrame {
        crop: crop(id).into(),
        background_index: Some(id),
    }
}

fn crop(id: u32) -> Vec<u8> {
    [id, 0, 0].map(u32::to_le_bytes).concat()
}

fn crop_id(crop: &[u8]) -> u32 {
    u32::from_le_bytes([crop[0], crop[1], crop[2], crop[3]])
}

/// Small bit patterns, which no float arithmetic touches on the way.
fn audio(id: u32) -> [f32; 2] {
    [f32::from_bits(id), f32::from_bits(!id >> 2)]
}

fn face(crop_id: u32, audio: &[f32]) -> Vec<u8> {
    let words = [crop_id, audio[0].to_bits(), audio[1].to_bits()];
    words.map(u32::to_le_bytes).concat()
}
