//! From the bytes of an ONNX file to a [`Graph`].
//!
//! Nodes are visited in the file's order. What depends on no input is folded at once
//! (`constants`); the rest is lowered to the small operator set (`layers`, `maps`). The batch
//! axis is set to 1: frames are run one at a time. Nothing in the bytes is trusted: sizes are
//! checked before memory is taken, and a node that is not understood is reported by name. Next:
//! [`crate::graph::simplify`].

mod arithmetic;
mod attention;
mod constants;
mod dims;
mod ends;
mod ends_of_graph;
mod file;
mod layers;
mod maps;
mod node;
mod quantized;
mod sequence;
mod sizes;
mod transposed;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    rc::Rc,
};

use lipsync_core::Foreign;

pub(crate) use self::{
    ends::{MAX_SHOWN_ENDS, describe_ends},
    sequence::{ImportedSpeech, SpeechKind, import_speech, recognise},
};
use self::{
    file::OnnxFile,
    node::{Answer, FeatureMap, NodeView, Refusal, Value},
};
use crate::{
    EngineError,
    graph::{Graph, Node, Op, Shape, ValueId, simplify::simplify},
    onnx::{
        bounds::MAX_NODES,
        element_type,
        proto::{GraphProto, NodeProto},
        tensor::n_elements,
    },
};

/// Most floats that all values of one frame may have together (1 GiB).
pub const MAX_ACTIVATIONS: usize = 1 << 28;
/// Most inputs that all nodes of a file may have together.
pub const MAX_NODE_INPUTS: usize = 4 * MAX_NODES;
/// Most multiplications and additions of one frame; the full-size network has 4.9 x 10^9.
pub const MAX_MACS: u64 = 1 << 38;
/// Numbers that a file may have more of than bytes, when it is counted once for its weights as they
/// are packed and once for its folded constants: a small file does not take much memory to import.
pub const FREE_NUMBERS: usize = 1 << 22;
/// Dimensions of an input or output that are shown.
const MAX_SHOWN_DIMS: usize = 8;
/// Opsets whose meaning is implemented.
pub const OPSETS: std::ops::RangeInclusive<i64> = 11..=25;

/// What an ONNX file was found to be.
#[derive(Debug, Default)]
pub struct Imported {
    /// The network, complete only where `unsupported` is empty.
    pub graph: Graph,
    /// Inputs in the file's order, without initializers.
    pub inputs: Vec<TensorInfo>,
    /// Outputs in the file's order.
    pub outputs: Vec<TensorInfo>,
    /// Version of ONNX's own operator set.
    pub opset: i64,
    /// How often each operator occurs.
    pub operators: BTreeMap<String, usize>,
    /// The nodes that nothing executes, one [`EngineError::UnsupportedOperator`] each.
    pub unsupported: Vec<EngineError>,
}

/// Name and declared shape of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its dimensions, the batch first.
    pub dims: Vec<Dim>,
}

/// A declared dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Fixed.
    Size(usize),
    /// Named, or `?` where the file says nothing.
    Symbol(String),
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.dims.iter().take(MAX_SHOWN_DIMS);
        let mut dims: Vec<String> = shown.map(ToString::to_string).collect();
        if self.dims.len() > MAX_SHOWN_DIMS {
            dims.push(format!("… ({} dimensions)", self.dims.len()));
        }
        write!(f, "{} [{}]", Foreign(&self.name), dims.join(", "))
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => write!(f, "{size}"),
            Self::Symbol(name) => Foreign(name).fmt(f),
        }
    }
}

/// Reads a file, and its [data files](crate::onnx::external) where they are attached. Operators that nothing
/// executes are listed in the answer, not an error yet.
///
/// Where the file leaves axes open, they get the family's sizes. A batch that it fixes is made 1.
///
/// # Errors
/// [`EngineError::Malformed`] for bytes that are no ONNX model or one that contradicts itself,
/// [`EngineError::Contract`] for inputs whose open axes are not the family's, and for a batch that the graph
/// does not let go.
pub fn import(onnx: &[u8]) -> Result<Imported, EngineError> {
    sizes::lower(&OnnxFile::read(onnx)?)
}

/// Reads a file, refuses what nothing executes, and simplifies the graph.
pub(crate) fn import_simplified(onnx: &[u8]) -> Result<Imported, EngineError> {
    let mut imported = import(onnx)?;
    if !imported.unsupported.is_empty() {
        return Err(imported.unsupported.swap_remove(0));
    }
    simplify(&mut imported.graph);
    Ok(imported)
}

/// Refuses operators of foreign domains but those that ONNX Runtime fuses from the family's own.
fn check_domain(proto: &NodeProto) -> Answer<()> {
    match proto.domain.as_str() {
        "" | "ai.onnx" => Ok(()),
        "com.microsoft" if FUSED_BY_ONNX_RUNTIME.contains(&proto.op_type.as_str()) => Ok(()),
        "com.microsoft" | "com.microsoft.nchwc" => node::unsupported(
            "ONNX Runtime has optimised the file for one kind of processor: take the file before that, or save it with \
             graph_optimization_level = ORT_ENABLE_BASIC",
        ),
        other => node::unsupported(format!(
            "domain {other:?}: export it with torch.onnx.export(..., dynamo=False)"
        )),
    }
}

/// Operators of ONNX Runtime that are executed.
const FUSED_BY_ONNX_RUNTIME: [&str; 8] = [
    "FusedConv",
    "QLinearAdd",
    "QLinearConcat",
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearGlobalAveragePool",
    "QuantizeLinear",
    "DequantizeLinear",
];

fn malformed(reason: impl Into<String>) -> EngineError {
    EngineError::Malformed {
        reason: reason.into(),
    }
}

/// The shape of a feature map of dimensions `dims`, the batch of 1 first.
fn shape_of(dims: &[usize]) -> Answer<Shape> {
    let shape = match *dims {
        [1, c] => Shape { c, h: 1, w: 1 },
        [1, c, w] => Shape { c, h: 1, w },
        [1, c, h, w] => Shape { c, h, w },
        _ => return node::unsupported(format!("a value of dimensions {dims:?} in a frame")),
    };
    if n_elements(dims).is_none_or(|n| n == 0) {
        return node::malformed(format!("a value of dimensions {dims:?}"));
    }
    Ok(shape)
}

#[derive(Default)]
struct Importer {
    answer: Imported,
    values: HashMap<String, Value>,
    /// Names of constants of type u8.
    unsigned: HashSet<String>,
    /// Scale and zero point by the name of a quantized value.
    quantized: HashMap<String, (f32, i64)>,
    /// The batch that the file is made for, where it is more than 1.
    batch: Option<usize>,
    n_floats: usize,
    /// Numbers that the weights of further nodes may have.
    weights_left: usize,
    /// Numbers that further folded constants may have.
    folded_left: usize,
}

impl Importer {
    /// Lowers a file whose inputs have these dimensions in a frame.
    fn run(
        file: &OnnxFile,
        sizes: &[Vec<usize>],
        batch: Option<usize>,
    ) -> Result<Imported, EngineError> {
        let mut importer = Self {
            values: file.constants.clone(),
            unsigned: file.unsigned.clone(),
            batch,
            weights_left: file.room,
            folded_left: file.room,
            ..Self::default()
        };
        importer.answer.opset = file.opset;
        importer.answer.inputs.clone_from(&file.declared_inputs);
        importer.answer.outputs.clone_from(&file.declared_outputs);
        let lowered = importer.lower_all(file, sizes);
        let Some(batch) = batch else { return lowered };
        let reason = match &lowered {
            Ok(imported) => imported.unsupported.first().map(ToString::to_string),
            Err(error) => Some(error.to_string()),
        };
        match reason {
            None => lowered,
            Some(reason) => Err(EngineError::Contract {
                expected: "a batch axis that is open or 1: export it with dynamic_axes={'input': {0: 'batch'}, \
                           'audio': {0: 'batch'}}"
                    .into(),
                found: format!("a batch of {batch}, on which the graph depends: {reason}"),
            }),
        }
    }

    fn lower_all(mut self, file: &OnnxFile, sizes: &[Vec<usize>]) -> Result<Imported, EngineError> {
        for (info, dims) in file.inputs.iter().zip(sizes) {
            let map = self
                .new_map(dims.clone())
                .map_err(|refusal| match refusal {
                    Refusal::Unsupported(reason) | Refusal::Malformed(reason) => malformed(
                        format!("input {:?}: {}", Foreign(&info.name), Foreign(&reason)),
                    ),
                })?;
            self.answer.graph.inputs.push(map.id);
            self.values.insert(info.name.clone(), Value::Map(map));
        }
        for (index, node) in file.graph.node.iter().enumerate() {
            self.read_node(index, node)?;
        }
        self.finish(&file.graph)
    }

    fn read_node(&mut self, index: usize, proto: &NodeProto) -> Result<(), EngineError> {
        *self
            .answer
            .operators
            .entry(Foreign(&proto.op_type).to_string())
            .or_default() += 1;
        let output = proto.output.first().cloned().unwrap_or_default();
        // It is only shown, from here on.
        let name = [&proto.name, &output].into_iter().find(|n| !n.is_empty());
        let name = name.map_or_else(|| format!("#{index}"), |name| Foreign(name).to_string());
        if output.is_empty() || self.values.contains_key(&output) {
            return Err(malformed(format!(
                "node \"{name}\" writes {:?}, empty or taken",
                Foreign(&output)
            )));
        }
        let inputs = self.inputs_of(&name, proto)?;
        self.note_type(proto, &output);
        let is_unknown = |input: &Option<Value>| matches!(input, Some(Value::Unknown));
        let value = if inputs.iter().any(is_unknown) {
            Value::Unknown
        } else {
            let view = NodeView { proto, inputs };
            match self.lower(&view, &name) {
                Ok(value) => value,
                Err(Refusal::Malformed(reason)) => {
                    let (op, reason) = (Foreign(&proto.op_type), Foreign(&reason));
                    return Err(malformed(format!("node \"{name}\" ({op}): {reason}")));
                }
                Err(Refusal::Unsupported(reason)) => {
                    self.answer
                        .unsupported
                        .push(EngineError::UnsupportedOperator {
                            node: name,
                            operator: Foreign(&proto.op_type).to_string(),
                            opset: self.answer.opset,
                            reason: Foreign(&reason).to_string(),
                        });
                    Value::Unknown
                }
            }
        };
        self.values.insert(output, value);
        Ok(())
    }

    /// Remembers which constants are of type u8: what that means as a zero point, its value does not say.
    fn note_type(&mut self, proto: &NodeProto, output: &str) {
        let tensors = proto.attribute.iter().filter_map(|a| a.t.as_ref());
        for tensor in tensors {
            if tensor.data_type == element_type::UINT8 {
                self.unsigned.insert(output.to_owned());
            }
        }
    }

    fn inputs_of(&self, node: &str, proto: &NodeProto) -> Result<Vec<Option<Value>>, EngineError> {
        let look_up = |name: &String| match self.values.get(name) {
            _ if name.is_empty() => Ok(None),
            Some(value) => Ok(Some(value.clone())),
            None => Err(malformed(format!(
                "node \"{node}\" reads {:?}, which nothing before it writes",
                Foreign(name)
            ))),
        };
        proto.input.iter().map(look_up).collect()
    }

    fn lower(&mut self, node: &NodeView<'_>, name: &str) -> Answer<Value> {
        let op = node.proto.op_type.as_str();
        check_domain(node.proto)?;
        if constants::is_constant(node) {
            return constants::fold(node, &mut self.folded_left).map(Value::Constant);
        }
        if let ("CastLike", [Some(Value::Constant(constant)), ..]) = (op, &node.inputs[..]) {
            // All that is computed per frame is of floats.
            let n = constants::fits(Some(constant.data().len()), self.folded_left)?;
            self.folded_left = self.folded_left.saturating_sub(n);
            let floats = constants::cast(constant, element_type::FLOAT)?;
            return Ok(Value::Constant(Rc::new(floats)));
        }
        if let Some(value) = quantized::lower(self, node, name)? {
            return Ok(value);
        }
        if op == "Shape" {
            let shape = constants::shape(node, &node.map(0)?.dims);
            return Ok(Value::Constant(Rc::new(shape)));
        }
        let map = match op {
            "ConvTranspose" => transposed::lower(self, node, name)?,
            "Conv" | "FusedConv" | "BatchNormalization" | "Gemm" | "MatMul" => {
                layers::lower(self, node, name)?
            }
            _ => maps::lower(self, node, name)?,
        };
        Ok(Value::Map(map))
    }

    /// A new value of the graph.
    fn new_map(&mut self, dims: Vec<usize>) -> Answer<FeatureMap> {
        let shape = shape_of(&dims)?;
        let n = n_elements(&dims).and_then(|n| n.checked_add(self.n_floats));
        match n.filter(|&n| n <= MAX_ACTIVATIONS) {
            Some(n) => self.n_floats = n,
            None => {
                return node::malformed(format!(
                    "one frame needs more than {MAX_ACTIVATIONS} floats"
                ));
            }
        }
        let id = self.answer.graph.add_value(shape);
        Ok(FeatureMap { id, dims })
    }

    /// Makes the batch of a shape 1 where the file has a larger one.
    fn let_batch_go(&self, shape: &mut [i64]) {
        let batch = self.batch.and_then(|batch| i64::try_from(batch).ok());
        if let (Some(first), Some(batch)) = (shape.first_mut(), batch)
            && *first == batch
        {
            *first = 1;
        }
    }

    /// Counts the weights of a node, before they are copied out of constants that nodes may share.
    fn take_weights(&mut self, n: Option<usize>) -> Answer<()> {
        match n.and_then(|n| self.weights_left.checked_sub(n)) {
            Some(left) => {
                self.weights_left = left;
                Ok(())
            }
            None => node::malformed("all weights together are out of proportion to the file"),
        }
    }

    /// Adds a node whose output has dimensions `dims`.
    fn push(
        &mut self,
        name: &str,
        op: Op,
        inputs: Vec<ValueId>,
        dims: Vec<usize>,
    ) -> Answer<FeatureMap> {
        let map = self.new_map(dims)?;
        let node = Node {
            op,
            inputs,
            output: map.id,
            name: name.to_owned(),
        };
        self.answer.graph.nodes.push(node);
        Ok(map)
    }

    fn finish(mut self, file: &GraphProto) -> Result<Imported, EngineError> {
        for output in &file.output {
            match self.values.get(&output.name) {
                Some(Value::Map(map)) => self.answer.graph.outputs.push(map.id),
                Some(Value::Unknown) => {}
                Some(Value::Constant(_)) if file.output.len() > 1 => {}
                Some(Value::Constant(_)) => {
                    return Err(malformed(format!(
                        "output {:?} is constant",
                        Foreign(&output.name)
                    )));
                }
                None => {
                    return Err(malformed(format!(
                        "nothing writes output {:?}",
                        Foreign(&output.name)
                    )));
                }
            }
        }
        let macs = self.answer.graph.macs();
        if macs > MAX_MACS {
            return Err(malformed(format!(
                "{macs} MACs a frame, at most {MAX_MACS}"
            )));
        }
        Ok(self.answer)
    }
}
