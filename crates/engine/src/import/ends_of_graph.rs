//! Ends of a graph that turn pictures into numbers and back: taken off, because the engine does that itself.
//!
//! Some people export their network with what surrounds it: bytes in rows of pixels come in, are cast, moved
//! and divided by 255; the output is multiplied, cast and moved back. What is left after the cut takes and
//! gives numbers from 0 to 1 in planes, as all networks of the family. Whatever is not understood stays in the
//! graph, which is then refused or run as it is.

use std::collections::HashMap;

use super::node::Value;
use crate::onnx::{
    Tensor, element_type,
    proto::{AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto},
};

/// Rows of pixels become planes.
const TO_PLANES: [i64; 4] = [0, 3, 1, 2];
/// Planes become rows of pixels.
const TO_PIXELS: [i64; 4] = [0, 2, 3, 1];
/// The number of the brightest pixel.
const WHITE: f32 = 255.0;

/// Cuts the ends of a graph. `constants` are its initializers.
pub(super) fn cut(graph: &mut GraphProto, constants: &HashMap<String, Value>) {
    for index in 0..graph.input.len() {
        if !constants.contains_key(&graph.input[index].name) {
            cut_input(graph, constants, index);
        }
    }
    for index in 0..graph.output.len() {
        cut_output(graph, constants, index);
    }
}

/// What a node at an end does, if it is one of those that are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Copies.
    Same,
    /// Copies, but as another type.
    Cast,
    /// Moves the channels.
    Transpose([i64; 4]),
    /// Multiplies or divides by 255.
    Scale,
    /// Limits or rounds numbers.
    Round,
}

fn cut_input(graph: &mut GraphProto, constants: &HashMap<String, Value>, index: usize) {
    let is_bytes = elem_type(&graph.input[index]) == element_type::UINT8;
    let mut is_scaled = false;
    while let Some(node) = sole_reader(graph, &graph.input[index].name) {
        let step = match step(graph, constants, node, 1.0 / WHITE) {
            Some(Step::Scale) if !is_scaled => {
                is_scaled = true;
                Step::Scale
            }
            Some(step @ (Step::Same | Step::Cast)) => step,
            Some(step @ Step::Transpose(TO_PLANES)) if rank(&graph.input[index]) == 4 => step,
            _ => break,
        };
        let name = graph.node.remove(node).output.swap_remove(0);
        let input = &mut graph.input[index];
        input.name = name;
        if step == Step::Transpose(TO_PLANES) {
            permute(input, TO_PLANES);
        }
    }
    if is_bytes {
        set_float(&mut graph.input[index]);
    }
    if is_bytes && !is_scaled {
        undo_scale(graph, index);
    }
}

/// The network reads numbers up to 255, so the input is multiplied by that.
fn undo_scale(graph: &mut GraphProto, index: usize) {
    let name = graph.input[index].name.clone();
    let (white, scaled) = (format!("{name}/white"), format!("{name}/0 to 1"));
    let constant = NodeProto {
        output: vec![white.clone()],
        op_type: "Constant".into(),
        attribute: vec![AttributeProto {
            name: "value".into(),
            t: Some(TensorProto {
                data_type: element_type::FLOAT,
                float_data: vec![WHITE],
                ..TensorProto::default()
            }),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    };
    let multiply = NodeProto {
        input: vec![scaled.clone(), white],
        output: vec![name],
        op_type: "Mul".into(),
        ..NodeProto::default()
    };
    graph.input[index].name = scaled;
    graph.node.splice(0..0, [constant, multiply]);
}

fn cut_output(graph: &mut GraphProto, constants: &HashMap<String, Value>, index: usize) {
    let mut steps = Vec::new();
    let mut name = graph.output[index].name.clone();
    while let Some(node) = sole_writer(graph, &name) {
        let Some(step) = step(graph, constants, node, WHITE) else {
            break;
        };
        let first = graph.node[node].input.first();
        let map = match step {
            // Of a product, the constant may come first.
            Step::Scale => graph.node[node]
                .input
                .iter()
                .find(|i| scalar(graph, constants, i).is_none()),
            _ => first,
        };
        let Some(before) = map.cloned() else { break };
        steps.push((step, std::mem::replace(&mut name, before)));
    }
    let n_to_scale = steps
        .iter()
        .position(|(step, _)| *step == Step::Scale)
        .map_or(0, |i| i + 1);
    let is_plain = |(step, output): &&(Step, String)| match step {
        Step::Same => true,
        Step::Transpose(perm) => *perm == TO_PIXELS,
        Step::Cast => writer(graph, output).is_some_and(|node| casts_to_float(&graph.node[node])),
        Step::Scale | Step::Round => false,
    };
    // A move of another kind is none of ours.
    let is_foreign =
        |(step, _): &(Step, String)| matches!(step, Step::Transpose(p) if *p != TO_PIXELS);
    if steps[..n_to_scale].iter().any(is_foreign) {
        return;
    }
    let n_plain = steps[n_to_scale..].iter().take_while(is_plain).count();
    let n_cut = n_to_scale + n_plain;
    for (step, output) in &steps[..n_cut] {
        let Some(node) = writer(graph, output) else {
            return;
        };
        let node = graph.node.remove(node);
        let before = node
            .input
            .iter()
            .find(|input| scalar(graph, constants, input).is_none());
        let end = &mut graph.output[index];
        end.name = before.cloned().unwrap_or_default();
        if let Step::Transpose(_) = step {
            permute(end, TO_PLANES);
        }
    }
    if n_to_scale > 0 {
        set_float(&mut graph.output[index]);
    }
}

/// What a node does at an end, where scaling is by `factor`.
fn step(
    graph: &GraphProto,
    constants: &HashMap<String, Value>,
    node: usize,
    factor: f32,
) -> Option<Step> {
    let node = &graph.node[node];
    if node.output.len() != 1 || !matches!(&*node.domain, "" | "ai.onnx") {
        return None;
    }
    let value = |i: usize| scalar(graph, constants, node.input.get(i)?);
    let is_factor = |x: f32| (x / factor - 1.0).abs() < 1e-5;
    match &*node.op_type {
        "Identity" => Some(Step::Same),
        "Cast" => Some(Step::Cast),
        "Clip" | "Round" | "Floor" if factor > 1.0 => Some(Step::Round),
        "Transpose" => {
            let perm = node.attribute.iter().find(|a| a.name == "perm")?;
            Some(Step::Transpose(perm.ints.as_slice().try_into().ok()?))
        }
        "Mul" if value(1).or_else(|| value(0)).is_some_and(is_factor) => Some(Step::Scale),
        "Div" if value(1).is_some_and(|x| is_factor(1.0 / x)) => Some(Step::Scale),
        _ => None,
    }
}

/// The value of a constant of one element.
fn scalar(graph: &GraphProto, constants: &HashMap<String, Value>, name: &str) -> Option<f32> {
    let of = |tensor: &Tensor| match tensor.floats() {
        Some(&[value]) => Some(value),
        _ => None,
    };
    if let Some(Value::Constant(tensor)) = constants.get(name) {
        return of(tensor);
    }
    let node = &graph.node[writer(graph, name)?];
    if node.op_type != "Constant" {
        return None;
    }
    let attribute = node.attribute.first()?;
    match &attribute.t {
        Some(proto) => of(&Tensor::from_proto(proto).ok()?),
        None => attribute.f,
    }
}

/// The only node that reads a value which is no output.
fn sole_reader(graph: &GraphProto, name: &str) -> Option<usize> {
    let is_output = graph.output.iter().any(|output| output.name == name);
    let mut readers = graph
        .node
        .iter()
        .enumerate()
        .filter(|(_, node)| node.input.iter().any(|i| i == name));
    let (index, node) = readers.next()?;
    let is_read_once = node.input.iter().filter(|i| *i == name).count() == 1;
    let writes_output = node
        .output
        .iter()
        .any(|o| graph.output.iter().any(|end| end.name == *o));
    (readers.next().is_none() && !is_output && is_read_once && !writes_output).then_some(index)
}

fn writer(graph: &GraphProto, name: &str) -> Option<usize> {
    graph
        .node
        .iter()
        .position(|node| node.output.iter().any(|output| output == name))
}

/// The node that writes a value which nobody else reads.
fn sole_writer(graph: &GraphProto, name: &str) -> Option<usize> {
    let n_readers = graph
        .node
        .iter()
        .flat_map(|node| &node.input)
        .filter(|input| *input == name)
        .count();
    let is_output = graph.output.iter().any(|output| output.name == name);
    if n_readers + usize::from(is_output) > 1 {
        return None;
    }
    writer(graph, name)
}

fn casts_to_float(node: &NodeProto) -> bool {
    let to = node
        .attribute
        .iter()
        .find(|a| a.name == "to")
        .and_then(|a| a.i);
    to.and_then(|to| to.try_into().ok())
        .is_some_and(element_type::is_float)
}

fn type_of(info: &mut ValueInfoProto) -> Option<&mut crate::onnx::proto::TensorTypeProto> {
    info.r#type
        .as_mut()
        .and_then(|TypeProto { tensor_type }| tensor_type.as_mut())
}

fn elem_type(info: &ValueInfoProto) -> i32 {
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    tensor.map_or(0, |tensor| tensor.elem_type)
}

fn set_float(info: &mut ValueInfoProto) {
    if let Some(tensor) = type_of(info) {
        tensor.elem_type = element_type::FLOAT;
    }
}

fn rank(info: &ValueInfoProto) -> usize {
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    tensor
        .and_then(|tensor| tensor.shape.as_ref())
        .map_or(0, |shape| shape.dim.len())
}

fn permute(info: &mut ValueInfoProto, order: [i64; 4]) {
    let shape = type_of(info).and_then(|tensor| tensor.shape.as_mut());
    if let Some(shape) = shape.filter(|shape| shape.dim.len() == 4) {
        let old = std::mem::take(&mut shape.dim);
        let place = |i: i64| usize::try_from(i).ok().and_then(|i| old.get(i).cloned());
        shape.dim = order.into_iter().filter_map(place).collect();
    }
}
