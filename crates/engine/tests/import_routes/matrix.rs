//! Every family by every route: each file gives what the family's plain file gives, or is refused with a way out.
//!
//! The plain files are compared with ONNX Runtime in `goldens.rs`; files that its own tools and PyTorch write, in
//! `zoo.rs`.

use lipsync_core::{AudioKind, SplitMix64};
use lipsync_engine::{
    CpuIsa, Network, Workspace, inspect,
    network_writer::{AudioFront, Unet, Wav2lip, builder::int_attribute},
    onnx::{
        element_type, external,
        proto::{
            AttributeProto, DimensionValue, ModelProto, NodeProto, TensorProto, ValueInfoProto,
        },
    },
    reference,
};
use prost::Message;

use crate::{
    external_data::split,
    forms::{byte_ends, set_dims},
    support::raw,
};

/// Side of the face, kind of audio, channels of its window.
const FAMILIES: [(usize, AudioKind, usize); 6] = [
    (320, AudioKind::Ave, 32),
    (320, AudioKind::Hubert, 32),
    (160, AudioKind::Ave, 32),
    (160, AudioKind::Hubert, 16),
    (160, AudioKind::Wenet, 256),
    (160, AudioKind::Wenet, 128),
];
/// Sides of the faces of Wav2Lip networks.
const WAV2LIP: [usize; 4] = [96, 256, 288, 384];

/// A network of any family.
#[derive(Clone)]
enum Net {
    Unet(Unet),
    Wav2lip(Wav2lip),
}

impl Net {
    fn write(&self) -> Vec<u8> {
        match self {
            Self::Unet(net) => net.write(),
            Self::Wav2lip(net) => net.write(),
        }
    }

    fn with_opset(mut self, version: i64) -> Self {
        match &mut self {
            Self::Unet(Unet { opset, .. }) | Self::Wav2lip(Wav2lip { opset, .. }) => {
                *opset = version;
            }
        }
        self
    }

    fn with_fixed_batch(mut self) -> Self {
        match &mut self {
            Self::Unet(Unet { fixed_batch, .. }) | Self::Wav2lip(Wav2lip { fixed_batch, .. }) => {
                *fixed_batch = true;
            }
        }
        self
    }

    /// With shapes that the graph computes, where the family has such.
    fn with_plumbing(mut self) -> Self {
        if let Self::Unet(net) = &mut self {
            net.plumbing = true;
        }
        self
    }
}

/// What a route gives: a file, and the relative L2 within which it is the plain one; or a refusal.
enum Outcome {
    Same(Vec<u8>, f64),
    Refused(Vec<u8>, &'static str),
}
type Route = (&'static str, fn(&Net) -> Outcome);

const ROUTES: [Route; 15] = [
    ("opset 11", |net| Outcome::Same(written(net, 11), 1e-6)),
    ("opset 13", |net| Outcome::Same(written(net, 13), 1e-6)),
    ("opset 22", |net| Outcome::Same(with_opset(net, 22), 1e-6)),
    ("opset 25", |net| Outcome::Same(with_opset(net, 25), 1e-6)),
    ("opset 26", |net| {
        Outcome::Refused(with_opset(net, 26), "opset_version=")
    }),
    ("batch of 1", |net| {
        let fixed = net.clone().with_fixed_batch();
        Outcome::Same(fixed.write(), 1e-6)
    }),
    ("batch of 8", |net| {
        let mut model = plain(net);
        set_dims(&mut model, 0..1, &DimensionValue::Size(8));
        Outcome::Same(model.encode_to_vec(), 1e-6)
    }),
    ("all axes open, shapes computed", |net| {
        let computed = net.clone().with_plumbing();
        let mut model = plain(&computed);
        set_dims(&mut model, 0..4, &DimensionValue::Symbol("any".into()));
        Outcome::Same(model.encode_to_vec(), 1e-6)
    }),
    ("weights beside it", |net| {
        let (model, data) = split(plain(net));
        let mut onnx = model.encode_to_vec();
        external::attach(&mut onnx, "net.onnx.data", data);
        Outcome::Same(onnx, 1e-6)
    }),
    ("weights missing", |net| {
        let (model, _) = split(plain(net));
        Outcome::Refused(model.encode_to_vec(), "net.onnx.data")
    }),
    ("f64", |net| {
        Outcome::Same(stored(net, element_type::DOUBLE), 1e-6)
    }),
    ("bf16", |net| {
        Outcome::Same(stored(net, element_type::BFLOAT16), 2e-2)
    }),
    ("int8 weights", |net| {
        Outcome::Same(in_eight_bits(net), 5e-2)
    }),
    ("bytes in rows", |net| {
        Outcome::Same(byte_ends(plain(net), true), 1e-6)
    }),
    ("more outputs", |net| Outcome::Same(with_outputs(net), 1e-6)),
];

fn plain(net: &Net) -> ModelProto {
    ModelProto::decode(&*net.write()).unwrap()
}

fn written(net: &Net, opset: i64) -> Vec<u8> {
    net.clone().with_opset(opset).write()
}

fn with_opset(net: &Net, opset: i64) -> Vec<u8> {
    let mut model = plain(net);
    model.opset_import[0].version = opset;
    model.encode_to_vec()
}

/// All float weights in another type, each with a cast behind it.
fn stored(net: &Net, data_type: i32) -> Vec<u8> {
    let mut model = plain(net);
    let graph = model.graph.as_mut().unwrap();
    let mut casts = Vec::new();
    for tensor in graph
        .initializer
        .iter_mut()
        .filter(|t| t.data_type == element_type::FLOAT)
    {
        let bytes = raw(tensor);
        let floats = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|f| f32::from_le_bytes(*f));
        tensor.raw_data = match data_type {
            element_type::DOUBLE => floats.flat_map(|f| f64::from(f).to_le_bytes()).collect(),
            // Cut, not rounded.
            _ => floats
                .flat_map(|f| [f.to_le_bytes()[2], f.to_le_bytes()[3]])
                .collect(),
        };
        tensor.data_type = data_type;
        casts.push(behind(tensor, "Cast", &[], vec![int_attribute("to", 1)]));
    }
    graph.node.splice(0..0, casts);
    model.encode_to_vec()
}

/// A node that reads a constant and takes over its name.
fn behind(
    tensor: &mut TensorProto,
    operator: &str,
    more: &[String],
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    let name = tensor.name.clone();
    tensor.name = format!("{name}/stored");
    let mut input = vec![tensor.name.clone()];
    input.extend_from_slice(more);
    NodeProto {
        op_type: operator.into(),
        input,
        output: vec![name],
        attribute,
        ..NodeProto::default()
    }
}

/// The weights of convolutions in 8 bits, one scale for each.
fn in_eight_bits(net: &Net) -> Vec<u8> {
    let mut model = plain(net);
    let graph = model.graph.as_mut().unwrap();
    let (mut nodes, mut scales) = (Vec::new(), Vec::new());
    for tensor in graph.initializer.iter_mut().filter(|t| t.dims.len() == 4) {
        let bytes = raw(tensor);
        let floats: Vec<f32> = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|f| f32::from_le_bytes(*f))
            .collect();
        let scale = floats.iter().fold(0.0_f32, |a, f| a.max(f.abs())) / 127.0;
        #[expect(clippy::cast_possible_truncation, reason = "-127 to 127")]
        let byte = |f: &f32| ((f / scale).round() as i8).to_le_bytes()[0];
        tensor.raw_data = floats.iter().map(byte).collect();
        tensor.data_type = element_type::INT8;
        let scale = TensorProto {
            name: format!("{}/scale", tensor.name),
            data_type: element_type::FLOAT,
            float_data: vec![scale],
            ..TensorProto::default()
        };
        nodes.push(behind(
            tensor,
            "DequantizeLinear",
            std::slice::from_ref(&scale.name),
            vec![],
        ));
        scales.push(scale);
    }
    graph.initializer.extend(scales);
    graph.node.splice(0..0, nodes);
    model.encode_to_vec()
}

/// A second output, of another shape and before the face.
fn with_outputs(net: &Net) -> Vec<u8> {
    let mut model = plain(net);
    let graph = model.graph.as_mut().unwrap();
    let relu = graph
        .node
        .iter()
        .find(|node| node.op_type == "Relu")
        .unwrap();
    let inner = ValueInfoProto {
        name: relu.output[0].clone(),
        ..graph.output[0].clone()
    };
    graph.output.insert(0, inner);
    model.encode_to_vec()
}

/// What a network answers to seeded inputs; the face and the window are told apart by their shapes.
fn answer(onnx: &[u8], region_px: usize) -> Result<Vec<f32>, String> {
    inspect(onnx).map_err(|e| e.to_string())?.serves_as?;
    let network = Network::load(onnx, CpuIsa::Auto).map_err(|e| e.to_string())?;
    let mut random = SplitMix64::new(9);
    let shapes = network.input_shapes();
    let inputs: Vec<Vec<f32>> = shapes
        .iter()
        .map(|s| random.floats(s.len(), 0.0, 1.0))
        .collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let outputs = network.run(&mut Workspace::new(), &inputs);
    let outputs = outputs.map_err(|e| e.to_string())?;
    let mut faces = outputs
        .into_iter()
        .filter(|output| output.len() == 3 * region_px * region_px);
    faces.next().ok_or_else(|| "no face".into())
}

/// What is wrong with the routes of a network.
fn faults(net: &Net, region_px: usize, about: &str) -> Vec<String> {
    let expected = answer(&net.write(), region_px).unwrap();
    let mut wrong = Vec::new();
    for (name, route) in ROUTES {
        let fault = match route(net) {
            Outcome::Same(onnx, tolerance) => match answer(&onnx, region_px) {
                Ok(actual) => {
                    let found = reference::relative_l2(&actual, &expected);
                    (found > tolerance).then(|| format!("relative L2 {found:e}"))
                }
                Err(error) => Some(error),
            },
            Outcome::Refused(onnx, words) => match answer(&onnx, region_px) {
                Ok(_) => Some("it is served".into()),
                Err(error) => (!error.contains(words)).then_some(error),
            },
        };
        wrong.extend(fault.map(|fault| format!("{about}, {name}: {fault}")));
    }
    wrong
}

#[test]
fn every_family_comes_by_every_route() {
    let mut wrong = Vec::new();
    for (region_px, kind, channels) in FAMILIES {
        let net = Unet {
            channels: [2, 2, 2, 2, 3],
            audio: AudioFront { kind, channels },
            ..Unet::new(region_px, kind)
        };
        let about = format!("{region_px} {kind} {channels}");
        wrong.extend(faults(&Net::Unet(net), region_px, &about));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn wav2lip_comes_by_every_route() {
    let mut wrong = Vec::new();
    for side in WAV2LIP {
        let net = Wav2lip {
            part: 64,
            ..Wav2lip::new(side)
        };
        wrong.extend(faults(&Net::Wav2lip(net), side, &format!("wav2lip {side}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
