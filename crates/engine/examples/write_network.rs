//! Writes the named networks of the family to files.
//!
//! `cargo run --release -p lipsync-engine --example write_network -- DIR [NAME...]` writes
//! `DIR/NAME.onnx` for each name, or for all of them.

use std::{env, error::Error, fs, path::PathBuf};

use lipsync_engine::network_writer::variants::{VARIANTS, write_variant};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let folder = PathBuf::from(
        arguments
            .next()
            .ok_or("usage: write_network DIR [NAME...]")?,
    );
    let mut names: Vec<String> = arguments.collect();
    if names.is_empty() {
        names = VARIANTS.map(String::from).to_vec();
    }
    fs::create_dir_all(&folder)?;
    for name in names {
        let onnx = write_variant(&name).ok_or_else(|| format!("{name}: one of {VARIANTS:?}"))?;
        fs::write(folder.join(&name).with_extension("onnx"), onnx)?;
    }
    Ok(())
}
