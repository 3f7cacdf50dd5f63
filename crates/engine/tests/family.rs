//! Networks of the family load, whatever their form, and have the sizes that they should have.

use lipsync_core::{AudioKind, SplitMix64};
use lipsync_engine::{
    CpuIsa, EngineError, FaceInput, Workspace,
    graph::simplify::simplify,
    import::import,
    load_audio_encoder, load_generator,
    network_writer::{Unet, variants::write_variant},
};

#[test]
fn the_full_size_network_has_the_published_size() {
    let onnx = Unet {
        batch_norm: true,
        ..Unet::new(320, AudioKind::Ave)
    }
    .write();
    let mut graph = import(&onnx).unwrap().graph;
    simplify(&mut graph);
    // PyTorch counts 12,186,935: it has two numbers per normalised channel where folding leaves one
    // (32,280 channels), and two of the audio branch's convolutions have a bias besides (768).
    assert_eq!(graph.n_parameters(), 12_186_935 - 32_280 - 768);
    let macs = graph.macs();
    assert!((4_885_500_000..4_886_500_000).contains(&macs), "{macs}");
}

#[test]
fn two_workers_on_the_full_size_network_fit_in_150_megabytes() {
    let onnx = write_variant("328-ave").unwrap();
    let generator = load_generator(&onnx, CpuIsa::Auto).unwrap();
    let crop = vec![128; generator.geometry().crop_bytes()];
    let audio = vec![0.5; generator.audio_shape().iter().product()];
    let mut workspace = Workspace::new();
    let frame = FaceInput {
        crop: &crop,
        frame: None,
        audio: &audio,
    };
    generator
        .infer(&mut workspace, &[frame], &mut vec![])
        .unwrap();
    let (weights, arena) = (generator.weights_bytes(), workspace.resident_bytes());
    assert!(weights >= 4 * 12_153_887);
    assert!(
        weights + 2 * arena <= 150_000_000,
        "{weights} + 2 x {arena}"
    );
}

#[test]
fn wrong_lengths_are_refused() {
    let generator = load_generator(&write_variant("small-opset12").unwrap(), CpuIsa::Auto).unwrap();
    let crop = vec![0; generator.geometry().crop_bytes()];
    let audio = [0.0; 3];
    let mut workspace = Workspace::new();
    for (crop, audio) in [(&crop[..], &audio[..]), (&crop[1..], &audio[..])] {
        let frame = FaceInput {
            crop,
            frame: None,
            audio,
        };
        let error = generator
            .infer(&mut workspace, &[frame], &mut vec![])
            .unwrap_err();
        assert!(matches!(error, EngineError::Input { .. }), "{error}");
    }
    let encoder = load_audio_encoder(&write_variant("ave-encoder").unwrap(), CpuIsa::Auto).unwrap();
    assert_eq!(encoder.step_floats(), 512);
    assert!(encoder.encode(&mut workspace, &[0.0; 80]).is_err());
    assert_eq!(
        encoder
            .encode(&mut workspace, &[0.0; 3 * 1280])
            .unwrap()
            .len(),
        3 * 512
    );
    assert_eq!(encoder.encode(&mut workspace, &[]).unwrap().len(), 0);
}

#[test]
fn every_opset_loads_and_makes_a_face() {
    let mut workspace = Workspace::new();
    for opset in 11..=17 {
        let onnx = write_variant(&format!("small-opset{opset}")).unwrap();
        let generator = load_generator(&onnx, CpuIsa::Auto).unwrap();
        let geometry = generator.geometry();
        let n_audio = generator.audio_shape().iter().product();
        let crop = vec![128; geometry.crop_bytes()];
        let audio = SplitMix64::new(opset).floats(n_audio, 0.0, 1.0);
        let frame = FaceInput {
            crop: &crop,
            frame: None,
            audio: &audio,
        };
        let mut faces = vec![];
        generator
            .infer(&mut workspace, &[frame], &mut faces)
            .unwrap();
        assert_eq!(faces[0].len(), geometry.region_bytes());
        let (min, max) = (
            faces[0].iter().min().unwrap(),
            faces[0].iter().max().unwrap(),
        );
        assert!(
            max - min > 30,
            "opset {opset}: bytes {min}..={max} carry no picture"
        );
    }
}

#[test]
fn other_shapes_are_refused_with_both_sides_named() {
    let encoder = write_variant("ave-encoder").unwrap();
    let generator = write_variant("small-opset12").unwrap();
    for error in [
        load_generator(&encoder, CpuIsa::Auto).err().unwrap(),
        load_audio_encoder(&generator, CpuIsa::Auto).err().unwrap(),
    ] {
        assert!(matches!(error, EngineError::Contract { .. }), "{error}");
        assert!(error.to_string().contains("found"), "{error}");
    }
}
