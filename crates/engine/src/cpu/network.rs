//! A loaded network of any shape: the general form under generators and audio encoders.

use std::time::{Duration, Instant};

use crate::{
    EngineError, Int8Kind, LoadOptions, Precision, Workspace,
    cpu::{
        arena::Kept,
        kernels::{Bf16, Isa},
        plan::{
            Executable, Frame, Plan, Products,
            ends::{Drain, Feed},
            report::PlanReport,
            visual::Visual,
        },
    },
    graph::{Graph, Shape},
    import::{Imported, TensorInfo, describe_ends, import_simplified},
};

/// A network, immutable, with weights packed for one instruction set.
#[derive(Debug)]
pub struct Network {
    plan: Box<dyn Executable>,
    macs: u64,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

impl Network {
    /// Loads any graph of the family.
    ///
    /// # Errors
    /// [`EngineError::Malformed`] and [`EngineError::Contract`] as [`import`](crate::import::import()) says,
    /// [`EngineError::UnsupportedOperator`] for the first node that nothing executes,
    /// [`EngineError::TooManyMacs`] and [`EngineError::ArenaTooLarge`] as the options say,
    /// [`EngineError::Device`] where the CPU lacks the instruction set asked for. bf16 is executed on
    /// every instruction set, but is slow where [`Isa::has_bf16`] says no.
    pub fn load(onnx: &[u8], options: impl Into<LoadOptions>) -> Result<Self, EngineError> {
        Self::load_plain(onnx, &options.into())
    }

    /// Not generic, so that the kernels are compiled in this crate and as optimised as its profile says.
    pub(crate) fn load_plain(onnx: &[u8], options: &LoadOptions) -> Result<Self, EngineError> {
        Self::load_with(onnx, options, |_| None)
    }

    /// Loads a graph and lets `rewrite` change it after simplification, before it is packed; it also says
    /// which input is the visual one, if what depends on that alone is to be kept.
    pub(crate) fn load_with(
        onnx: &[u8],
        options: &LoadOptions,
        rewrite: impl FnOnce(&mut Graph) -> Option<usize>,
    ) -> Result<Self, EngineError> {
        let isa = options
            .isa
            .resolve()
            .map_err(|refused| EngineError::Device {
                reason: refused.to_string(),
            })?;
        let Imported {
            mut graph,
            inputs,
            outputs,
            ..
        } = import_simplified(onnx)?;
        options.limits.check_macs(&graph)?;
        let macs = graph.macs();
        let visual = rewrite(&mut graph);
        let plan: Box<dyn Executable> = match options.precision {
            Precision::F32 => Box::new(Plan::<f32>::new(&graph, isa, visual, Products::Stored)),
            Precision::Bf16 => Box::new(Plan::<Bf16>::new(&graph, isa, visual, Products::Stored)),
            Precision::Int16 => Box::new(Plan::<f32>::new(&graph, isa, visual, Products::Int16)),
            Precision::Int8(Int8Kind::FullBf16, steps) => {
                let products = Products::Int8(Int8Kind::FullBf16, steps);
                Box::new(Plan::<Bf16>::new(&graph, isa, visual, products))
            }
            Precision::Int8(kind, steps) => {
                let products = Products::Int8(kind, steps);
                Box::new(Plan::<f32>::new(&graph, isa, visual, products))
            }
        };
        options.limits.check_arena(plan.workspace_bytes())?;
        Ok(Self {
            plan,
            macs,
            inputs,
            outputs,
        })
    }

    /// Multiply-accumulates of one frame, as the file has them.
    pub(crate) fn macs(&self) -> u64 {
        self.macs
    }

    /// Names and declared shapes of the inputs.
    #[must_use]
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    /// Shapes of the inputs, for one frame.
    #[must_use]
    pub fn input_shapes(&self) -> Vec<Shape> {
        self.plan.input_shapes()
    }

    /// Shapes of the outputs, for one frame.
    #[must_use]
    pub fn output_shapes(&self) -> Vec<Shape> {
        self.plan.output_shapes()
    }

    /// Names and declared shapes of inputs and outputs.
    pub(crate) fn ends(&self) -> (&[TensorInfo], &[TensorInfo]) {
        (&self.inputs, &self.outputs)
    }

    /// Inputs and outputs in words, for messages.
    #[must_use]
    pub fn describe_ends(&self) -> String {
        describe_ends(&self.inputs, &self.outputs)
    }

    /// Bytes that the weights take in memory.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        self.plan.weights_bytes()
    }

    /// The instruction set that the weights are packed for.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.plan.isa()
    }

    /// Runs a batch, frame by frame. Inputs and outputs are `[n, c, h, w]`, row-major, f32.
    ///
    /// # Errors
    /// [`EngineError::Input`] when the inputs are not whole frames of one number.
    pub fn run(
        &self,
        workspace: &mut Workspace,
        inputs: &[&[f32]],
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let shapes = self.input_shapes();
        let n_frames = match (inputs, shapes.as_slice()) {
            ([input, ..], [shape, ..]) => input.len() / shape.len(),
            _ => 0,
        };
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
        let out_lens: Vec<usize> = self.output_shapes().iter().map(|s| s.len()).collect();
        let mut outputs: Vec<Vec<f32>> = out_lens.iter().map(|n| vec![0.0; n_frames * n]).collect();
        for frame in 0..n_frames {
            let feeds: Vec<Feed<'_>> = inputs
                .iter()
                .zip(&shapes)
                .map(|(input, shape)| Feed::Nchw(&input[frame * shape.len()..][..shape.len()]))
                .collect();
            let mut drains: Vec<Drain<'_>> = outputs
                .iter_mut()
                .zip(&out_lens)
                .map(|(output, &len)| Drain::Nchw(&mut output[frame * len..][..len]))
                .collect();
            self.run_frame(
                workspace,
                Frame {
                    feeds: &feeds,
                    drains: &mut drains,
                    visual: Visual::Compute,
                },
            );
        }
        Ok(outputs)
    }

    /// Runs one frame. Lengths are the caller's business.
    pub(crate) fn run_frame(&self, workspace: &mut Workspace, frame: Frame<'_, '_>) {
        self.plan.run(&mut workspace.cpu, frame, &mut |_| ());
    }

    /// What the plan does, step by step.
    #[must_use]
    pub fn plan_report(&self) -> PlanReport {
        self.plan.report()
    }

    /// Runs one frame of zeros `n_runs` times; the shortest time of each step of
    /// [`plan_report`](Self::plan_report).
    #[must_use]
    pub fn profile(&self, workspace: &mut Workspace, n_runs: usize) -> Vec<Duration> {
        let inputs: Vec<Vec<f32>> = self
            .input_shapes()
            .iter()
            .map(|s| vec![0.0; s.len()])
            .collect();
        let feeds: Vec<Feed<'_>> = inputs.iter().map(|input| Feed::Nchw(input)).collect();
        let mut outputs: Vec<Vec<f32>> = self
            .output_shapes()
            .iter()
            .map(|s| vec![0.0; s.len()])
            .collect();
        let mut shortest = vec![Duration::MAX; self.plan.report().steps.len()];
        for _ in 0..n_runs {
            let mut drains: Vec<Drain<'_>> = outputs.iter_mut().map(|y| Drain::Nchw(y)).collect();
            let frame = Frame {
                feeds: &feeds,
                drains: &mut drains,
                visual: Visual::Compute,
            };
            let mut last = Instant::now();
            self.plan.run(&mut workspace.cpu, frame, &mut |step| {
                let begun = std::mem::replace(&mut last, Instant::now());
                shortest[step] = shortest[step].min(last - begun);
            });
        }
        shortest
    }

    /// Computes what depends on the visual input alone; see [`Executable::prepare`].
    pub(crate) fn prepare(
        &self,
        workspace: &mut Workspace,
        feeds: &[Feed<'_>],
        kept: &mut Kept,
        stop: &dyn Fn() -> bool,
    ) -> bool {
        self.plan.prepare(&mut workspace.cpu, feeds, kept, stop)
    }

    /// Bytes that can be kept of a frame; 0 where nothing can.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.plan.kept_bytes()
    }

    /// Bytes of a worker's [`Workspace`] that this network needs.
    #[must_use]
    pub fn workspace_bytes(&self) -> u64 {
        self.plan.workspace_bytes()
    }
}
