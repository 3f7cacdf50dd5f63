//! Forms of one network, and files that are none.

use lipsync_core::{AudioKind, SplitMix64};
use lipsync_engine::{
    CpuIsa, EngineError, Network, Workspace,
    import::import,
    inspect, load_generator,
    network_writer::{
        Unet,
        builder::{ConvSpec, NetworkBuilder, int_attribute, ints_attribute},
    },
    onnx::{
        element_type,
        proto::{
            AttributeProto, DimensionProto, DimensionValue, ModelProto, NodeProto, TensorProto,
        },
    },
};
use prost::Message;

use crate::support::{face, plain, raw, refusal};

/// Stores all float weights as another type.
fn stored(element_type: i32, bytes: fn(f32) -> Vec<u8>) -> Vec<u8> {
    let mut model = plain();
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        if tensor.data_type == element_type::FLOAT {
            let floats = raw(tensor);
            let (floats, _) = floats.as_chunks::<4>();
            tensor.raw_data = floats
                .iter()
                .flat_map(|f| bytes(f32::from_le_bytes(*f)))
                .collect();
            tensor.data_type = element_type;
        }
    }
    for end in model
        .graph
        .iter_mut()
        .flat_map(|g| g.input.iter_mut().chain(&mut g.output))
    {
        end.r#type
            .as_mut()
            .unwrap()
            .tensor_type
            .as_mut()
            .unwrap()
            .elem_type = element_type;
    }
    model.encode_to_vec()
}

#[test]
fn weights_of_other_float_types_are_run_in_f32() {
    let plain = face(&plain().encode_to_vec());
    let doubles = stored(element_type::DOUBLE, |f| {
        f64::from(f).to_le_bytes().to_vec()
    });
    assert_eq!(face(&doubles), plain);
    // Cut, not rounded: good enough for a byte or two of difference.
    let brain = stored(element_type::BFLOAT16, |f| f.to_le_bytes()[2..].to_vec());
    let differences = face(&brain)
        .into_iter()
        .zip(plain)
        .map(|(a, b)| u32::from(a.abs_diff(b)));
    let (sum, n) = differences.fold((0, 0), |(sum, n), d| (sum + d, n + 1));
    assert!(sum < 4 * n, "{sum} over {n}");
}

#[test]
fn newer_opsets_load() {
    let expected = face(&plain().encode_to_vec());
    for opset in 18..=25 {
        let mut model = plain();
        model.opset_import[0].version = opset;
        assert_eq!(face(&model.encode_to_vec()), expected, "opset {opset}");
    }
    for opset in [10, 26] {
        let mut model = plain();
        model.opset_import[0].version = opset;
        let error = refusal(&model.encode_to_vec());
        assert!(
            error.contains("known are 11 to 25") && error.contains("opset_version="),
            "{error}"
        );
    }
}

pub fn set_dims(model: &mut ModelProto, axes: std::ops::Range<usize>, value: &DimensionValue) {
    for input in &mut model.graph.as_mut().unwrap().input {
        let tensor = input.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
        let dims = &mut tensor.shape.as_mut().unwrap().dim;
        dims[axes.clone()].fill(DimensionProto {
            value: Some(value.clone()),
        });
    }
}

#[test]
fn open_axes_get_the_sizes_of_the_family() {
    for audio in [AudioKind::Ave, AudioKind::Hubert, AudioKind::Wenet] {
        for region_px in [160, 320] {
            let onnx = Unet {
                channels: [2, 1, 1, 1, 2],
                plumbing: true,
                ..Unet::new(region_px, audio)
            }
            .write();
            let mut model = ModelProto::decode(&*onnx).unwrap();
            set_dims(&mut model, 0..4, &DimensionValue::Symbol("any".into()));
            let open = load_generator(&model.encode_to_vec(), CpuIsa::Portable).unwrap();
            let fixed = load_generator(&onnx, CpuIsa::Portable).unwrap();
            assert_eq!(open.geometry(), fixed.geometry(), "{audio} {region_px}");
            assert_eq!(
                open.audio_shape(),
                fixed.audio_shape(),
                "{audio} {region_px}"
            );
        }
    }
    let mut net = NetworkBuilder::new(13, false, 1);
    net.input("x", &[None, Some(7), None, None]);
    net.output("y", &[]);
    net.node_to("Relu", &["x"], vec![], "y");
    let error = import(&net.finish()).unwrap_err().to_string();
    assert!(error.contains("none of the family's sizes fits"), "{error}");
}

#[test]
fn a_fixed_batch_is_made_one_where_the_graph_allows() {
    let mut model = plain();
    set_dims(&mut model, 0..1, &DimensionValue::Size(8));
    assert_eq!(face(&model.encode_to_vec()), face(&plain().encode_to_vec()));

    let reshaping = |dims: [i64; 4]| {
        let mut net = NetworkBuilder::new(13, false, 1);
        net.input("x", &[Some(8), Some(2), Some(4), Some(4)]);
        net.output("y", &[]);
        let dims = net.ints(&dims);
        net.node_to("Reshape", &["x", &dims], vec![], "y");
        net.finish()
    };
    let shape = Network::load(&reshaping([8, 32, 1, 1]), CpuIsa::Portable)
        .unwrap()
        .output_shapes()[0];
    assert_eq!((shape.c, shape.h, shape.w), (32, 1, 1));
    let error = import(&reshaping([16, 16, 1, 1])).unwrap_err();
    assert!(matches!(error, EngineError::Contract { .. }), "{error}");
    assert!(error.to_string().contains("dynamic_axes"), "{error}");
    let batch = DimensionProto {
        value: Some(DimensionValue::Size(2)),
    };
    let input = &mut model.graph.as_mut().unwrap().input[1];
    input
        .r#type
        .as_mut()
        .unwrap()
        .tensor_type
        .as_mut()
        .unwrap()
        .shape
        .as_mut()
        .unwrap()
        .dim[0] = batch;
    assert!(refusal(&model.encode_to_vec()).contains("a batch axis that is open or 1"));
}

#[test]
fn normalisation_in_training_form_is_refused() {
    let mut model = ModelProto::decode(
        &*Unet {
            batch_norm: true,
            channels: [1, 1, 1, 1, 2],
            ..Unet::new(160, AudioKind::Ave)
        }
        .write(),
    )
    .unwrap();
    let nodes = &mut model.graph.as_mut().unwrap().node;
    let norm = nodes
        .iter_mut()
        .find(|node| node.op_type == "BatchNormalization")
        .unwrap();
    norm.output
        .extend(["mean", "var", "saved_mean", "saved_var"].map(String::from));
    let error = refusal(&model.encode_to_vec());
    assert!(
        error.contains("training mode") && error.contains("net.eval()"),
        "{error}"
    );
}

/// A network with its ends as people add them: bytes in rows of pixels come in and go out.
pub fn byte_ends(mut model: ModelProto, divides: bool) -> Vec<u8> {
    let graph = model.graph.as_mut().unwrap();
    let scalar = |name: &str, value: f32| TensorProto {
        name: name.into(),
        data_type: element_type::FLOAT,
        float_data: vec![value],
        ..TensorProto::default()
    };
    graph.initializer.push(scalar("white", 255.0));
    let node =
        |op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>| NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(|&i| i.into()).collect(),
            output: vec![output.into()],
            attribute,
            ..NodeProto::default()
        };
    let name = graph.input[0].name.clone();
    let to = |t: i32| vec![int_attribute("to", t.into())];
    let perm = |p: &[i64]| vec![ints_attribute("perm", p)];
    let mut head = vec![
        node("Cast", &["pixels"], "cast", to(element_type::FLOAT)),
        node("Transpose", &["cast"], "planes", perm(&[0, 3, 1, 2])),
    ];
    if divides {
        head.push(node("Div", &["planes", "white"], &name, vec![]));
    } else {
        head[1].output[0].clone_from(&name);
    }
    graph.node.splice(0..0, head);
    let output = graph.output[0].name.clone();
    graph.node.extend([
        node("Mul", &["white", &output], "scaled", vec![]),
        node("Transpose", &["scaled"], "moved", perm(&[0, 2, 3, 1])),
        node("Cast", &["moved"], "bytes", to(element_type::UINT8)),
    ]);
    graph.input[0].name = "pixels".into();
    graph.output[0].name = "bytes".into();
    for end in [&mut graph.input[0], &mut graph.output[0]] {
        let tensor = end.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
        tensor.elem_type = element_type::UINT8;
        tensor.shape.as_mut().unwrap().dim[1..].rotate_left(1);
    }
    model.encode_to_vec()
}

#[test]
fn ends_in_bytes_are_taken_off() {
    let expected = face(&plain().encode_to_vec());
    assert_eq!(face(&byte_ends(plain(), true)), expected);
    // A network that reads numbers up to 255 gets them.
    assert_ne!(face(&byte_ends(plain(), false)), expected);
}

#[test]
fn outputs_beside_the_face_are_ignored() {
    let mut model = plain();
    let graph = model.graph.as_mut().unwrap();
    let sigmoid = graph
        .node
        .iter()
        .find(|node| node.op_type == "Sigmoid")
        .unwrap();
    let logits = lipsync_engine::onnx::proto::ValueInfoProto {
        name: sigmoid.input[0].clone(),
        ..graph.output[0].clone()
    };
    graph.output.push(logits);
    let relu = graph
        .node
        .iter()
        .find(|node| node.op_type == "Relu")
        .unwrap();
    let inner = lipsync_engine::onnx::proto::ValueInfoProto {
        name: relu.output[0].clone(),
        ..graph.output[0].clone()
    };
    graph.output.insert(0, inner);
    assert_eq!(face(&model.encode_to_vec()), face(&plain().encode_to_vec()));
}

#[test]
fn constants_of_unoptimised_exports_are_folded() {
    let network = |body: fn(&mut NetworkBuilder) -> String| {
        let mut net = NetworkBuilder::new(18, false, 1);
        net.input("x", &[None, Some(4), Some(3), Some(3)]);
        net.output("y", &[]);
        let x = body(&mut net);
        net.node_to("Add", &["x", &x], vec![], "y");
        let network = Network::load(&net.finish(), CpuIsa::Portable).unwrap();
        network
            .run(&mut Workspace::new(), &[&[0.5; 36]])
            .unwrap()
            .swap_remove(0)
    };
    let expanded = network(|net| {
        let (one, dims) = (net.floats(&[1], &[1.0]), net.ints(&[4, 1, 1]));
        let wide = net.node("Expand", &[&one, &dims], vec![]);
        net.node("CastLike", &[&wide, &one], vec![])
    });
    assert_eq!(expanded, [1.5; 36]);
    let chosen = network(|net| {
        let [zero, one, four] = [0, 1, 4].map(|i| net.ints(&[i]));
        let shape = net.node("Shape", &["x"], vec![]);
        let channels = net.node("Gather", &[&shape, &one], vec![]);
        let is_four = net.node("Equal", &[&channels, &four], vec![]);
        let [yes, no] = [2.0, 9.0].map(|f| net.floats(&[1], &[f]));
        let _ = zero;
        net.node("Where", &[&is_four, &yes, &no], vec![])
    });
    assert_eq!(chosen, [2.5; 36]);
    let counted = network(|net| {
        let [zero, four, one] = [0, 4, 1].map(|i| net.ints(&[i]));
        let numbers = net.node("Range", &[&zero, &four, &one], vec![]);
        let floats = net.node("Cast", &[&numbers], vec![int_attribute("to", 1)]);
        let dims = net.ints(&[4, 1, 1]);
        net.node("Reshape", &[&floats, &dims], vec![])
    });
    assert_eq!(counted[35], 3.5);
}

#[test]
fn files_of_other_kinds_are_named() {
    let error = refusal(b"PK\x03\x04.............archive/data.pkl");
    assert!(
        error.contains("PyTorch checkpoint") && error.contains("torch.onnx.export"),
        "{error}"
    );
    let error = refusal(b"version https://git-lfs.github.com/spec/v1\n");
    assert!(error.contains("git lfs pull"), "{error}");
    assert!(
        inspect(b"<!DOCTYPE html>")
            .unwrap_err()
            .to_string()
            .contains("HTML")
    );
}

#[test]
fn eight_bit_weights_are_read_back() {
    // A convolution of 4 channels whose weights are whole numbers times a half.
    let build = |quantize: bool| {
        let mut net = NetworkBuilder::new(13, false, 1);
        net.input("x", &[None, Some(4), Some(3), Some(3)]);
        net.output("y", &[]);
        let numbers: Vec<i64> = (0..16).map(|i| i - 8).collect();
        let (scale, zero) = (net.floats(&[], &[0.5]), net.ints(&[3]));
        let weights = if quantize {
            let ints = net.ints(&numbers);
            let dims = net.ints(&[4, 4, 1, 1]);
            let ints = net.node("Reshape", &[&ints, &dims], vec![]);
            net.node("DequantizeLinear", &[&ints, &scale, &zero], vec![])
        } else {
            let real: Vec<f32> = (0_i16..16).map(|i| f32::from(i - 8 - 3) * 0.5).collect();
            net.floats(&[4, 4, 1, 1], &real)
        };
        let x = if quantize {
            let x = net.node("QuantizeLinear", &["x", &scale, &zero], vec![]);
            net.node("DequantizeLinear", &[&x, &scale, &zero], vec![])
        } else {
            "x".into()
        };
        net.node_to("Conv", &[&x, &weights], vec![], "y");
        let network = Network::load(&net.finish(), CpuIsa::Portable).unwrap();
        let x = SplitMix64::new(3).floats(36, -1.0, 1.0);
        network.run(&mut Workspace::new(), &[&x]).unwrap()
    };
    assert_eq!(build(true), build(false));
}

#[test]
fn what_onnx_runtime_fuses_is_taken_apart() {
    let build = |fused: bool| {
        let mut net = NetworkBuilder::new(13, false, 1);
        net.input("x", &[None, Some(4), Some(3), Some(3)]);
        net.output("y", &[]);
        let weights = net.floats(&[4, 4, 1, 1], &SplitMix64::new(2).floats(16, -1.0, 1.0));
        let bias = net.floats(&[4], &[0.1; 4]);
        if fused {
            let activation = vec![lipsync_engine::network_writer::builder::string_attribute(
                "activation",
                "Relu",
            )];
            net.node_to("FusedConv", &["x", &weights, &bias, "x"], activation, "y");
        } else {
            let y = net.node("Conv", &["x", &weights, &bias], vec![]);
            let y = net.node("Add", &[&y, "x"], vec![]);
            net.node_to("Relu", &[&y], vec![], "y");
        }
        let mut model = ModelProto::decode(&*net.finish()).unwrap();
        for node in &mut model.graph.as_mut().unwrap().node {
            if node.op_type == "FusedConv" {
                node.domain = "com.microsoft".into();
            }
        }
        let network = Network::load(&model.encode_to_vec(), CpuIsa::Portable).unwrap();
        let x = SplitMix64::new(3).floats(36, -1.0, 1.0);
        network.run(&mut Workspace::new(), &[&x]).unwrap()
    };
    assert_eq!(build(true), build(false));
    let mut net = NetworkBuilder::new(13, false, 1);
    net.input("x", &[None, Some(4), Some(3), Some(3)]);
    net.output("y", &[]);
    let y = net.conv("x", ConvSpec::point(4, 4));
    net.node_to("Relu", &[&y], vec![], "y");
    let mut model = ModelProto::decode(&*net.finish()).unwrap();
    model.graph.as_mut().unwrap().node[0].domain = "com.microsoft.nchwc".into();
    let error = Network::load(&model.encode_to_vec(), CpuIsa::Portable).unwrap_err();
    assert!(error.to_string().contains("ORT_ENABLE_BASIC"), "{error}");
}

#[test]
fn the_range_of_an_output_without_a_limit_is_measured() {
    let range = |last: &str| {
        let mut model = plain();
        let nodes = &mut model.graph.as_mut().unwrap().node;
        let sigmoid = nodes
            .iter_mut()
            .find(|node| node.op_type == "Sigmoid")
            .unwrap();
        sigmoid.op_type = last.into();
        let generator = load_generator(&model.encode_to_vec(), CpuIsa::Portable).unwrap();
        let crop = || Some(vec![128; generator.geometry().crop_bytes()].into());
        generator
            .output_range(&mut Workspace::new(), &crop)
            .unwrap()
    };
    assert_eq!(range("Sigmoid"), None);
    let logits = range("Identity").expect("nothing limits them");
    assert!(
        logits.outside > 0.05 && logits.min < logits.max,
        "{logits:?}"
    );
}
