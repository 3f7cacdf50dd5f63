//! Compiles `proto/` with protox, so that no `protoc` is needed, and writes the descriptor sets that
//! server reflection serves.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

/// The contracts, by package and file, and the messages of each whose `bytes` are kept where they arrived.
const CONTRACTS: [(&str, &str, &[&str]); 2] = [
    ("lipsync.v1", "lipsync/v1/lipsync.proto", &[".lipsync.v1"]),
    (
        "inference",
        "inference/inference.proto",
        &[
            ".inference.ModelInferRequest",
            ".inference.ModelInferResponse",
        ],
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    for (package, file, shared) in CONTRACTS {
        println!("cargo::rerun-if-changed=proto/{file}");
        let descriptors = protox::compile([file], ["proto"])?;
        // `file_descriptor_set_path` writes nothing when descriptors are handed in: written here.
        let path = out_dir.join(format!("{package}.bin"));
        fs::write(path, descriptors.encode_to_vec())?;
        let mut config = tonic_prost_build::configure();
        for &message in shared {
            config = config.bytes(message);
        }
        config.compile_fds(descriptors)?;
    }
    Ok(())
}
