//! Building an ONNX file node by node.

use prost::Message;

use lipsync_core::{SplitMix64, saturate::i64_of};

use crate::onnx::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// A convolution to be written.
#[derive(Debug, Clone, Copy)]
pub struct ConvSpec {
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Step along rows and columns.
    pub stride: [usize; 2],
    /// Border on every side.
    pub pad: usize,
    /// Groups.
    pub groups: usize,
    /// Factor on the random weights; 1 keeps the variance of what a `ReLU` gave.
    pub gain: f32,
}

impl ConvSpec {
    /// A 1x1 convolution.
    #[must_use]
    pub fn point(c_in: usize, c_out: usize) -> Self {
        Self {
            c_in,
            c_out,
            kernel: 1,
            stride: [1, 1],
            pad: 0,
            groups: 1,
            gain: 1.0,
        }
    }

    /// A dense 3x3 convolution.
    #[must_use]
    pub fn dense_3x3(c_in: usize, c_out: usize, stride: [usize; 2], pad: usize) -> Self {
        Self {
            kernel: 3,
            stride,
            pad,
            ..Self::point(c_in, c_out)
        }
    }

    /// A depthwise 3x3 convolution.
    #[must_use]
    pub fn depthwise_3x3(c: usize, stride: usize) -> Self {
        Self {
            kernel: 3,
            stride: [stride; 2],
            pad: 1,
            groups: c,
            ..Self::point(c, c)
        }
    }
}

/// A graph under construction. Methods that add a node return the name of its output.
#[derive(Debug)]
pub struct NetworkBuilder {
    graph: GraphProto,
    opset: i64,
    batch_norm: bool,
    random: SplitMix64,
    /// Factor on what the blocks of a network expand, which their projections take back.
    pub wide_gain: f32,
}

impl NetworkBuilder {
    /// An empty graph for opset `opset`. With `batch_norm`, [`conv`](Self::conv) writes a
    /// `BatchNormalization` after each convolution instead of a bias.
    #[must_use]
    pub fn new(opset: i64, batch_norm: bool, seed: u64) -> Self {
        let graph = GraphProto {
            name: "network".into(),
            ..GraphProto::default()
        };
        Self {
            graph,
            opset,
            batch_norm,
            random: SplitMix64::new(seed),
            wide_gain: 1.0,
        }
    }

    /// The opset that nodes are written for.
    #[must_use]
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Declares an input.
    pub fn input(&mut self, name: &str, dims: &[Option<usize>]) {
        self.graph.input.push(value_info(name, dims));
    }

    /// Declares an output.
    pub fn output(&mut self, name: &str, dims: &[Option<usize>]) {
        self.graph.output.push(value_info(name, dims));
    }

    /// Adds a node with one output.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = format!("{}_{}", op.to_lowercase(), self.graph.node.len());
        self.node_to(op, inputs, attributes, &output);
        output
    }

    /// Adds a node whose output has a given name.
    pub fn node_to(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        output: &str,
    ) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("{op}_{}", self.graph.node.len()),
            op_type: op.to_owned(),
            attribute: attributes,
            domain: String::new(),
        });
    }

    /// Adds a constant of floats as an initializer.
    pub fn floats(&mut self, dims: &[usize], values: &[f32]) -> String {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(dims, 1, raw_data)
    }

    /// Adds a list of integers as an initializer.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(&[values.len()], 7, raw_data)
    }

    /// Adds an integer as a `Constant` node without dimensions.
    pub fn int_node(&mut self, value: i64) -> String {
        let tensor = TensorProto {
            data_type: 7,
            raw_data: value.to_le_bytes().to_vec(),
            ..TensorProto::default()
        };
        let attribute = AttributeProto {
            t: Some(tensor),
            r#type: 4,
            ..named("value")
        };
        self.node("Constant", &[], vec![attribute])
    }

    fn initializer(&mut self, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let name = format!("c{}", self.graph.initializer.len());
        let dims = dims.iter().map(|&d| i64_of(d)).collect();
        let tensor = TensorProto {
            name: name.clone(),
            dims,
            data_type,
            raw_data,
            ..TensorProto::default()
        };
        self.graph.initializer.push(tensor);
        name
    }

    /// Adds a convolution with random weights, scaled after He et al. so that values stay of the
    /// order of 1, and random biases; or the same with a normalisation.
    pub fn conv(&mut self, input: &str, spec: ConvSpec) -> String {
        let per_output = spec.c_in / spec.groups * spec.kernel * spec.kernel;
        let bound = spec.gain * (6.0 / small(per_output)).sqrt();
        let weights = self.random.floats(spec.c_out * per_output, -bound, bound);
        let dims = [
            spec.c_out,
            spec.c_in / spec.groups,
            spec.kernel,
            spec.kernel,
        ];
        let weights = self.floats(&dims, &weights);
        let (stride, pad) = (spec.stride.map(i64_of), i64_of(spec.pad));
        let attributes = vec![
            ints_attribute("dilations", &[1, 1]),
            int_attribute("group", i64_of(spec.groups)),
            ints_attribute("kernel_shape", &[i64_of(spec.kernel); 2]),
            ints_attribute("pads", &[pad; 4]),
            ints_attribute("strides", &stride),
        ];
        self.normalised("Conv", [input, &weights], spec, attributes)
    }

    /// As [`conv`](Self::conv), transposed: every pixel of the input adds its kernel to the output, which has
    /// `more` pixels beyond the last one.
    pub fn conv_transpose(&mut self, input: &str, spec: ConvSpec, more: usize) -> String {
        let plane = spec.kernel * spec.kernel;
        // Each pixel of the output meets as many taps.
        let n_taps = plane / (spec.stride[0] * spec.stride[1]);
        let bound = spec.gain * (6.0 / small(spec.c_in * n_taps.max(1))).sqrt();
        let n_weights = spec.c_in * spec.c_out * plane;
        let weights = self.random.floats(n_weights, -bound, bound);
        let dims = [spec.c_in, spec.c_out, spec.kernel, spec.kernel];
        let weights = self.floats(&dims, &weights);
        let attributes = vec![
            ints_attribute("kernel_shape", &[i64_of(spec.kernel); 2]),
            ints_attribute("output_padding", &[i64_of(more); 2]),
            ints_attribute("pads", &[i64_of(spec.pad); 4]),
            ints_attribute("strides", &spec.stride.map(i64_of)),
        ];
        self.normalised("ConvTranspose", [input, &weights], spec, attributes)
    }

    /// A convolution and its bias or normalisation.
    fn normalised(
        &mut self,
        op: &str,
        [input, weights]: [&str; 2],
        spec: ConvSpec,
        attributes: Vec<AttributeProto>,
    ) -> String {
        let bias = self.random.floats(spec.c_out, -0.1, 0.1);
        if !self.batch_norm {
            let bias = self.floats(&[spec.c_out], &bias);
            return self.node(op, &[input, weights, &bias], attributes);
        }
        let conv = self.node(op, &[input, weights], attributes);
        let mut part = |low, high| {
            let values = self.random.floats(spec.c_out, low, high);
            self.floats(&[spec.c_out], &values)
        };
        let (gamma, mean, variance) = (part(0.8, 1.2), part(-0.1, 0.1), part(0.8, 1.2));
        let beta = self.floats(&[spec.c_out], &bias);
        let inputs = [&conv, &gamma, &beta, &mean, &variance].map(String::as_str);
        self.node(
            "BatchNormalization",
            &inputs,
            vec![float_attribute("epsilon", 1e-5)],
        )
    }

    /// Adds a `Relu`.
    pub fn relu(&mut self, input: &str) -> String {
        self.node("Relu", &[input], vec![])
    }

    /// Adds a concatenation of channels.
    pub fn concat(&mut self, inputs: &[&str]) -> String {
        self.node("Concat", inputs, vec![int_attribute("axis", 1)])
    }

    /// The file.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let model = ModelProto {
            // The format version of opset 11; later opsets do not need a later one.
            ir_version: 6,
            producer_name: "lipsync-engine".into(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: self.opset,
            }],
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }
}

fn named(name: &str) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        ..AttributeProto::default()
    }
}

/// An attribute that is an integer.
#[must_use]
pub fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        i: Some(value),
        r#type: 2,
        ..named(name)
    }
}

/// An attribute that is a float.
#[must_use]
pub fn float_attribute(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        f: Some(value),
        r#type: 1,
        ..named(name)
    }
}

/// An attribute that is a list of integers.
#[must_use]
pub fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        ints: values.to_vec(),
        r#type: 7,
        ..named(name)
    }
}

/// An attribute that is a string.
#[must_use]
pub fn string_attribute(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        s: Some(value.as_bytes().to_vec()),
        r#type: 3,
        ..named(name)
    }
}

fn value_info(name: &str, dims: &[Option<usize>]) -> ValueInfoProto {
    let dim = |size: &Option<usize>| DimensionProto {
        value: Some(match size {
            Some(size) => DimensionValue::Size(i64_of(*size)),
            None => DimensionValue::Symbol("batch".into()),
        }),
    };
    let shape = TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    };
    let tensor_type = Some(TensorTypeProto {
        elem_type: 1,
        shape: Some(shape),
    });
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type }),
    }
}

#[expect(clippy::cast_precision_loss, reason = "fan-ins are far below 2^24")]
fn small(n: usize) -> f32 {
    n as f32
}
