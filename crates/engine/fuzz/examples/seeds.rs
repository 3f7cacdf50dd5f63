//! Writes what the fuzzer starts from: the small networks of the goldens, with weights that a node
//! makes at load instead of the bytes, so that most of a file is structure; and a network of every
//! operator on maps so small that it is run as well.
//!
//! `cargo run --example seeds -- FOLDER`

use std::{env, error::Error, fs, path::PathBuf};

use lipsync_engine::{
    network_writer::{
        builder::{
            ConvSpec, NetworkBuilder, float_attribute, int_attribute, ints_attribute,
            string_attribute,
        },
        variants::{VARIANTS, write_variant},
    },
    onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto},
};
use prost::Message;

/// Longest constant that stays in the file, in bytes.
const MAX_BYTES: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args().nth(1).ok_or("usage: seeds FOLDER")?);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("operators"), every_operator())?;
    for name in VARIANTS.iter().filter(|name| name.starts_with("small")) {
        let onnx = write_variant(name).ok_or("a variant without a network")?;
        let mut model = ModelProto::decode(onnx.as_slice())?;
        model.graph.iter_mut().for_each(strip);
        fs::write(folder.join(name), model.encode_to_vec())?;
    }
    Ok(())
}

fn every_operator() -> Vec<u8> {
    let mut net = NetworkBuilder::new(13, true, 1);
    net.input("x", &[None, Some(4), Some(6), Some(5)]);
    net.output("y", &[]);
    net.output("z", &[]);
    let wide = net.conv("x", ConvSpec::point(4, 8));
    let wide = net.relu(&wide);
    let wide = net.conv(&wide, ConvSpec::depthwise_3x3(8, 1));
    let wide = net.relu(&wide);
    let block = net.conv(&wide, ConvSpec::point(8, 4));
    let sum = net.node("Add", &[&block, "x"], vec![]);
    let dense = net.conv(&sum, ConvSpec::dense_3x3(4, 6, [2, 1], 1));
    let leaky = net.node("LeakyRelu", &[&dense], vec![float_attribute("alpha", 0.2)]);
    let shape = net.node("Shape", &[&sum], vec![]);
    let (starts, ends) = (net.ints(&[0]), net.ints(&[2]));
    let front = net.node("Slice", &[&shape, &starts, &ends], vec![]);
    let ends = net.ints(&[6, 10]);
    let sizes = net.node("Concat", &[&front, &ends], vec![int_attribute("axis", 0)]);
    let modes = ["mode", "coordinate_transformation_mode"].into_iter();
    let modes = modes.zip(["linear", "align_corners"]);
    let modes = modes
        .map(|(name, value)| string_attribute(name, value))
        .collect();
    let up = net.node("Resize", &[&sum, "", "", &sizes], modes);
    let pool = |n| {
        vec![
            ints_attribute("kernel_shape", &[2, 2]),
            ints_attribute("strides", &[n, n]),
        ]
    };
    let most = net.node("MaxPool", &[&up], pool(1));
    let mean = net.node("AveragePool", &[&most], pool(2));
    let pads = net.ints(&[0, 0, 1, 0, 0, 0, 0, 1]);
    let padded = net.node("Pad", &[&leaky, &pads], vec![]);
    let factor = net.floats(&[6, 1, 1], &[0.5; 6]);
    let scaled = net.node("Mul", &[&padded, &factor], vec![]);
    let global = net.node("GlobalAveragePool", &[&scaled], vec![]);
    let flat = net.node("Flatten", &[&global], vec![]);
    let matrix = net.floats(&[6, 3], &[0.25; 18]);
    let product = net.node("Gemm", &[&flat, &matrix], vec![]);
    let axes = net.ints(&[2, 3]);
    net.node_to("Unsqueeze", &[&product, &axes], vec![], "z");
    let joined = net.concat(&[&mean, &mean]);
    net.node_to("Sigmoid", &[&joined], vec![], "y");
    net.finish()
}

fn strip(graph: &mut GraphProto) {
    let (large, small) = std::mem::take(&mut graph.initializer)
        .into_iter()
        .partition(|tensor: &TensorProto| tensor.raw_data.len() > MAX_BYTES);
    graph.initializer = small;
    let mut makers = vec![];
    for tensor in large {
        let shape = format!("{}_shape", tensor.name);
        makers.push(NodeProto {
            op_type: "ConstantOfShape".into(),
            input: vec![shape.clone()],
            output: vec![tensor.name],
            ..NodeProto::default()
        });
        graph.initializer.push(TensorProto {
            name: shape,
            data_type: 7,
            dims: vec![tensor.dims.len() as i64],
            int64_data: tensor.dims,
            ..TensorProto::default()
        });
    }
    makers.append(&mut graph.node);
    graph.node = makers;
}
