//! Networks over sequences on the CPU: a [`Sequence`] with packed weights, run step by step.
//!
//! Products and convolutions run on [`gemm`](super::kernels::gemm), the rest on plain loops: encoders spend nearly all of
//! their time in products. What depends on no input is computed once, when the plan is made. A run is a pure function of its
//! input.

mod kernels;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use self::{
    kernels::{Kernel, Scratch},
    memory::{Buffers, Source},
};
use super::kernels::Isa;
use crate::{
    EngineError,
    graph::{
        ValueId,
        sequence::{Operand, Sequence, SequenceNode},
    },
};

/// A network over sequences that is ready to run.
#[derive(Debug)]
pub(crate) struct SequencePlan {
    steps: Vec<Step>,
    constants: Vec<Vec<f32>>,
    /// Floats of each buffer.
    buffers: Vec<usize>,
    input_len: usize,
    output: Source,
}

#[derive(Debug)]
struct Step {
    kernel: Kernel,
    inputs: Vec<Source>,
    /// The buffer that it writes, and how much of it.
    output: (usize, usize),
}

/// The memory of runs, grown on demand and kept between them.
#[derive(Debug, Default)]
pub(crate) struct SequenceMemory {
    buffers: Vec<Vec<f32>>,
    scratch: Scratch,
}

impl SequenceMemory {
    /// Bytes held now.
    pub fn bytes(&self) -> u64 {
        let floats: usize = self.buffers.iter().map(Vec::capacity).sum();
        ((floats + self.scratch.floats()) * size_of::<f32>()) as u64
    }
}

impl SequencePlan {
    /// Packs a network for an instruction set.
    ///
    /// # Errors
    /// [`EngineError::UnsupportedOperator`] where weights of a convolution are computed.
    pub fn new(sequence: &Sequence, isa: Isa) -> Result<Self, EngineError> {
        let mut constants: Vec<Vec<f32>> = Vec::new();
        // Values that depend on no input, by their places among the constants.
        let mut fixed: HashMap<ValueId, usize> = HashMap::new();
        let mut rest: Vec<(&SequenceNode, Kernel, Vec<Known>)> = Vec::new();
        for node in &sequence.nodes {
            let known: Vec<Known> = node
                .inputs
                .iter()
                .map(|input| match input {
                    Operand::Constant(tensor) => {
                        let floats = tensor.floats().unwrap_or_default();
                        Known::New(floats.to_vec())
                    }
                    Operand::Value(id) => fixed.get(id).map_or(Known::No(*id), |&at| Known::At(at)),
                })
                .collect();
            let floats: Vec<Option<&[f32]>> = known
                .iter()
                .map(|known| match known {
                    Known::New(floats) => Some(&floats[..]),
                    Known::At(at) => Some(&constants[*at][..]),
                    Known::No(_) | Known::Held => None,
                })
                .collect();
            let kernel = Kernel::new(&node.op, &floats, isa)?;
            if let Some(all) = floats.into_iter().collect::<Option<Vec<&[f32]>>>() {
                let mut out = vec![0.0; sequence.sizes[node.output]];
                kernel.run(&all, &mut out, &mut Scratch::default());
                fixed.insert(node.output, constants.len());
                constants.push(out);
            } else {
                let mut known = known;
                for (i, known) in known.iter_mut().enumerate() {
                    if kernel.holds(i) {
                        *known = Known::Held;
                    }
                }
                rest.push((node, kernel, known));
            }
        }
        Ok(Self::place(sequence, rest, (constants, fixed)))
    }

    /// Gives every value its place in memory.
    fn place(
        sequence: &Sequence,
        nodes: Vec<(&SequenceNode, Kernel, Vec<Known>)>,
        (mut constants, fixed): (Vec<Vec<f32>>, HashMap<ValueId, usize>),
    ) -> Self {
        let mut last_use = vec![0; sequence.sizes.len()];
        for (n, (.., known)) in nodes.iter().enumerate() {
            for known in known {
                if let Known::No(id) = known {
                    last_use[*id] = n;
                }
            }
        }
        last_use[sequence.output] = usize::MAX;
        let mut buffers = Buffers::new(sequence.input);
        let mut steps = Vec::new();
        for (n, (node, kernel, known)) in nodes.into_iter().enumerate() {
            let n_floats = sequence.sizes[node.output];
            let output = (buffers.take(node.output, n_floats), n_floats);
            let mut inputs = Vec::new();
            for known in known {
                inputs.push(match known {
                    Known::No(id) => buffers.source(id, sequence.sizes[id]),
                    Known::Held => Source::Nothing,
                    Known::At(at) => Source::Constant(at),
                    Known::New(floats) => {
                        constants.push(floats);
                        Source::Constant(constants.len() - 1)
                    }
                });
            }
            for input in &node.inputs {
                if let Operand::Value(id) = input
                    && last_use[*id] == n
                {
                    buffers.give_back(*id);
                }
            }
            steps.push(Step {
                kernel,
                inputs,
                output,
            });
        }
        let output = match fixed.get(&sequence.output) {
            Some(&at) => Source::Constant(at),
            None => buffers.source(sequence.output, sequence.sizes[sequence.output]),
        };
        let mut plan = Self {
            steps,
            constants,
            buffers: buffers.sizes(),
            input_len: sequence.sizes[sequence.input],
            output,
        };
        plan.drop_unread();
        plan
    }

    /// Frees constants that were packed or read by other constants only.
    fn drop_unread(&mut self) {
        let mut is_read = vec![false; self.constants.len()];
        let inputs = self.steps.iter().flat_map(|step| &step.inputs);
        for source in inputs.chain([&self.output]) {
            if let Source::Constant(at) = source {
                is_read[*at] = true;
            }
        }
        for (constant, _) in self.constants.iter_mut().zip(is_read).filter(|(_, r)| !r) {
            *constant = Vec::new();
        }
    }

    /// Floats of the input.
    pub fn input_len(&self) -> usize {
        self.input_len
    }

    /// Bytes of weights and constants.
    pub fn weights_bytes(&self) -> u64 {
        let constants: usize = self.constants.iter().map(Vec::len).sum();
        let packed: usize = self.steps.iter().map(|step| step.kernel.bytes()).sum();
        (constants * size_of::<f32>() + packed) as u64
    }

    /// Bytes that a run needs, besides the scratch memory of single steps.
    pub fn workspace_bytes(&self) -> u64 {
        let floats: usize = self.buffers.iter().sum();
        (floats * size_of::<f32>()) as u64
    }

    /// Runs the network once and hands its output to `take`. The input has [`input_len`](Self::input_len) floats.
    pub fn run(&self, memory: &mut SequenceMemory, input: &[f32], take: impl FnOnce(&[f32])) {
        let SequenceMemory { buffers, scratch } = memory;
        if buffers.len() < self.buffers.len() {
            buffers.resize_with(self.buffers.len(), Vec::new);
        }
        for (buffer, &n) in buffers.iter_mut().zip(&self.buffers) {
            if buffer.len() < n {
                buffer.resize(n, 0.0);
            }
        }
        for step in &self.steps {
            let (at, n) = step.output;
            let mut out = std::mem::take(&mut buffers[at]);
            let held: &[Vec<f32>] = buffers;
            let inputs: Vec<&[f32]> = step
                .inputs
                .iter()
                .map(|source| self.read(held, input, source))
                .collect();
            step.kernel.run(&inputs, &mut out[..n], scratch);
            buffers[at] = out;
        }
        take(self.read(buffers, input, &self.output));
    }

    fn read<'a>(&'a self, buffers: &'a [Vec<f32>], input: &'a [f32], source: &Source) -> &'a [f32] {
        match *source {
            Source::Input => input,
            Source::Buffer(at, n) => &buffers[at][..n],
            Source::Constant(at) => &self.constants[at],
            Source::Nothing => &[],
        }
    }
}

/// What is known of an operand when the plan is made.
enum Known {
    /// A constant of the file.
    New(Vec<f32>),
    /// A value that was computed already.
    At(usize),
    /// The kernel holds it: weights are in memory once.
    Held,
    /// Nothing.
    No(ValueId),
}
