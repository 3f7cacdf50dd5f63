//! The audio encoder: the network that turns a piece of spectrogram into a feature step.

use lipsync_core::family::{PatchForm, StepForm};

use crate::{Device, EngineError, Workspace};

/// Mel bands of one input of an AVE encoder.
pub const N_MELS: usize = AVE_PATCH[0];
/// Mel rows (12.5 ms each) of one input of an AVE encoder.
pub const N_ROWS: usize = AVE_PATCH[1];

const AVE_PATCH: [usize; 2] = match PatchForm::AVE {
    PatchForm::Mel { n_mels, n_rows } => [n_mels, n_rows],
    PatchForm::Fbank { .. } | PatchForm::Wave { .. } => unreachable!(),
};

/// A loaded audio encoder, immutable and shared.
pub trait AudioEncoder: Send + Sync {
    /// Floats of one feature step (AVE: 512).
    fn step_floats(&self) -> usize;

    /// Which patches it reads and what its steps are. The default: those of AVE.
    fn step_form(&self) -> StepForm {
        StepForm::AVE
    }

    /// Bytes that the weights take in memory.
    fn weights_bytes(&self) -> u64;

    /// The device that it runs on.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// Bytes that it holds on its device: weights and all that its runs need; 0 where the device is the host.
    fn device_bytes(&self) -> u64 {
        0
    }

    /// Encodes `n` patches. `patches` is `[n, patch]` (AVE: `[n, 80, 16]`, mel-major; wenet: `[n, 67, 80]`; HuBERT:
    /// `[n, 32080]`), the answer `[n, steps of a patch, step_floats]`.
    ///
    /// A patch's result is bit-equal whatever batch it is in.
    ///
    /// # Errors
    /// [`EngineError::Input`] when the length is no multiple of a patch's, [`EngineError::Device`] for results that are
    /// not finite, on a GPU what the device reports.
    fn encode(&self, workspace: &mut Workspace, patches: &[f32]) -> Result<Vec<f32>, EngineError>;
}
