//! From the bytes of an ONNX file to a [`Graph`].
//!
//! Nodes are visited in the file's order. What depends on no input is folded at once
//! (`constants`); the rest is lowered to the small operator set (`layers`, `maps`). The batch
//! axis is set to 1: frames are run one at a time. Nothing in the bytes is trusted: sizes are
//! checked before memory is taken, and a node that is not understood is reported by name. Next:
//! [`crate::graph::simplify`].

mod constants;
mod dims;
mod ends;
mod layers;
mod maps;
mod node;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    rc::Rc,
};

use lipsync_core::Foreign;
use prost::Message;

pub(crate) use self::ends::{MAX_SHOWN_ENDS, describe_ends};
use self::node::{Answer, FeatureMap, NodeView, Refusal, Value};
use crate::{
    EngineError,
    graph::{Graph, Node, Op, Shape, ValueId, simplify::simplify},
    onnx::{
        Tensor,
        proto::{DimensionValue, GraphProto, ModelProto, NodeProto, ValueInfoProto},
        tensor::{element_type, n_elements},
    },
};

/// Most floats that all values of one frame may have together (1 GiB).
pub const MAX_ACTIVATIONS: usize = 1 << 28;
/// Most nodes of a file; the largest exports of the family have a few hundred.
pub const MAX_NODES: usize = 4096;
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
pub const OPSETS: std::ops::RangeInclusive<i64> = 11..=21;

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

/// Reads a file. Operators that nothing executes are listed in the answer, not an error yet.
///
/// # Errors
/// [`EngineError::Malformed`] for bytes that are no ONNX model or one that contradicts itself,
/// [`EngineError::Contract`] for inputs whose shape is open in more than the batch.
pub fn import(onnx: &[u8]) -> Result<Imported, EngineError> {
    let model =
        ModelProto::decode(onnx).map_err(|e| malformed(Foreign(&e.to_string()).to_string()))?;
    let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let opset = model
        .opset_import
        .iter()
        .find(|o| own(&o.domain))
        .map_or(0, |o| o.version);
    if !OPSETS.contains(&opset) {
        return Err(malformed(format!(
            "opset {opset}, known are {} to {}",
            OPSETS.start(),
            OPSETS.end()
        )));
    }
    let file = model.graph.ok_or_else(|| malformed("it has no graph"))?;
    let n_inputs: usize = file.node.iter().map(|node| node.input.len()).sum();
    if file.node.len() > MAX_NODES || n_inputs > MAX_NODE_INPUTS {
        return Err(malformed(format!(
            "{} nodes with {n_inputs} inputs, at most {MAX_NODES} with {MAX_NODE_INPUTS}",
            file.node.len()
        )));
    }
    let mut importer = Importer {
        weights_left: onnx.len().saturating_add(FREE_NUMBERS),
        folded_left: onnx.len().saturating_add(FREE_NUMBERS),
        ..Importer::default()
    };
    importer.answer.opset = opset;
    importer.read_ends(&file)?;
    for (index, node) in file.node.iter().enumerate() {
        importer.read_node(index, node)?;
    }
    importer.finish(&file)
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
    n_floats: usize,
    /// Numbers that the weights of further nodes may have.
    weights_left: usize,
    /// Numbers that further folded constants may have.
    folded_left: usize,
}

impl Importer {
    fn read_ends(&mut self, file: &GraphProto) -> Result<(), EngineError> {
        for proto in &file.initializer {
            let value = Value::Constant(Rc::new(Tensor::from_proto(proto)?));
            if self.values.insert(proto.name.clone(), value).is_some() {
                return Err(malformed(format!(
                    "two initializers {:?}",
                    Foreign(&proto.name)
                )));
            }
        }
        for proto in &file.input {
            if self.values.contains_key(&proto.name) {
                continue;
            }
            let info = tensor_info(proto)?;
            let dims = frame_dims(&info)?;
            let map =
                self.new_map(dims).map_err(|refusal| match refusal {
                    Refusal::Unsupported(reason) | Refusal::Malformed(reason) => malformed(
                        format!("input {:?}: {}", Foreign(&info.name), Foreign(&reason)),
                    ),
                })?;
            self.answer.graph.inputs.push(map.id);
            self.values.insert(info.name.clone(), Value::Map(map));
            self.answer.inputs.push(info);
        }
        self.answer.outputs = file
            .output
            .iter()
            .map(tensor_info)
            .collect::<Result<_, EngineError>>()?;
        Ok(())
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
        if !matches!(node.proto.domain.as_str(), "" | "ai.onnx") {
            return node::unsupported(format!("domain {:?}", node.proto.domain));
        }
        if constants::is_constant(node) {
            return constants::fold(node, &mut self.folded_left).map(Value::Constant);
        }
        if op == "Shape" {
            let shape = constants::shape(node, &node.map(0)?.dims);
            return Ok(Value::Constant(Rc::new(shape)));
        }
        let map = match op {
            "Conv" | "BatchNormalization" | "Gemm" | "MatMul" => layers::lower(self, node, name)?,
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

fn tensor_info(proto: &ValueInfoProto) -> Result<TensorInfo, EngineError> {
    let name = proto.name.clone();
    let tensor = proto.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let shown = Foreign(&proto.name);
    let tensor = tensor.ok_or_else(|| malformed(format!("{shown:?} is not a tensor")))?;
    if tensor.elem_type != element_type::FLOAT {
        let found = tensor.elem_type;
        return Err(malformed(format!(
            "{shown:?} has element type {found}, not f32"
        )));
    }
    let declared = tensor.shape.as_ref().map_or(&[][..], |s| &s.dim);
    let dim = |value: &Option<DimensionValue>| match value {
        Some(DimensionValue::Size(size)) => {
            usize::try_from(*size).map_or_else(|_| Dim::Symbol("?".into()), Dim::Size)
        }
        Some(DimensionValue::Symbol(symbol)) => Dim::Symbol(symbol.clone()),
        None => Dim::Symbol("?".into()),
    };
    let dims = declared.iter().map(|d| dim(&d.value)).collect();
    Ok(TensorInfo { name, dims })
}

/// The dimensions of one frame of an input.
fn frame_dims(info: &TensorInfo) -> Result<Vec<usize>, EngineError> {
    let refused = |expected: &str| EngineError::Contract {
        expected: expected.to_owned(),
        found: format!("input {info}"),
    };
    let mut dims = Vec::with_capacity(info.dims.len());
    for (i, dim) in info.dims.iter().enumerate() {
        dims.push(match dim {
            Dim::Size(0 | 1) | Dim::Symbol(_) if i == 0 => 1,
            _ if i == 0 => return Err(refused("a batch axis that is open or 1")),
            Dim::Size(size) if *size > 0 => *size,
            _ => return Err(refused("an input whose axes but the batch are fixed")),
        });
    }
    Ok(dims)
}
