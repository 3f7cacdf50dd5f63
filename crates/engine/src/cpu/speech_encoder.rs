//! An encoder of speech that is a network over sequences, on the CPU.

use std::ops::Range;

use lipsync_core::family::StepForm;

use super::sequence::SequencePlan;
use crate::{
    AudioEncoder, EngineError, LoadOptions, Workspace,
    contract::check_length,
    import::{SpeechKind, import_speech},
};

/// A conformer that makes feature steps of filter banks, or a transformer that makes them of samples.
#[derive(Debug)]
pub(crate) struct SpeechEncoder {
    plan: SequencePlan,
    form: StepForm,
    /// Which floats of the network's answer are the steps of a patch.
    steps: Range<usize>,
}

impl SpeechEncoder {
    /// Loads an encoder of a kind.
    pub fn load(onnx: &[u8], kind: SpeechKind, options: &LoadOptions) -> Result<Self, EngineError> {
        let isa = options
            .isa
            .resolve()
            .map_err(|refused| EngineError::Device {
                reason: refused.to_string(),
            })?;
        let imported = import_speech(onnx, kind)?;
        imported.check()?;
        let form = kind.form();
        let max_macs = options.limits.max_macs;
        // A frame's part of them.
        let n_macs = imported.sequence.macs() / form.patch.n_steps() as u64;
        if n_macs > max_macs {
            return Err(EngineError::TooManyMacs { n_macs, max_macs });
        }
        let plan = SequencePlan::new(&imported.sequence, isa)?;
        options.limits.check_arena(plan.workspace_bytes())?;
        Ok(Self {
            plan,
            form,
            steps: kind.steps_of_answer(),
        })
    }
}

impl AudioEncoder for SpeechEncoder {
    fn step_floats(&self) -> usize {
        self.form.n_floats
    }

    fn step_form(&self) -> StepForm {
        self.form
    }

    fn weights_bytes(&self) -> u64 {
        self.plan.weights_bytes()
    }

    fn encode(&self, workspace: &mut Workspace, patches: &[f32]) -> Result<Vec<f32>, EngineError> {
        let n_floats = self.plan.input_len();
        if !patches.len().is_multiple_of(n_floats) {
            let expected = patches.len().next_multiple_of(n_floats);
            check_length("patches", expected, patches.len())?;
        }
        let mut steps = Vec::new();
        for patch in patches.chunks_exact(n_floats) {
            let take = |answer: &[f32]| steps.extend_from_slice(&answer[self.steps.clone()]);
            self.plan.run(&mut workspace.sequence, patch, take);
        }
        if steps.iter().all(|x| x.is_finite()) {
            return Ok(steps);
        }
        let reason = "the audio encoder makes numbers that are not finite";
        Err(EngineError::Device {
            reason: reason.into(),
        })
    }
}
