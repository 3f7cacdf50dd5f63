//! A loaded network of any shape: the general form under generators and audio encoders.

use crate::{
    CpuIsa, EngineError, Session,
    graph::{Graph, Shape, simplify::simplify},
    import::{Imported, TensorInfo, import},
    reference,
};

/// A network, immutable, with weights packed for one instruction set.
#[derive(Debug)]
pub struct Network {
    graph: Graph,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

impl Network {
    /// Loads any graph of the family.
    ///
    /// # Errors
    /// [`EngineError::Malformed`] and [`EngineError::Contract`] as [`import`] says,
    /// [`EngineError::UnsupportedOperator`] for the first node that nothing executes,
    /// [`EngineError::Device`] where the CPU lacks the instruction set asked for.
    pub fn load(onnx: &[u8], isa: CpuIsa) -> Result<Self, EngineError> {
        Self::from_imported(import(onnx)?, isa)
    }

    pub(crate) fn from_imported(imported: Imported, _isa: CpuIsa) -> Result<Self, EngineError> {
        let Imported {
            mut graph,
            inputs,
            outputs,
            unsupported,
            ..
        } = imported;
        if let Some(error) = unsupported.into_iter().next() {
            return Err(error);
        }
        simplify(&mut graph);
        Ok(Self {
            graph,
            inputs,
            outputs,
        })
    }

    /// Shapes of the inputs, for one frame.
    #[must_use]
    pub fn input_shapes(&self) -> Vec<Shape> {
        self.graph
            .inputs
            .iter()
            .map(|&id| self.graph.shapes[id])
            .collect()
    }

    /// Shapes of the outputs, for one frame.
    #[must_use]
    pub fn output_shapes(&self) -> Vec<Shape> {
        self.graph
            .outputs
            .iter()
            .map(|&id| self.graph.shapes[id])
            .collect()
    }

    /// Names and declared shapes of the inputs.
    #[must_use]
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    /// Inputs and outputs in words, for messages.
    #[must_use]
    pub fn describe_ends(&self) -> String {
        let list = |infos: &[TensorInfo]| {
            infos
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!("{} to {}", list(&self.inputs), list(&self.outputs))
    }

    /// Bytes that the weights take in memory.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        self.graph.n_parameters() * 4
    }

    /// Runs a batch, frame by frame. Inputs and outputs are `[n, c, h, w]`, row-major, f32.
    ///
    /// # Errors
    /// [`EngineError::Input`] when the inputs are not whole frames of one number.
    pub fn run(
        &self,
        _session: &mut Session,
        inputs: &[&[f32]],
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let shapes = self.input_shapes();
        let n_frames =
            inputs.first().map_or(0, |i| i.len()) / shapes.first().map_or(1, |s| s.len());
        for (i, shape) in shapes.iter().enumerate() {
            let (expected, actual) = (n_frames * shape.len(), inputs.get(i).map_or(0, |i| i.len()));
            if expected != actual {
                return Err(EngineError::Input {
                    what: "input",
                    expected,
                    actual,
                });
            }
        }
        let mut outputs: Vec<Vec<f32>> = vec![Vec::new(); self.graph.outputs.len()];
        for n in 0..n_frames {
            let frame: Vec<&[f32]> = inputs
                .iter()
                .zip(&shapes)
                .map(|(i, s)| &i[n * s.len()..][..s.len()])
                .collect();
            for (all, one) in outputs.iter_mut().zip(reference::run(&self.graph, &frame)) {
                all.extend(one);
            }
        }
        Ok(outputs)
    }
}
