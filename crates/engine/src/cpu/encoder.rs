//! An AVE encoder on the CPU.

use super::network::Network;
use crate::{
    AudioEncoder, EngineError, LoadOptions, Workspace,
    contract::{check_length, fit_encoder},
    encoder::{N_MELS, N_ROWS},
};

/// A network that makes feature steps.
pub(crate) struct NetworkEncoder {
    network: Network,
    step_floats: usize,
}

impl NetworkEncoder {
    /// Loads an audio encoder.
    pub fn load(onnx: &[u8], options: &LoadOptions) -> Result<Self, EngineError> {
        let network = Network::load_plain(onnx, options)?;
        let step_floats = fit_encoder(
            network.ends(),
            &network.input_shapes(),
            &network.output_shapes(),
        )?;
        Ok(Self {
            network,
            step_floats,
        })
    }
}

impl AudioEncoder for NetworkEncoder {
    fn step_floats(&self) -> usize {
        self.step_floats
    }

    fn weights_bytes(&self) -> u64 {
        self.network.weights_bytes()
    }

    fn encode(&self, workspace: &mut Workspace, patches: &[f32]) -> Result<Vec<f32>, EngineError> {
        if !patches.len().is_multiple_of(N_MELS * N_ROWS) {
            let expected = patches.len().next_multiple_of(N_MELS * N_ROWS);
            check_length("patches", expected, patches.len())?;
        }
        let mut steps = self.network.run(workspace, &[patches])?;
        Ok(steps.swap_remove(0))
    }
}
