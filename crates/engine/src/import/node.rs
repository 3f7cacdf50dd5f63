//! One ONNX node as the importer sees it: attributes with defaults, inputs looked up.

use std::rc::Rc;

use lipsync_core::saturate::i64_of;

use crate::{
    graph::ValueId,
    onnx::{Tensor, proto::AttributeProto, proto::NodeProto},
};

/// Why a node was not taken. The caller adds the node's name, operator and opset.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Valid ONNX, but nothing of ours executes it.
    Unsupported(String),
    /// Not valid ONNX.
    Malformed(String),
}

pub(super) type Answer<T> = Result<T, Refusal>;

pub(super) fn unsupported<T>(reason: impl Into<String>) -> Answer<T> {
    Err(Refusal::Unsupported(reason.into()))
}

pub(super) fn malformed<T>(reason: impl Into<String>) -> Answer<T> {
    Err(Refusal::Malformed(reason.into()))
}

/// What a name of the file stands for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Known at load.
    Constant(Rc<Tensor>),
    /// Computed for each frame.
    Map(FeatureMap),
    /// The output of a node that was refused.
    Unknown,
}

/// A value of the graph with the dimensions that the file gives it, the batch of 1 first.
#[derive(Debug, Clone)]
pub(super) struct FeatureMap {
    pub id: ValueId,
    pub dims: Vec<usize>,
}

/// A node and its inputs; an input left out is `None`.
pub(super) struct NodeView<'a> {
    pub proto: &'a NodeProto,
    pub inputs: Vec<Option<Value>>,
}

impl NodeView<'_> {
    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name == name)
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i.unwrap_or(0))
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |a| a.f.unwrap_or(0.0))
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        self.attribute(name).map(|a| a.floats.as_slice())
    }

    pub fn string(&self, name: &str, default: &'static str) -> String {
        self.attribute(name).map_or(default.into(), |a| {
            String::from_utf8_lossy(a.s.as_deref().unwrap_or_default()).into_owned()
        })
    }

    pub fn tensor(&self, name: &str) -> Answer<Option<Tensor>> {
        let Some(proto) = self.attribute(name).and_then(|a| a.t.as_ref()) else {
            return Ok(None);
        };
        match Tensor::from_proto(proto) {
            Ok(tensor) => Ok(Some(tensor)),
            Err(error) => malformed(error.to_string()),
        }
    }

    /// Whether an attribute is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// Input `i`, which must be computed per frame.
    pub fn map(&self, i: usize) -> Answer<&FeatureMap> {
        match self.inputs.get(i) {
            Some(Some(Value::Map(map))) => Ok(map),
            Some(Some(_)) => unsupported(format!("input {i} is a constant")),
            _ => malformed(format!("input {i} is missing")),
        }
    }

    /// Input `i`, which must be a constant if it is there.
    pub fn constant(&self, i: usize) -> Answer<Option<&Rc<Tensor>>> {
        match self.inputs.get(i) {
            Some(Some(Value::Constant(tensor))) => Ok(Some(tensor)),
            Some(Some(_)) => unsupported(format!("input {i} is not a constant")),
            _ => Ok(None),
        }
    }

    /// The floats of input `i`, which must be a constant if it is there.
    pub fn constant_floats(&self, i: usize) -> Answer<Option<&[f32]>> {
        let Some(tensor) = self.constant(i)? else {
            return Ok(None);
        };
        match tensor.floats() {
            Some(floats) => Ok(Some(floats)),
            None => malformed(format!("input {i} does not hold floats")),
        }
    }

    /// Integers that older opsets hold in attribute `name` and newer ones in input `i`.
    pub fn ints_from(&self, name: &str, i: usize) -> Answer<Option<Vec<i64>>> {
        if let Some(ints) = self.ints(name) {
            return Ok(Some(ints.to_vec()));
        }
        let Some(tensor) = self.constant(i)? else {
            return Ok(None);
        };
        match tensor.ints() {
            Some(ints) => Ok(Some(ints.to_vec())),
            None => malformed(format!("input {i} does not hold integers")),
        }
    }
}

/// An axis counted from the end where it is negative.
pub(super) fn axis(axis: i64, rank: usize) -> Answer<usize> {
    let from_start = if axis < 0 {
        axis.saturating_add(i64_of(rank))
    } else {
        axis
    };
    match usize::try_from(from_start) {
        Ok(a) if a < rank => Ok(a),
        _ => malformed(format!("axis {axis} of a tensor of rank {rank}")),
    }
}
