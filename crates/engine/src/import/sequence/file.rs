//! The file of an encoder of speech: its ends, which are not those of a generator, and its constants.

use std::collections::HashMap;

use prost::Message;

use crate::{
    EngineError,
    import::{
        FREE_NUMBERS, TensorInfo,
        file::{self, check_size, tensor_info},
        malformed,
        node::Value,
    },
    onnx::{
        Tensor, bounds,
        proto::{GraphProto, ModelProto, ValueInfoProto},
    },
};

/// A decoded file.
pub(super) struct SequenceFile {
    /// Version of ONNX's own operator set.
    pub opset: i64,
    /// The graph without its initializers.
    pub graph: GraphProto,
    /// The initializers by name.
    pub constants: HashMap<String, Value>,
    /// Numbers that folded constants may have.
    pub room: usize,
    pub ends: Ends,
}

/// What a file declares.
pub(super) struct Ends {
    /// The inputs in the file's order, without initializers.
    pub inputs: Vec<TensorInfo>,
    /// Their element types.
    pub element_types: Vec<i32>,
    /// The outputs.
    pub outputs: Vec<TensorInfo>,
}

/// A model of which nothing but the ends is decoded.
#[derive(Clone, PartialEq, Message)]
struct Outline {
    #[prost(message, optional, tag = "7")]
    graph: Option<OutlineGraph>,
}

#[derive(Clone, PartialEq, Message)]
struct OutlineGraph {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Named>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "8")]
    name: String,
}

impl Ends {
    /// Reads the ends of a file and nothing else.
    pub fn read(onnx: &[u8]) -> Result<Self, EngineError> {
        bounds::check(onnx)?;
        let outline = Outline::decode(onnx).ok().and_then(|model| model.graph);
        let Some(graph) = outline else {
            return Err(malformed("it has no graph"));
        };
        let names: Vec<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let is_input = |proto: &&ValueInfoProto| !names.contains(&proto.name.as_str());
        Self::of(graph.input.iter().filter(is_input), &graph.output)
    }

    fn of<'a>(
        inputs: impl Iterator<Item = &'a ValueInfoProto>,
        outputs: &[ValueInfoProto],
    ) -> Result<Self, EngineError> {
        let element_type = |proto: &ValueInfoProto| {
            let tensor = proto.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
            tensor.map_or(0, |tensor| tensor.elem_type)
        };
        let (mut found, mut element_types) = (Vec::new(), Vec::new());
        for proto in inputs {
            found.push(tensor_info(proto)?);
            element_types.push(element_type(proto));
        }
        Ok(Self {
            inputs: found,
            element_types,
            outputs: outputs.iter().map(tensor_info).collect::<Result<_, _>>()?,
        })
    }
}

impl SequenceFile {
    pub fn read(onnx: &[u8]) -> Result<Self, EngineError> {
        bounds::check(onnx)?;
        let model = ModelProto::decode(onnx).map_err(|e| malformed(e.to_string()))?;
        let opset = file::opset(&model)?;
        let mut graph = model.graph.unwrap_or_default();
        check_size(&graph)?;
        let read = Tensor::read_with_infinities;
        let (constants, _) = file::constants(&mut graph, &model.data_files, read)?;
        let is_input = |proto: &&ValueInfoProto| !constants.contains_key(&proto.name);
        let ends = Ends::of(graph.input.iter().filter(is_input), &graph.output)?;
        Ok(Self {
            opset,
            graph,
            constants,
            room: onnx.len().saturating_add(FREE_NUMBERS),
            ends,
        })
    }

    /// Numbers of the initializers that are floats.
    pub fn n_parameters(&self) -> u64 {
        let floats = |value: &Value| match value {
            Value::Constant(tensor) => tensor.floats().map_or(0, |floats| floats.len() as u64),
            _ => 0,
        };
        self.constants.values().map(floats).sum()
    }
}
