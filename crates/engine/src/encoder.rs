//! The audio encoder: the network that turns a piece of mel spectrogram into a feature step.

use lipsync_core::family::StepForm;

use crate::{EngineError, Workspace};

/// Mel bands of one encoder input.
pub const N_MELS: usize = StepForm::AVE.n_mels;
/// Mel rows (12.5 ms each) of one encoder input.
pub const N_ROWS: usize = StepForm::AVE.n_rows;

/// A loaded audio encoder, immutable and shared.
pub trait AudioEncoder: Send + Sync {
    /// Floats of one feature step (AVE: 512).
    fn step_floats(&self) -> usize;

    /// Bytes that the weights take in memory.
    fn weights_bytes(&self) -> u64;

    /// Encodes `n` patches. `patches` is `[n, 80, 16]` (mel-major), the answer `[n, step_floats]`.
    ///
    /// A patch's result is bit-equal whatever batch it is in.
    ///
    /// # Errors
    /// [`EngineError::Input`] when the length is no multiple of `80 x 16`.
    fn encode(&self, workspace: &mut Workspace, patches: &[f32]) -> Result<Vec<f32>, EngineError>;
}
