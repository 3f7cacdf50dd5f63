//! The generator: the network that redraws a face region so that it speaks.

use std::sync::Arc;

use lipsync_core::FaceGeometry;

use crate::{Device, EngineError, VisualCacheStats, Workspace};

/// What a generator needs for one frame.
#[derive(Debug, Clone, Copy)]
pub struct FaceInput<'a> {
    /// The face crop: `crop_px x crop_px x 3`, u8, BGR, row-major, interleaved. The network sees its
    /// region, the crop without the ring of [`FaceGeometry::ring_px`].
    pub crop: &'a [u8],
    /// The index of the background frame that the crop is of. An engine may keep what it computed
    /// from the crop alone under this index, so as long as the generator lives one index stands for
    /// one crop. `None`: nothing is kept.
    pub frame: Option<u32>,
    /// The audio window: `C x H x W` f32 as [`Generator::audio_shape`] says, row-major, finite.
    pub audio: &'a [f32],
}

/// What numbers a generator writes, of which a face takes those from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutputRange {
    /// The least.
    pub min: f32,
    /// The largest.
    pub max: f32,
    /// The share of those that are more than half a byte outside of 0..1.
    pub outside: f32,
}

/// A batch that [`Generator::begin`] has started; one workspace's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// What is said of a ticket whose batch is not under way.
pub(crate) fn no_such_batch() -> EngineError {
    EngineError::Input {
        what: "batches under way",
        expected: 1,
        actual: 0,
    }
}

/// A loaded generator: weights and plan, immutable and shared by all workers.
///
/// This is the seam between serving and engines: the worker pool knows nothing else, and tests put a
/// fake here.
pub trait Generator: Send + Sync {
    /// The squares that it works on.
    fn geometry(&self) -> FaceGeometry;

    /// `[C, H, W]` of one audio window.
    fn audio_shape(&self) -> [usize; 3];

    /// Bytes that the weights take in memory.
    fn weights_bytes(&self) -> u64;

    /// Multiply-accumulates of one frame; 0 where nobody knows, which is the default.
    fn macs(&self) -> u64 {
        0
    }

    /// Bytes of the host's memory in a [`Workspace`] that it needs to run. The default: none.
    fn workspace_bytes(&self) -> u64 {
        0
    }

    /// The device that it was loaded for.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// Bytes that it holds on its device: weights, and 0 where the device is the host.
    fn device_bytes(&self) -> u64 {
        0
    }

    /// Gets `workspace` ready for batches of up to `max_batch` frames: memory and whatever else a first
    /// run would have to wait for. Results do not depend on it. The default does nothing.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    fn warm_up(&self, workspace: &mut Workspace, max_batch: usize) -> Result<(), EngineError> {
        let _ = (workspace, max_batch);
        Ok(())
    }

    /// Runs one batch. `faces` gets one generated region a frame, each `region_px x region_px x 3`,
    /// u8, BGR, row-major, interleaved, value `trunc(255 y)` of the network's output `y`.
    ///
    /// A frame's result is bit-equal whatever batch it is in. `workspace` belongs to the
    /// calling worker and holds the memory that the run needs.
    ///
    /// # Errors
    /// [`EngineError::Input`] when lengths do not fit; what the device reports otherwise. `faces`
    /// is unspecified then.
    fn infer(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError>;

    /// As [`infer`](Self::infer), for as long as somebody wants the faces: `is_wanted` is asked before every
    /// frame but the first, and once it says no, `faces` keeps those that are done and the run is over. The
    /// default runs the whole batch without asking, as suits a device that runs it as one.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    fn infer_while(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        let _ = is_wanted;
        self.infer(workspace, frames, faces)
    }

    /// Starts a batch and does not wait for it, so that the caller can see to the next one while the device computes. One
    /// more may be started behind it, of any generator of the device; then they are waited for and finished in the
    /// order in which they were started. Any other use of the workspace gives up what is under way there.
    ///
    /// `None`: nothing was started, because the batch must be run in parts, or two are under way. The default starts
    /// nothing.
    ///
    /// # Errors
    /// As [`infer`](Self::infer). What was started before is still under way.
    fn begin(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
    ) -> Result<Option<Ticket>, EngineError> {
        let _ = (workspace, frames);
        Ok(None)
    }

    /// Waits for a batch that was started, but no longer than until `stop` says so: `false`. `stop` is asked at once,
    /// and then now and again.
    ///
    /// # Errors
    /// As [`infer`](Self::infer); what was started behind it is given up, too. [`EngineError::Input`] where the batch
    /// is not the first of those under way.
    fn wait(
        &self,
        workspace: &mut Workspace,
        ticket: Ticket,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, EngineError> {
        let _ = (workspace, ticket, stop);
        Ok(true)
    }

    /// The faces of a batch that was started, as [`infer`](Self::infer) gives them; waits for it.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    fn finish(
        &self,
        workspace: &mut Workspace,
        ticket: Ticket,
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        let _ = (workspace, ticket, faces);
        Err(no_such_batch())
    }

    /// Computes and keeps what depends on background frame `frame` alone, so that a later
    /// [`infer`](Self::infer) finds it.
    ///
    /// Does nothing where that is there already, somebody else is at it, or there is no room. Only
    /// otherwise `crop` is asked for the face crop, and may give none. `stop` is asked every now and
    /// then; once it says so, the work is given up. The default does nothing.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    fn prepare(
        &self,
        workspace: &mut Workspace,
        frame: u32,
        crop: &dyn Fn() -> Option<Arc<[u8]>>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        let _ = (workspace, frame, crop, stop);
        Ok(())
    }

    /// The numbers that it writes for a face and silence; `None` where the network's last operator keeps them in 0..1,
    /// or the engine does not tell. Only where they are looked at, `crop` is asked for the face crop, and may give
    /// none. The default does not tell.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    fn output_range(
        &self,
        workspace: &mut Workspace,
        crop: &dyn Fn() -> Option<Arc<[u8]>>,
    ) -> Result<Option<OutputRange>, EngineError> {
        let _ = (workspace, crop);
        Ok(None)
    }

    /// How the results kept of background frames have fared; `None` where nothing is kept.
    fn visual_cache(&self) -> Option<VisualCacheStats> {
        None
    }
}
