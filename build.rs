//! Compiles `proto/` with protox, so that no `protoc` is needed, and writes the descriptor set that
//! server reflection serves.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let proto = "proto/lipsync/v1/lipsync.proto";
    println!("cargo::rerun-if-changed={proto}");
    let descriptors = protox::compile([proto], ["proto"])?;
    // `file_descriptor_set_path` writes nothing when descriptors are handed in: written here.
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("lipsync.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".lipsync.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
