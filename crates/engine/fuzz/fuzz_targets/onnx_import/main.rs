//! Whatever the bytes are, import answers, and what loads can run.
#![no_main]

mod mutate;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use lipsync_engine::{
    CpuIsa, Network, Workspace, graph::Shape, import::import, inspect, load_audio_encoder,
    load_generator,
};

/// Multiplications of one frame that a run may take here.
const MAX_MACS: u64 = 1 << 22;
/// Floats of all values of one frame that a run may take here.
const MAX_FLOATS: usize = 1 << 20;

fuzz_target!(|onnx: &[u8]| {
    let Ok(found) = inspect(onnx) else { return };
    let _ = found.to_string();
    let loaded = Network::load(onnx, CpuIsa::Portable);
    assert!(loaded.is_ok() <= found.unsupported.is_empty());
    let Ok(imported) = import(onnx) else { return };
    let n_floats: usize = imported.graph.shapes.iter().map(|s| s.len()).sum();
    if imported.graph.macs() > MAX_MACS || n_floats > MAX_FLOATS {
        return;
    }
    let _ = load_generator(onnx, CpuIsa::Portable);
    let _ = load_audio_encoder(onnx, CpuIsa::Portable);
    let kernels = [loaded, Network::load(onnx, CpuIsa::Auto)];
    kernels
        .into_iter()
        .flatten()
        .for_each(|network| run(&network));
});

fn run(network: &Network) {
    let shapes = network.input_shapes();
    let inputs: Vec<Vec<f32>> = shapes.iter().map(|s| vec![0.5; s.len()]).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let Ok(outputs) = network.run(&mut Workspace::new(), &inputs) else {
        return;
    };
    let lengths = outputs.iter().map(Vec::len);
    // Without an input nothing says how many frames there are.
    if !shapes.is_empty() {
        assert!(lengths.eq(network.output_shapes().into_iter().map(Shape::len)));
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Bytes find what the decoder does with nonsense; models find what lies behind it.
    if seed % 4 != 0
        && let Some(model) = mutate::model(&data[..size], seed)
        && model.len() <= max_size
    {
        data[..model.len()].copy_from_slice(&model);
        return model.len();
    }
    fuzzer_mutate(data, size, max_size)
});
