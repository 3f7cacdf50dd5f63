//! Networks of the Wav2Lip family: recognised by their shape, and run as the scalar executor runs them.

use std::sync::Arc;

use lipsync_core::{FaceGeometry, SplitMix64};
use lipsync_engine::{
    CpuIsa, FaceInput, LoadOptions, Network, VisualCache, Workspace,
    graph::simplify::simplify,
    import::import,
    inspect, load_generator,
    network_writer::{
        Wav2lip,
        builder::{NetworkBuilder, int_attribute, ints_attribute},
    },
    reference,
};

const SIDES: [usize; 4] = [96, 256, 288, 384];

fn small(side: usize) -> Vec<u8> {
    Wav2lip {
        part: 32,
        batch_norm: true,
        ..Wav2lip::new(side)
    }
    .write()
}

#[test]
fn they_serve_as_generators_that_hear_mel() {
    for side in SIDES {
        let onnx = small(side);
        let found = inspect(&onnx).unwrap();
        let expected = format!("the generator of {side}-pixel faces with mel audio");
        assert_eq!(found.serves_as.unwrap().to_string(), expected);
        let generator = load_generator(&onnx, CpuIsa::Auto).unwrap();
        assert_eq!(generator.geometry(), FaceGeometry::wav2lip(side));
        assert_eq!(generator.audio_shape(), [1, 80, 16]);
    }
}

/// Channels enough for all kernels to have a part in it.
#[test]
fn a_network_runs_as_the_scalar_executor_runs_it() {
    let onnx = Wav2lip {
        part: 8,
        ..Wav2lip::new(96)
    }
    .write();
    let mut graph = import(&onnx).unwrap().graph;
    simplify(&mut graph);
    let mut random = SplitMix64::new(3);
    let (face, mel) = (
        random.floats(6 * 96 * 96, 0.0, 1.0),
        random.floats(1280, -4.0, 4.0),
    );
    let expected = reference::run(&graph, &[&face, &mel]).swap_remove(0);
    let network = Network::load(&onnx, CpuIsa::Auto).unwrap();
    let mut actual = network.run(&mut Workspace::new(), &[&face, &mel]).unwrap();
    let pairs = actual.swap_remove(0).into_iter().zip(&expected);
    let (error, norm) = pairs.fold((0.0, 0.0), |(error, norm), (a, &e)| {
        let (a, e) = (f64::from(a), f64::from(e));
        (error + (a - e).powi(2), norm + e * e)
    });
    let distance = f64::sqrt(error / norm);
    assert!(distance <= 1e-5, "relative L2 {distance:e}");
    let plan = network.plan_report();
    let is_slow = |kernel: &str, what: &str| kernel == "plain" && what != "concat";
    assert!(
        !plan.steps.iter().any(|s| is_slow(s.kernel, &s.what)),
        "{plan}"
    );
    assert!(
        plan.steps.iter().any(|step| step.kernel == "winograd"),
        "{plan}"
    );
}

#[test]
fn the_masked_face_comes_first() {
    let onnx = small(96);
    let generator = load_generator(&onnx, CpuIsa::Auto).unwrap();
    let mut graph = import(&onnx).unwrap().graph;
    simplify(&mut graph);
    let mut random = SplitMix64::new(4);
    let crop: Vec<u8> = (0..3 * 96 * 96)
        .map(|_| random.next_u64().to_le_bytes()[0])
        .collect();
    let mel = random.floats(1280, -4.0, 4.0);
    let mut face = Vec::new();
    for is_masked in [true, false] {
        for channel in 0..3 {
            let pixels = crop.chunks_exact(3).enumerate();
            face.extend(pixels.map(|(i, bgr)| match is_masked && i >= 48 * 96 {
                true => 0.0,
                false => f32::from(bgr[channel]) / 255.0,
            }));
        }
    }
    let expected = reference::run(&graph, &[&face, &mel]).swap_remove(0);
    let frame = FaceInput {
        crop: &crop,
        frame: None,
        audio: &mel,
    };
    let mut faces = vec![];
    generator
        .infer(&mut Workspace::new(), &[frame], &mut faces)
        .unwrap();
    for (i, bgr) in faces[0].chunks_exact(3).enumerate() {
        for (channel, &byte) in bgr.iter().enumerate() {
            let level = 255.0 * expected[channel * 96 * 96 + i];
            assert!(
                (f32::from(byte) + 0.5 - level).abs() < 0.51,
                "{byte} for {level}"
            );
        }
    }
}

#[test]
fn what_is_kept_of_a_background_frame_changes_no_byte() {
    let onnx = small(256);
    let plain = load_generator(&onnx, CpuIsa::Auto).unwrap();
    let options = LoadOptions {
        visual_cache: Some(Arc::new(VisualCache::new(64 << 20))),
        ..LoadOptions::default()
    };
    let cached = load_generator(&onnx, options).unwrap();
    let crop = vec![90; 3 * 256 * 256];
    let mut random = SplitMix64::new(6);
    for _ in 0..3 {
        let audio = random.floats(1280, -4.0, 4.0);
        let frame = FaceInput {
            crop: &crop,
            frame: Some(7),
            audio: &audio,
        };
        let (mut expected, mut actual) = (vec![], vec![]);
        plain
            .infer(&mut Workspace::new(), &[frame], &mut expected)
            .unwrap();
        cached
            .infer(&mut Workspace::new(), &[frame], &mut actual)
            .unwrap();
        assert!(actual == expected);
    }
    let stats = cached.visual_cache().unwrap();
    assert_eq!((stats.misses, stats.hits), (1, 2));
}

/// A transposed convolution of `[1, 2, 3, 4]` with these weights and attributes.
fn refusal(weights: &[usize], attributes: &[(&str, &[i64])]) -> String {
    let mut net = NetworkBuilder::new(17, false, 1);
    net.input("x", &[None, Some(2), Some(3), Some(4)]);
    net.output("y", &[]);
    let values = vec![0.5; weights.iter().product()];
    let weights = net.floats(weights, &values);
    let attributes = attributes.iter().map(|(name, values)| match values {
        [value] => int_attribute(name, *value),
        values => ints_attribute(name, values),
    });
    net.node_to("ConvTranspose", &["x", &weights], attributes.collect(), "y");
    Network::load(&net.finish(), CpuIsa::Portable)
        .expect_err("refused")
        .to_string()
}

type Attributes = &'static [(&'static str, &'static [i64])];

/// Dimensions of the weights, attributes, and words of the refusal.
const BAD: [(&[usize], Attributes, &str); 11] = [
    (&[2, 3, 3], &[], "two-dimensional"),
    (&[3, 3, 3, 3], &[], "weights [3, 3, 3, 3]"),
    (&[2, 1, 3, 3], &[("group", &[2])], "groups"),
    (&[2, 3, 3, 3], &[("dilations", &[2, 2])], "dilations"),
    (&[2, 3, 3, 3], &[("strides", &[0, 1])], "stride of 0"),
    (
        &[2, 3, 3, 3],
        &[("output_padding", &[1, 1])],
        "output_padding",
    ),
    (
        &[2, 3, 3, 3],
        &[("output_padding", &[-1, 0])],
        "output_padding",
    ),
    (&[2, 3, 3, 3], &[("output_shape", &[9, 9])], "output"),
    (&[2, 3, 3, 3], &[("pads", &[9, 9, 9, 9])], "pixels"),
    // Places of the output that no input reaches.
    (&[2, 3, 1, 1], &[("strides", &[2, 2])], "pixels"),
    (&[2, 3, 3, 3], &[("strides", &[1000, 1000])], "pixels"),
];

#[test]
fn transposed_convolutions_that_make_no_sense_are_refused() {
    for (weights, attributes, words) in BAD {
        let said = refusal(weights, attributes);
        assert!(said.contains(words), "{weights:?} {attributes:?}: {said}");
    }
}
