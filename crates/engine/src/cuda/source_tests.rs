//! What the host believes of the CUDA sources and the PTX made of them.

use std::{fmt::Write, fs, path::Path};

use sha2::{Digest, Sha256};

use super::{args::Args, launch::Kernel};

const PTX: &str = include_str!("ptx/kernels.ptx");
const ARGS: &str = include_str!("kernels/args.cuh");

#[test]
fn the_embedded_ptx_was_made_of_these_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda/kernels");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let mut hash = Sha256::new();
    for name in names {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(fs::read(folder.join(&name)).unwrap());
        hash.update([0]);
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        write!(text, "{byte:02x}").unwrap();
    }
    let recorded = include_str!("ptx/kernels.sha256").trim();
    assert_eq!(text, recorded, "run tools/cuda-kernels/compile.py write");
}

#[test]
fn every_kernel_takes_one_structure_of_the_size_that_the_host_passes() {
    for kernel in Kernel::ALL {
        let entry = format!(".visible .entry {}(", kernel.entry());
        let start = PTX
            .find(&entry)
            .unwrap_or_else(|| panic!("no {}", kernel.entry()));
        let parameters = &PTX[start + entry.len()..];
        let parameters = &parameters[..parameters.find(')').unwrap()];
        assert_eq!(parameters.matches(".param").count(), 1, "{kernel:?}");
        let size = format!("[{}]", sample(kernel).to_bytes().len());
        assert!(
            parameters.contains(&size),
            "{kernel:?}: {parameters}, not {size}"
        );
    }
    assert_eq!(PTX.matches(".visible .entry").count(), Kernel::ALL.len());
    assert!(PTX.contains(".version 8.0") && PTX.contains(".target sm_80"));
}

/// Arguments of the kind that a kernel takes.
fn sample(kernel: Kernel) -> Args {
    match kernel {
        Kernel::Gemm(_) | Kernel::Conv(_) => Args::GemmArgs(Default::default()),
        Kernel::Depthwise => Args::DepthwiseArgs(Default::default()),
        Kernel::Block(_) => Args::BlockArgs(Default::default()),
        Kernel::PackFace => Args::PackFaceArgs(Default::default()),
        Kernel::PackFloats => Args::PackFloatsArgs(Default::default()),
        Kernel::Head => Args::HeadArgs(Default::default()),
        Kernel::SaveEntry | Kernel::RestoreEntry => Args::EntryArgs(Default::default()),
        Kernel::Resize => Args::ResizeArgs(Default::default()),
        Kernel::Elementwise => Args::ElementwiseArgs(Default::default()),
        Kernel::Window => Args::WindowArgs(Default::default()),
        Kernel::Reshape => Args::ReshapeArgs(Default::default()),
    }
}

#[test]
fn structures_are_the_same_on_both_sides() {
    let mut found = vec![];
    for block in ARGS.split("struct ").skip(1) {
        let (name, rest) = block.split_once(" {").unwrap();
        let fields: Vec<(&str, &str)> = rest
            .lines()
            .filter_map(|line| line.trim().strip_suffix(';')?.split_once(' '))
            .map(|(kind, field)| (field, kind))
            .collect();
        found.push((name, fields));
    }
    let expected: Vec<(&str, Vec<(&str, &str)>)> = Args::LAYOUTS
        .iter()
        .map(|(name, fields)| (*name, fields.to_vec()))
        .collect();
    assert_eq!(found, expected);
}
