//! Compiles `proto/` with protox, so that no `protoc` is needed, and writes the descriptor sets that
//! server reflection serves.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;
use prost_types::{
    DescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// The contracts, by package and file, and the messages of each whose `bytes` are kept where they arrived.
const CONTRACTS: [(&str, &str, &[&str]); 5] = [
    ("lipsync.v1", "lipsync/v1/lipsync.proto", &[".lipsync.v1"]),
    (
        "inference",
        "inference/inference.proto",
        &[
            ".inference.ModelInferRequest",
            ".inference.ModelInferResponse",
        ],
    ),
    (MULTI_TENANT, "legacy/multitenant.proto", &[".lipsync"]),
    ("monolithic", "legacy/monolithic.proto", &[".monolithic"]),
    ("compositing", "legacy/compositing.proto", &[".compositing"]),
];
/// The contract whose lists of floats are kept where they arrived.
const MULTI_TENANT: &str = "lipsync";

/// The service that takes traces, and the files that it imports. Nobody reflects on it.
const TRACES: &str = "opentelemetry/proto/collector/trace/v1/trace_service.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/opentelemetry");
    let mut descriptors = protox::compile([TRACES], ["proto"])?;
    for file in &mut descriptors.file {
        // Comments, whose examples are no Rust.
        file.source_code_info = None;
    }
    tonic_prost_build::configure().compile_fds(descriptors)?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    for (package, file, shared) in CONTRACTS {
        println!("cargo::rerun-if-changed=proto/{file}");
        let mut descriptors = protox::compile([file], ["proto"])?;
        // `file_descriptor_set_path` writes nothing when descriptors are handed in: written here.
        let path = out_dir.join(format!("{package}.bin"));
        fs::write(path, descriptors.encode_to_vec())?;
        if package == MULTI_TENANT {
            keep_floats(&mut descriptors);
        }
        let mut config = tonic_prost_build::configure();
        for &message in shared {
            config = config.bytes(message);
        }
        config.compile_fds(descriptors)?;
    }
    Ok(())
}

/// Reads every list of floats as pieces of bytes, which is what a packed list is on the wire. A request has up to 60 MB of
/// them: decoding one by one would keep an async thread busy for tens of milliseconds.
fn keep_floats(descriptors: &mut FileDescriptorSet) {
    fn keep(message: &mut DescriptorProto) {
        for field in &mut message.field {
            if field.r#type() == Type::Float && field.label() == Label::Repeated {
                field.set_type(Type::Bytes);
            }
        }
        message.nested_type.iter_mut().for_each(keep);
    }
    let files = descriptors.file.iter_mut();
    files.flat_map(|file| &mut file.message_type).for_each(keep);
}
