//! One small network, and what it makes.

use lipsync_core::SplitMix64;
use lipsync_engine::{
    CpuIsa, FaceInput, Generator, Workspace, load_generator,
    network_writer::variants::write_variant,
    onnx::proto::{ModelProto, TensorProto},
};
use prost::Message;

pub fn plain() -> ModelProto {
    ModelProto::decode(&*write_variant("small-opset13").unwrap()).unwrap()
}

/// The face that a generator makes of seeded inputs.
pub fn face(onnx: &[u8]) -> Vec<u8> {
    let generator = load_generator(onnx, CpuIsa::Portable).unwrap();
    face_of(&*generator)
}

fn face_of(generator: &dyn Generator) -> Vec<u8> {
    let mut random = SplitMix64::new(7);
    let crop: Vec<u8> = (0..generator.geometry().crop_bytes())
        .map(|_| random.next_u64().to_le_bytes()[0])
        .collect();
    let audio = random.floats(generator.audio_shape().iter().product(), 0.0, 1.0);
    let frame = FaceInput {
        crop: &crop,
        frame: None,
        audio: &audio,
    };
    let mut faces = vec![];
    generator
        .infer(&mut Workspace::new(), &[frame], &mut faces)
        .unwrap();
    faces.swap_remove(0)
}

pub fn refusal(onnx: &[u8]) -> String {
    load_generator(onnx, CpuIsa::Portable)
        .map(|_| ())
        .unwrap_err()
        .to_string()
}

/// The elements of a tensor as bytes, which it loses.
pub fn raw(tensor: &mut TensorProto) -> Vec<u8> {
    let floats = std::mem::take(&mut tensor.float_data);
    let ints = std::mem::take(&mut tensor.int64_data);
    let mut bytes = std::mem::take(&mut tensor.raw_data);
    bytes.extend(floats.iter().flat_map(|f| f.to_le_bytes()));
    bytes.extend(ints.iter().flat_map(|i| i.to_le_bytes()));
    bytes
}
