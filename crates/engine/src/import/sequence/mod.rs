//! From the bytes of an ONNX file to a [`Sequence`]: encoders of speech.
//!
//! Everything has the shape that the caller's input gives it. What does not depend on that input is folded, or left to
//! the plan as a node of constants. Inputs beside the sound are bound to what the projects bind them to:
//! caches of a streaming encoder are zeros, its offset and lengths are numbers. Further outputs, such as the caches to come,
//! are ignored. What is supported is what exporters make of conformers and of wav2vec-like encoders: a node that is
//! not understood is an error that names it.

mod elementwise;
mod ends;
mod file;
mod layers;
mod rearrange;

use std::{collections::HashMap, rc::Rc};

use lipsync_core::Foreign;

pub(crate) use ends::{SpeechKind, recognise};

use self::file::SequenceFile;
use super::{
    MAX_ACTIVATIONS, MAX_MACS, TensorInfo, check_domain,
    constants::{self, cast},
    describe_ends, malformed,
    node::{self, Answer, FeatureMap, NodeView, Refusal, Value, unsupported},
};
use crate::{
    EngineError,
    graph::sequence::{Operand, Sequence, SequenceNode, SequenceOp},
    onnx::{
        Tensor, TensorData, element_type, external::DataFiles, proto::NodeProto, tensor::n_elements,
    },
};

/// An encoder of speech as its file has it.
#[derive(Debug)]
pub(crate) struct ImportedSpeech {
    /// What it encodes.
    pub kind: SpeechKind,
    /// The network.
    pub sequence: Sequence,
    /// Dimensions of the output.
    pub output_dims: Vec<usize>,
    /// The inputs as the file declares them.
    pub inputs: Vec<TensorInfo>,
    /// The outputs likewise.
    pub outputs: Vec<TensorInfo>,
    /// Version of ONNX's own operator set.
    pub opset: i64,
    /// How often each operator occurs.
    pub operators: std::collections::BTreeMap<String, usize>,
    /// Weights of the file.
    pub n_parameters: u64,
}

impl ImportedSpeech {
    /// Refuses an encoder that makes other steps than those of its kind.
    ///
    /// # Errors
    /// [`EngineError::Contract`].
    pub fn check(&self) -> Result<(), EngineError> {
        let (dims, wanted) = (&self.output_dims, self.kind.answer_dims());
        let n_floats: usize = dims.iter().product();
        if dims.ends_with(&wanted) && n_floats == wanted.iter().product() {
            return Ok(());
        }
        Err(EngineError::Contract {
            expected: self.kind.expected().into(),
            found: format!("{} of {dims:?}", describe_ends(&self.inputs, &self.outputs)),
        })
    }
}

/// Reads an encoder of speech, which [`recognise`] has found to be of `kind`.
///
/// # Errors
/// [`EngineError::Malformed`], [`EngineError::UnsupportedOperator`] for the first node that nothing executes, and
/// [`EngineError::Contract`] for inputs that cannot be bound.
pub(crate) fn import_speech(onnx: &[u8], kind: SpeechKind) -> Result<ImportedSpeech, EngineError> {
    let file = SequenceFile::read(onnx)?;
    let n_parameters = file.n_parameters();
    let mut lowering = Lowering {
        sequence: Sequence::default(),
        values: file.constants,
        folded_left: file.room,
        n_floats: 0,
        macs_left: MAX_MACS,
    };
    ends::bind(&mut lowering, kind, &file.ends)?;
    let mut operators = std::collections::BTreeMap::new();
    for proto in &file.graph.node {
        *operators.entry(proto.op_type.clone()).or_default() += 1;
        lowering.visit(proto, file.opset)?;
    }
    let first = file.ends.outputs.first().map(|output| output.name.as_str());
    let output = first.and_then(|name| lowering.values.get(name));
    let Some(Value::Map(output)) = output.cloned() else {
        return Err(malformed("its first output does not depend on the sound"));
    };
    let mut sequence = lowering.sequence;
    sequence.output = output.id;
    sequence.prune();
    Ok(ImportedSpeech {
        kind,
        sequence,
        output_dims: output.dims,
        inputs: file.ends.inputs,
        outputs: file.ends.outputs,
        opset: file.opset,
        operators,
        n_parameters,
    })
}

/// A sequence in the making.
struct Lowering {
    sequence: Sequence,
    values: HashMap<String, Value>,
    /// Elements that folded constants may still have.
    folded_left: usize,
    /// Floats of all values so far.
    n_floats: usize,
    macs_left: u64,
}

impl Lowering {
    fn visit(&mut self, proto: &NodeProto, opset: i64) -> Result<(), EngineError> {
        let own = proto.output.first().map_or("", String::as_str);
        let name = if proto.name.is_empty() {
            own
        } else {
            proto.name.as_str()
        };
        let look_up = |name: &String| match self.values.get(name) {
            _ if name.is_empty() => Ok(None),
            Some(value) => Ok(Some(value.clone())),
            None => Err(malformed(format!(
                "a node reads {:?}, which nothing before it writes",
                Foreign(name)
            ))),
        };
        let inputs = proto.input.iter().map(look_up).collect::<Result<_, _>>()?;
        let node = NodeView { proto, inputs };
        let outputs = self.lower(&node).map_err(|refusal| match refusal {
            Refusal::Malformed(reason) => malformed(format!("node {:?}: {reason}", Foreign(name))),
            Refusal::Unsupported(reason) => EngineError::UnsupportedOperator {
                node: Foreign(name).to_string(),
                operator: Foreign(&proto.op_type).to_string(),
                opset,
                reason,
            },
        })?;
        for (name, value) in proto.output.iter().zip(outputs) {
            if !name.is_empty() && self.values.insert(name.clone(), value).is_some() {
                return Err(malformed(format!("two nodes write {:?}", Foreign(name))));
            }
        }
        Ok(())
    }

    /// The values of a node's outputs.
    fn lower(&mut self, node: &NodeView<'_>) -> Answer<Vec<Value>> {
        check_domain(node.proto)?;
        let op = node.proto.op_type.as_str();
        if op == "Constant"
            && let Some(tensor) = loose_constant(node)?
        {
            return Ok(vec![Value::Constant(Rc::new(tensor))]);
        }
        if op == "Split" {
            return rearrange::split(self, node);
        }
        let one = |value| vec![value];
        if constants::is_constant(node) {
            match constants::fold(node, &mut self.folded_left) {
                Ok(tensor) => return Ok(one(Value::Constant(tensor))),
                // The plan computes it once.
                Err(Refusal::Unsupported(_)) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        match op {
            "Shape" => {
                let shape = constants::shape(node, &self.read(node, 0)?.1);
                return Ok(one(Value::Constant(Rc::new(shape))));
            }
            "Identity" | "Dropout" => {
                let Some(Some(value)) = node.inputs.first() else {
                    return node::malformed("input 0 is missing");
                };
                return Ok(one(value.clone()));
            }
            "Cast" => return self.cast(node).map(one),
            // Exporters ask it of the weights of attention, for rows that a mask hides altogether.
            "IsNaN" => {
                let never = Tensor::new(vec![], TensorData::I64(vec![0]));
                return Ok(never
                    .map(|t| Value::Constant(Rc::new(t)))
                    .map_or(vec![], one));
            }
            _ => {}
        }
        let found = match elementwise::lower(self, node)? {
            Some(map) => Some(map),
            None => match layers::lower(self, node)? {
                Some(map) => Some(map),
                None => rearrange::lower(self, node)?,
            },
        };
        match found {
            Some(map) => Ok(one(Value::Map(map))),
            None => unsupported("it is not known in encoders of speech"),
        }
    }

    /// Of numbers that are floats already.
    fn cast(&mut self, node: &NodeView<'_>) -> Answer<Value> {
        let to = i32::try_from(node.int("to", 0)).unwrap_or(0);
        match node.inputs.first() {
            Some(Some(Value::Map(map))) if element_type::is_float(to) => {
                Ok(Value::Map(map.clone()))
            }
            Some(Some(Value::Constant(tensor))) => {
                cast(tensor, to).map(|tensor| Value::Constant(Rc::new(tensor)))
            }
            _ => unsupported("from floats to another type"),
        }
    }

    /// Input `i` and its dimensions. Integers among constants become floats.
    fn read(&mut self, node: &NodeView<'_>, i: usize) -> Answer<(Operand, Vec<usize>)> {
        match node.inputs.get(i) {
            Some(Some(Value::Map(map))) => Ok((Operand::Value(map.id), map.dims.clone())),
            Some(Some(Value::Constant(tensor))) => {
                let tensor = match tensor.data() {
                    TensorData::F32(_) => Rc::clone(tensor),
                    TensorData::I64(_) => Rc::new(cast(tensor, element_type::FLOAT)?),
                };
                let dims = tensor.dims().to_vec();
                Ok((Operand::Constant(tensor), dims))
            }
            _ => node::malformed(format!("input {i} is missing")),
        }
    }

    /// Adds a node whose output has dimensions `dims`.
    fn push(
        &mut self,
        op: SequenceOp,
        inputs: Vec<Operand>,
        dims: Vec<usize>,
    ) -> Answer<FeatureMap> {
        let n = n_elements(&dims).unwrap_or(usize::MAX);
        if n == 0 {
            return unsupported(format!("nothing to compute: {dims:?}"));
        }
        match self
            .n_floats
            .checked_add(n)
            .filter(|&n| n <= MAX_ACTIVATIONS)
        {
            Some(n_floats) => self.n_floats = n_floats,
            None => {
                return node::malformed(format!("it needs more than {MAX_ACTIVATIONS} floats"));
            }
        }
        let id = self.sequence.sizes.len();
        self.sequence.sizes.push(n);
        self.sequence.nodes.push(SequenceNode {
            op,
            inputs,
            output: id,
        });
        Ok(FeatureMap { id, dims })
    }

    /// Counts the work of a node.
    fn take_macs(&mut self, factors: &[usize]) -> Answer<()> {
        let macs = factors
            .iter()
            .try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?));
        match macs.and_then(|macs| self.macs_left.checked_sub(macs)) {
            Some(left) => {
                self.macs_left = left;
                Ok(())
            }
            None => node::malformed(format!("more than {MAX_MACS} MACs")),
        }
    }
}

/// A constant that may be infinite, as masks are.
fn loose_constant(node: &NodeView<'_>) -> Answer<Option<Tensor>> {
    let attribute = node.proto.attribute.iter().find(|a| a.name == "value");
    let Some(proto) = attribute.and_then(|a| a.t.as_ref()) else {
        return Ok(None);
    };
    match Tensor::read_with_infinities(proto, &mut DataFiles::default()) {
        Ok(tensor) => Ok(Some(tensor)),
        Err(error) => node::malformed(error.to_string()),
    }
}

/// Strides of row-major dimensions.
fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (0..dims.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * dims[i + 1];
    }
    strides
}

/// Strides that read dimensions `from` as if they were `to`, which they broadcast to.
fn spread_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(from);
    let missing = to.len() - from.len();
    (0..to.len())
        .map(|axis| match axis.checked_sub(missing) {
            Some(i) if from[i] != 1 => own[i],
            _ => 0,
        })
        .collect()
}
