//! The bytes of a file, decoded and checked for size, before anything is made of them.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use lipsync_core::Foreign;
use prost::Message;

use super::{
    Dim, FREE_NUMBERS, MAX_NODE_INPUTS, MAX_NODES, OPSETS, TensorInfo, ends_of_graph, malformed,
    node::Value,
};
use crate::{
    EngineError,
    onnx::{
        Tensor, bounds, element_type,
        external::DataFiles,
        foreign_format,
        proto::{DataFile, DimensionValue, GraphProto, ModelProto, TensorProto, ValueInfoProto},
    },
};

/// A decoded file, whose graph can be lowered for one choice of sizes after the other.
pub(super) struct OnnxFile {
    /// Version of ONNX's own operator set.
    pub opset: i64,
    /// The graph without its initializers; its ends are those that the engine serves.
    pub graph: GraphProto,
    /// The initializers by name.
    pub constants: HashMap<String, Value>,
    /// The names of those of type u8.
    pub unsigned: HashSet<String>,
    /// The inputs in the file's order, with the dimensions that the graph reads after
    /// [`ends_of_graph`] has cut its ends.
    pub inputs: Vec<TensorInfo>,
    /// The inputs as the file declares them.
    pub declared_inputs: Vec<TensorInfo>,
    /// The outputs as the file declares them.
    pub declared_outputs: Vec<TensorInfo>,
    /// Numbers that packed weights and folded constants may have, each.
    pub room: usize,
}

impl OnnxFile {
    pub fn read(onnx: &[u8]) -> Result<Self, EngineError> {
        let foreign = || foreign_format(onnx).map(|found| malformed(format!("it is {found}")));
        bounds::check(onnx)?;
        let model = match ModelProto::decode(onnx) {
            Ok(model) if model.graph.is_some() => model,
            Ok(_) => return Err(foreign().unwrap_or_else(|| malformed("it has no graph"))),
            Err(error) => {
                let reason = || malformed(Foreign(&error.to_string()).to_string());
                return Err(foreign().unwrap_or_else(reason));
            }
        };
        let opset = opset(&model)?;
        let mut graph = model.graph.unwrap_or_default();
        check_size(&graph)?;
        let (constants, unsigned) = constants(&mut graph, &model.data_files, Tensor::read)?;
        let is_input = |proto: &&ValueInfoProto| !constants.contains_key(&proto.name);
        let declared = |protos: &[ValueInfoProto]| -> Result<Vec<TensorInfo>, EngineError> {
            protos.iter().filter(is_input).map(tensor_info).collect()
        };
        let declared_inputs = declared(&graph.input)?;
        let declared_outputs = graph
            .output
            .iter()
            .map(tensor_info)
            .collect::<Result<_, _>>()?;
        ends_of_graph::cut(&mut graph, &constants);
        let inputs = declared(&graph.input)?;
        for proto in graph.input.iter().filter(is_input).chain(&graph.output) {
            check_is_float(proto)?;
        }
        Ok(Self {
            opset,
            graph,
            constants,
            unsigned,
            inputs,
            declared_inputs,
            declared_outputs,
            room: onnx.len().saturating_add(FREE_NUMBERS),
        })
    }
}

/// Refuses graphs of too many nodes.
pub(super) fn check_size(graph: &GraphProto) -> Result<(), EngineError> {
    let n_inputs: usize = graph.node.iter().map(|node| node.input.len()).sum();
    if graph.node.len() > MAX_NODES || n_inputs > MAX_NODE_INPUTS {
        return Err(malformed(format!(
            "{} nodes with {n_inputs} inputs, at most {MAX_NODES} with {MAX_NODE_INPUTS}",
            graph.node.len()
        )));
    }
    Ok(())
}

pub(super) fn opset(model: &ModelProto) -> Result<i64, EngineError> {
    let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let found = model.opset_import.iter().find(|o| own(&o.domain));
    let opset = found.map_or(0, |o| o.version);
    if OPSETS.contains(&opset) {
        return Ok(opset);
    }
    Err(malformed(format!(
        "opset {opset}, known are {} to {}: export it with opset_version=17",
        OPSETS.start(),
        OPSETS.end()
    )))
}

type Constants = (HashMap<String, Value>, HashSet<String>);
/// How a constant is read.
type Read = fn(&TensorProto, &mut DataFiles<'_>) -> Result<Tensor, EngineError>;

/// Takes the initializers out of a graph, and their data out of the files beside it.
pub(super) fn constants(
    graph: &mut GraphProto,
    files: &[DataFile],
    read: Read,
) -> Result<Constants, EngineError> {
    let mut files = DataFiles::of(files);
    let (mut constants, mut unsigned) = (HashMap::new(), HashSet::new());
    for proto in std::mem::take(&mut graph.initializer) {
        let value = Value::Constant(Rc::new(read(&proto, &mut files)?));
        if proto.data_type == element_type::UINT8 {
            unsigned.insert(proto.name.clone());
        }
        if constants.insert(proto.name.clone(), value).is_some() {
            return Err(malformed(format!(
                "two initializers {:?}",
                Foreign(&proto.name)
            )));
        }
    }
    // Constants may be nodes. Their data comes into the nodes, so that they are read as any other.
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    for tensor in attributes.filter_map(|attribute| attribute.t.as_mut()) {
        if tensor.data_location != 0 {
            tensor.raw_data = files.take(tensor)?.to_vec();
            tensor.data_location = 0;
        }
    }
    Ok((constants, unsigned))
}

pub(super) fn tensor_info(proto: &ValueInfoProto) -> Result<TensorInfo, EngineError> {
    let name = proto.name.clone();
    let tensor = proto.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let shown = Foreign(&proto.name);
    let tensor = tensor.ok_or_else(|| malformed(format!("{shown:?} is not a tensor")))?;
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

fn check_is_float(proto: &ValueInfoProto) -> Result<(), EngineError> {
    let tensor = proto.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let found = tensor.map_or(0, |tensor| tensor.elem_type);
    if element_type::is_float(found) {
        return Ok(());
    }
    Err(malformed(format!(
        "{:?} has elements of type {}, not floats, and the graph has no Cast and division by 255 beside it",
        Foreign(&proto.name),
        element_type::name(found)
    )))
}
