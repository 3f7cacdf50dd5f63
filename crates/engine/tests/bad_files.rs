//! Files that are broken, foreign or hostile are refused with a reason; none brings the process down.

use std::thread;

use lipsync_core::{AudioKind, SplitMix64};
use lipsync_engine::{
    CpuIsa, EngineError, LoadOptions, Network, NetworkLimits, Workspace, inspect,
    load_audio_encoder, load_generator,
    network_writer::{
        Unet,
        builder::{ConvSpec, NetworkBuilder, int_attribute, ints_attribute, string_attribute},
        write_audio_encoder,
    },
    onnx::proto::{GraphProto, ModelProto},
};
use prost::Message;

/// A generator with so few weights that most of its bytes are structure.
fn tiny() -> Vec<u8> {
    Unet {
        channels: [1, 1, 1, 1, 2],
        plumbing: true,
        ..Unet::new(160, AudioKind::Ave)
    }
    .write()
}

/// A network of one input `x` of `dims` and one output `y`.
fn network(dims: &[Option<usize>], body: impl FnOnce(&mut NetworkBuilder)) -> Vec<u8> {
    let mut net = NetworkBuilder::new(13, false, 1);
    net.input("x", dims);
    net.output("y", dims);
    body(&mut net);
    net.finish()
}

fn load_error(onnx: &[u8]) -> EngineError {
    Network::load(onnx, CpuIsa::Auto).expect_err("the file must be refused")
}

const SMALL_MAP: [Option<usize>; 4] = [None, Some(2), Some(4), Some(4)];

#[test]
fn truncated_files_are_refused() {
    let onnx = tiny();
    for end in (0..onnx.len()).step_by(97) {
        assert!(
            Network::load(&onnx[..end], CpuIsa::Auto).is_err(),
            "{end} of {}",
            onnx.len()
        );
    }
}

#[test]
fn flipped_bits_are_refused_or_run() {
    let onnx = tiny();
    // Thousands of loads: on all cores.
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for thread in 0..n_threads {
            let onnx = &onnx;
            scope.spawn(move || {
                let mut workspace = Workspace::new();
                for place in (0..onnx.len()).step_by(11).skip(thread).step_by(n_threads) {
                    flip_a_bit(onnx, place, &mut workspace);
                }
            });
        }
    });
}

fn flip_a_bit(onnx: &[u8], place: usize, workspace: &mut Workspace) {
    let mut bytes = onnx.to_vec();
    bytes[place] ^= 1 << (SplitMix64::new(place as u64).next_u64() % 8);
    let _ = inspect(&bytes);
    let Ok(network) = Network::load(&bytes, CpuIsa::Auto) else {
        return;
    };
    if place.is_multiple_of(20) {
        let shapes = network.input_shapes();
        let inputs: Vec<Vec<f32>> = shapes.iter().map(|s| vec![0.5; s.len()]).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let ran = network.run(workspace, &inputs);
        ran.expect("what loads runs");
    }
}

#[test]
fn an_unknown_operator_is_named_with_node_and_opset() {
    let onnx = network(&SMALL_MAP, |net| net.node_to("Gelu", &["x"], vec![], "y"));
    match load_error(&onnx) {
        EngineError::UnsupportedOperator {
            node,
            operator,
            opset,
            ..
        } => {
            assert_eq!(
                (node.as_str(), operator.as_str(), opset),
                ("Gelu_0", "Gelu", 13)
            );
        }
        other => panic!("{other}"),
    }
    let found = inspect(&onnx).unwrap();
    assert_eq!(found.unsupported.len(), 1);
    assert!(found.to_string().contains("Gelu_0"), "{found}");
}

#[test]
fn unsupported_uses_of_known_operators_are_named() {
    let half_pixel = network(&SMALL_MAP, |net| {
        let scales = net.floats(&[4], &[1.0, 1.0, 2.0, 2.0]);
        let mode = vec![string_attribute("mode", "linear")];
        net.node_to("Resize", &["x", "", &scales], mode, "y");
    });
    let moving = network(&SMALL_MAP, |net| {
        net.node_to(
            "Transpose",
            &["x"],
            vec![ints_attribute("perm", &[0, 1, 3, 2])],
            "y",
        );
    });
    let other_axis = network(&SMALL_MAP, |net| {
        net.node_to("Concat", &["x", "x"], vec![int_attribute("axis", 2)], "y");
    });
    for onnx in [half_pixel, moving, other_axis] {
        let error = load_error(&onnx);
        assert!(
            matches!(error, EngineError::UnsupportedOperator { .. }),
            "{error}"
        );
    }
}

#[test]
fn contradictions_are_malformed() {
    let cycle = network(&SMALL_MAP, |net| {
        net.node_to("Relu", &["b"], vec![], "a");
        net.node_to("Relu", &["a"], vec![], "b");
        net.node_to("Relu", &["a"], vec![], "y");
    });
    let missing_input = network(&SMALL_MAP, |net| {
        net.node_to("Relu", &["nowhere"], vec![], "y")
    });
    let no_output = network(&SMALL_MAP, |_| ());
    let no_inputs = network(&SMALL_MAP, |net| net.node_to("Conv", &["x"], vec![], "y"));
    let wrong_channels = network(&SMALL_MAP, |net| {
        let y = net.conv("x", ConvSpec::point(3, 2));
        net.node_to("Relu", &[&y], vec![], "y");
    });
    let written_twice = network(&SMALL_MAP, |net| {
        net.node_to("Relu", &["x"], vec![], "y");
        net.node_to("Relu", &["x"], vec![], "y");
    });
    let endless_shape = network(&SMALL_MAP, |net| {
        let shape = net.ints(&[1 << 40, 1 << 40]);
        let filled = net.node("ConstantOfShape", &[&shape], vec![]);
        net.node_to("Add", &["x", &filled], vec![], "y");
    });
    let files = [
        cycle,
        missing_input,
        no_output,
        no_inputs,
        wrong_channels,
        written_twice,
        vec![],
        b"not an ONNX file".to_vec(),
    ];
    for onnx in files {
        let error = load_error(&onnx);
        assert!(matches!(error, EngineError::Malformed { .. }), "{error}");
    }
    load_error(&endless_shape);
}

#[test]
fn a_frame_that_needs_too_much_memory_is_refused() {
    let onnx = network(&[None, Some(1), Some(1 << 20), Some(1 << 20)], |net| {
        net.node_to("Relu", &["x"], vec![], "y");
    });
    assert!(
        load_error(&onnx)
            .to_string()
            .contains("one frame needs more")
    );
    let padded = network(&SMALL_MAP, |net| {
        let pads = net.ints(&[0, 0, i64::MAX, 0, 0, 0, i64::MAX, 0]);
        net.node_to("Pad", &["x", &pads], vec![], "y");
    });
    load_error(&padded);
}

#[test]
fn a_frame_that_takes_too_long_is_refused() {
    let onnx = network(&[None, Some(1), Some(1 << 13), Some(1 << 13)], |net| {
        let attributes = vec![
            ints_attribute("kernel_shape", &[1000, 1000]),
            ints_attribute("pads", &[500, 500, 499, 499]),
        ];
        net.node_to("AveragePool", &["x"], attributes, "y");
    });
    assert!(load_error(&onnx).to_string().contains("MACs a frame"));
    let wide = network(&SMALL_MAP, |net| {
        net.node_to(
            "Concat",
            &vec!["x"; 1 << 15],
            vec![int_attribute("axis", 1)],
            "y",
        );
    });
    assert!(matches!(load_error(&wide), EngineError::Malformed { .. }));
}

#[test]
fn a_small_file_takes_little_memory_to_import() {
    let doubling = network(&SMALL_MAP, |net| {
        let one = net.ints(&[1]);
        let mut twice = net.node("ConstantOfShape", &[&one], vec![]);
        for _ in 0..40 {
            twice = net.node("Concat", &[&twice, &twice], vec![]);
        }
        net.node_to("Add", &["x", &twice], vec![], "y");
    });
    let shared_weights = network(&[None, Some(64), Some(1), Some(1)], |net| {
        let weights = net.floats(&[64, 64, 3, 3], &[0.5; 64 * 64 * 9]);
        let mut x = "x".to_owned();
        for _ in 0..200 {
            let pads = vec![ints_attribute("pads", &[1; 4])];
            x = net.node("Conv", &[&x, &weights], pads);
        }
        net.node_to("Relu", &[&x], vec![], "y");
    });
    let narrow_weights = network(&[None, Some(1 << 14), Some(1), Some(1)], |net| {
        let weights = net.floats(&[1, 1 << 14, 1, 1], &[0.5; 1 << 14]);
        let parts: Vec<String> = (0..50)
            .map(|_| net.node("Conv", &["x", &weights], vec![]))
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        net.node_to("Concat", &parts, vec![int_attribute("axis", 1)], "y");
    });
    let wide_factors = network(&[None, Some(1 << 22), Some(1), Some(1)], |net| {
        let half = net.floats(&[], &[0.5]);
        net.node_to("Mul", &["x", &half], vec![], "y");
    });
    for onnx in [doubling, shared_weights, narrow_weights, wide_factors] {
        assert!(onnx.len() < 200_000, "{}", onnx.len());
        let error = load_error(&onnx).to_string();
        assert!(error.contains("out of proportion to the file"), "{error}");
    }
}

#[test]
fn joining_nothing_at_many_places_ends() {
    let onnx = network(&SMALL_MAP, |net| {
        let dims = net.ints(&[1 << 60, 0]);
        let empty = net.node("ConstantOfShape", &[&dims], vec![]);
        let axis = vec![int_attribute("axis", 1)];
        let empty = net.node("Concat", &[&empty, &empty], axis);
        net.node_to("Add", &["x", &empty], vec![], "y");
    });
    load_error(&onnx);
}

#[test]
fn the_reason_for_a_refused_node_is_short_however_long_its_attributes_are() {
    let onnx = network(&SMALL_MAP, |net| {
        let pads = net.ints(&[7; 10_000]);
        net.node_to("Pad", &["x", &pads], vec![], "y");
    });
    assert!(load_error(&onnx).to_string().len() < 500);
}

#[test]
fn tensors_of_many_dimensions_are_refused() {
    let many = network(&SMALL_MAP, |net| {
        let weights = net.floats(&[1; 9], &[0.5]);
        net.node_to("Mul", &["x", &weights], vec![], "y");
    });
    let growing = network(&SMALL_MAP, |net| {
        let axes = net.ints(&[0, 1, 2]);
        let mut x = net.floats(&[1], &[0.5]);
        for _ in 0..4 {
            x = net.node("Unsqueeze", &[&x, &axes], vec![]);
        }
        net.node_to("Mul", &["x", &x], vec![], "y");
    });
    for onnx in [many, growing] {
        let error = load_error(&onnx);
        assert!(error.to_string().contains("dimensions"), "{error}");
    }
}

#[test]
fn generator_inputs_may_come_in_either_order() {
    let mut model = ModelProto::decode(tiny().as_slice()).unwrap();
    model.graph.as_mut().unwrap().input.swap(0, 1);
    let generator = load_generator(&model.encode_to_vec(), CpuIsa::Auto).unwrap();
    assert_eq!(
        (generator.geometry().region_px, generator.audio_shape()),
        (160, [32, 16, 16])
    );
}

/// A name as a hostile file has it: long, and full of what a terminal or a log would take for its own.
fn hostile_name(n_bytes: usize) -> String {
    format!("\u{1b}[31m\r\nX: y {}", "N".repeat(n_bytes))
}

type Change = fn(&mut GraphProto, String);

/// Where a file has names, and how one gets a name that is shown.
fn places_of_names() -> [(&'static str, Change); 12] {
    [
        ("initializer", |g, name| {
            g.initializer[0].raw_data = f32::NAN.to_le_bytes().repeat(16);
            g.initializer[0].name = name;
        }),
        ("initializer twice", |g, name| {
            g.initializer[0].name.clone_from(&name);
            let twin = g.initializer[0].clone();
            g.initializer.push(twin);
        }),
        ("input", |g, name| g.input[0].name = name),
        ("input's type", |g, name| {
            g.input[0].name = name;
            g.input[0].r#type = None;
        }),
        ("inputs", |g, name| {
            let mut input = g.input[0].clone();
            input.name = name;
            for index in 0..100 {
                input.name.push(char::from(b'a' + index % 26));
                g.input.push(input.clone());
            }
        }),
        ("output", |g, name| g.output[0].name = name),
        ("node", |g, name| {
            g.node[0].name = name;
            g.node[0].attribute.clear();
            g.node[0].input.clear();
        }),
        ("operator", |g, name| g.node[0].op_type = name),
        ("domain", |g, name| g.node[0].domain = name),
        ("node's input", |g, name| g.node[0].input[0] = name),
        ("node's output", |g, name| {
            g.node[0].output[0].clone_from(&name);
            g.node[1].output[0] = name;
        }),
        ("attribute", |g, name| {
            let pad = string_attribute("auto_pad", &name);
            g.node
                .iter_mut()
                .for_each(|node| node.attribute.push(pad.clone()));
        }),
    ]
}

#[test]
fn names_of_the_file_are_cut_and_escaped_wherever_they_are_shown() {
    const N_BYTES: usize = 1 << 20;
    for (what, change) in places_of_names() {
        let mut model = ModelProto::decode(&*tiny()).expect("a model");
        change(
            model.graph.as_mut().expect("a graph"),
            hostile_name(N_BYTES),
        );
        let onnx = model.encode_to_vec();
        let mut shown = Vec::new();
        match load_generator(&onnx, CpuIsa::Portable) {
            Ok(_) => assert_eq!(what, "input", "it has to be refused"),
            Err(error) => shown.extend([error.to_string(), format!("{error:?}")]),
        }
        match inspect(&onnx) {
            // Its lines are its own.
            Ok(found) => shown.push(found.to_string().replace('\n', " ")),
            Err(error) => shown.push(error.to_string()),
        }
        for text in shown {
            assert!(text.len() < 4000, "{what}: {} bytes", text.len());
            let is_clean = !text.chars().any(char::is_control);
            assert!(is_clean, "{what}: {}", text.escape_debug());
        }
    }
}

#[test]
fn a_network_over_the_limits_is_refused_with_limit_key_and_what_came() {
    let onnx = tiny();
    let n_macs = inspect(&onnx).expect("a network").macs_per_frame;
    let load = |max_macs, max_arena_bytes| {
        let limits = NetworkLimits {
            max_macs,
            max_arena_bytes,
        };
        let options = LoadOptions {
            limits,
            ..LoadOptions::from(CpuIsa::Portable)
        };
        load_generator(&onnx, options)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    assert_eq!(load(n_macs, u64::MAX), Ok(()));
    let refused = load(1000, u64::MAX).expect_err("too much work");
    assert!(
        refused.ends_with(" MACs, engine.max_gmac allows 1000"),
        "{refused}"
    );
    let refused = load(u64::MAX, 1000).expect_err("too much memory");
    assert!(
        refused.ends_with(" bytes to run it, engine.max_arena_mb allows 1000"),
        "{refused}"
    );
    let encoder = write_audio_encoder(32, 13, false, 1);
    let limits = NetworkLimits {
        max_macs: 1000,
        ..NetworkLimits::default()
    };
    let options = LoadOptions {
        limits,
        ..LoadOptions::default()
    };
    let refused = load_audio_encoder(&encoder, options)
        .map(|_| ())
        .expect_err("too much work");
    assert!(
        matches!(refused, EngineError::TooManyMacs { .. }),
        "{refused}"
    );
}
