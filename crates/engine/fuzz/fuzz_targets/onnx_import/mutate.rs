//! Changes to a model that leave it a model: another operator, input, attribute, dimension.

use lipsync_core::SplitMix64;
use lipsync_engine::{
    onnx::proto::{
        AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
        TensorProto,
    },
};
use prost::Message;

const OPERATORS: [&str; 38] = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "Div",
    "Dropout",
    "Flatten",
    "Floor",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "Relu",
    "Reshape",
    "Resize",
    "Shape",
    "Sigmoid",
    "Slice",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
    "Gelu",
    "Split",
    "Softmax",
    "Exp",
];
const ATTRIBUTES: [&str; 27] = [
    "allowzero",
    "alpha",
    "antialias",
    "auto_pad",
    "axes",
    "axis",
    "beta",
    "ceil_mode",
    "coordinate_transformation_mode",
    "count_include_pad",
    "dilations",
    "end",
    "epsilon",
    "group",
    "kernel_shape",
    "mode",
    "pads",
    "perm",
    "start",
    "strides",
    "to",
    "training_mode",
    "transA",
    "transB",
    "value",
    "value_int",
    "value_ints",
];
const STRINGS: [&str; 8] = [
    "linear",
    "nearest",
    "align_corners",
    "constant",
    "edge",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
];

/// A changed model, or `None` where the bytes are none.
pub fn model(bytes: &[u8], seed: u32) -> Option<Vec<u8>> {
    let mut model = ModelProto::decode(bytes).ok()?;
    let mut random = Random(SplitMix64::new(seed.into()));
    for _ in 0..=random.below(3) {
        match random.below(12) {
            0 => model
                .opset_import
                .iter_mut()
                .for_each(|o| o.version = 9 + random.number() % 14),
            _ => change(model.graph.get_or_insert_default(), &mut random),
        }
    }
    Some(model.encode_to_vec())
}

struct Random(SplitMix64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.0.next_u64() % n.max(1) as u64).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    fn pick_mut<'a, T>(&mut self, of: &'a mut [T]) -> Option<&'a mut T> {
        let i = self.below(of.len());
        of.get_mut(i)
    }

    /// A size, an axis, or a number at the edge of some range.
    fn number(&mut self) -> i64 {
        let edges = [i64::MAX, i64::MIN, 1 << 31, 1 << 24, 1 << 16, -1, 0, 1];
        match self.below(4) {
            0 => self.pick(&edges).copied().unwrap_or(0),
            1 => self.below(1 << 12) as i64,
            _ => self.below(9) as i64 - 3,
        }
    }

    fn numbers(&mut self) -> Vec<i64> {
        (0..self.below(9)).map(|_| self.number()).collect()
    }
}

fn change(graph: &mut GraphProto, random: &mut Random) {
    let names = names(graph);
    match random.below(11) {
        0 => {
            if let Some(node) = random.pick_mut(&mut graph.node) {
                node.op_type = random.pick(&OPERATORS).unwrap_or(&"Add").to_string();
            }
        }
        1 | 2 => {
            let name = random.pick(&names).cloned().unwrap_or_default();
            if let Some(node) = random.pick_mut(&mut graph.node) {
                match random.pick_mut(&mut node.input) {
                    Some(input) => *input = name,
                    None => node.input.push(name),
                }
            }
        }
        3 => {
            let name = random.pick(&names).cloned().unwrap_or_default();
            if let Some(node) = random.pick_mut(&mut graph.node) {
                node.input.push(name);
            }
        }
        4 | 5 => insert(graph, &names, random),
        6 => {
            let i = random.below(graph.node.len());
            if i < graph.node.len() {
                graph.node.remove(i);
            }
        }
        7 | 8 => {
            if let Some(node) = random.pick_mut(&mut graph.node) {
                change_attribute(node, random);
            }
        }
        9 => {
            if let Some(tensor) = random.pick_mut(&mut graph.initializer) {
                change_tensor(tensor, random);
            }
        }
        _ => {
            let size = random.number();
            let ends = if random.below(2) == 0 {
                &mut graph.input
            } else {
                &mut graph.output
            };
            let shape = random
                .pick_mut(ends)
                .and_then(|end| end.r#type.as_mut()?.tensor_type.as_mut())
                .map(|tensor| tensor.shape.get_or_insert_default());
            if let Some(dim) = shape.and_then(|shape| random.pick_mut(&mut shape.dim)) {
                *dim = DimensionProto {
                    value: Some(DimensionValue::Size(size)),
                };
            }
        }
    }
}

fn names(graph: &GraphProto) -> Vec<String> {
    let ends = graph.input.iter().map(|i| &i.name);
    let constants = graph.initializer.iter().map(|i| &i.name);
    let values = graph.node.iter().flat_map(|n| &n.output);
    ends.chain(constants).chain(values).cloned().collect()
}

/// Puts a node between a value and one of its readers.
fn insert(graph: &mut GraphProto, names: &[String], random: &mut Random) {
    let place = random.below(graph.node.len());
    let Some(reader) = graph.node.get_mut(place) else {
        return;
    };
    let output = format!("between{}", random.below(1 << 20));
    let input = random
        .pick_mut(&mut reader.input)
        .map(|i| std::mem::replace(i, output.clone()));
    let mut node = NodeProto {
        op_type: random.pick(&OPERATORS).unwrap_or(&"Add").to_string(),
        input: vec![input.unwrap_or_default()],
        output: vec![output],
        ..NodeProto::default()
    };
    for _ in 0..random.below(3) {
        let other = random.pick(names).cloned().unwrap_or_default();
        // Some operators double what they read twice.
        let same = node.input.first().cloned().unwrap_or_default();
        node.input
            .push(if random.below(3) == 0 { same } else { other });
        change_attribute(&mut node, random);
    }
    graph.node.insert(place, node);
}

fn change_attribute(node: &mut NodeProto, random: &mut Random) {
    if node.attribute.is_empty() || random.below(3) == 0 {
        node.attribute.push(AttributeProto {
            name: random.pick(&ATTRIBUTES).unwrap_or(&"axis").to_string(),
            ..AttributeProto::default()
        });
    }
    let (number, numbers) = (random.number(), random.numbers());
    let string = random.pick(&STRINGS).unwrap_or(&"").as_bytes().to_vec();
    let what = random.below(6);
    let Some(attribute) = random.pick_mut(&mut node.attribute) else {
        return;
    };
    match what {
        0 => attribute.i = Some(number),
        1 => attribute.f = Some(number as f32),
        2 => attribute.s = Some(string),
        3 => attribute.ints = numbers,
        4 => match random.pick_mut(&mut attribute.ints) {
            Some(int) => *int = number,
            None => attribute.ints.push(number),
        },
        _ => change_tensor(attribute.t.get_or_insert_default(), random),
    }
}

fn change_tensor(tensor: &mut TensorProto, random: &mut Random) {
    match random.below(4) {
        0 => tensor.dims = random.numbers(),
        1 => {
            let number = random.number();
            if let Some(dim) = random.pick_mut(&mut tensor.dims) {
                *dim = number;
            }
        }
        2 => tensor.data_type = [1, 6, 7, 9, 10, 11][random.below(6)],
        // Integers, as shapes, axes and pads are.
        _ => {
            let numbers = random.numbers();
            *tensor = TensorProto {
                name: tensor.name.clone(),
                dims: vec![numbers.len() as i64],
                data_type: 7,
                int64_data: numbers,
                ..TensorProto::default()
            };
        }
    }
}
