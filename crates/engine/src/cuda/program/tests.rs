//! What programs of networks look like.

use std::{collections::HashMap, ops::Range};

use super::*;
use crate::{
    cuda::{bucket::BUCKETS, launch::Kernel},
    oracle::network_writer::{Wav2lip, variants::write_variant},
};

fn program(variant: &str) -> Program {
    program_with(variant, Blocks::default())
}

fn program_with(variant: &str, blocks: Blocks) -> Program {
    let onnx = write_variant(variant).unwrap();
    Program::new(GeneratorGraph::read(&onnx).unwrap(), blocks).unwrap()
}

fn counts(program: &Program, phase: Phase) -> HashMap<&'static str, usize> {
    let mut counts = HashMap::new();
    for launch in program.launches(phase, &Bases::default(), 1) {
        let kind = match launch.kernel {
            Kernel::Gemm(_) => "gemm",
            Kernel::Conv(_) => "conv",
            Kernel::Block(_) => "block",
            other => other.entry(),
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

#[test]
fn the_full_size_network_is_blocks_and_products() {
    let program = program("328-ave");
    let visual = counts(&program, Phase::Visual);
    assert_eq!((visual["pack_face"], visual["save_entry"]), (1, 5));
    // Maps of 80 x 80 and more of 64 channels or fewer: all that crosses the memory much.
    assert_eq!(visual["block"], 5);
    let frame = counts(&program, Phase::Frame);
    assert_eq!(frame["block"], 9);
    // Upsampling and the last convolution are parts of products; nothing is left for the slow kernels.
    let kinds = [
        "gemm",
        "conv",
        "block",
        "depthwise",
        "pack_face",
        "pack_floats",
        "head",
        "restore_entry",
        "elementwise",
    ];
    assert!(frame.keys().all(|kind| kinds.contains(kind)), "{frame:?}");
    assert_eq!((frame["restore_entry"], frame["head"]), (5, 1));
    // The visual half of what is joined with the audio is copied, since it comes from an entry.
    assert!(
        frame.get("elementwise").is_none_or(|&n| n <= 2),
        "{frame:?}"
    );
    let n_launches: usize = visual.values().chain(frame.values()).sum();
    assert!(n_launches < 90, "{n_launches}");
    // The visual cache of the engine's f32 plan holds 6.4 MB; this one is fp16 and has the crop besides.
    assert!(
        (3_100_000..3_300_000).contains(&(program.entry_bytes - program.crop_bytes)),
        "{}",
        program.entry_bytes
    );
}

fn encoder() -> Program {
    let onnx = write_variant("ave-encoder").unwrap();
    Program::of_encoder(EncoderGraph::read(&onnx).unwrap()).unwrap()
}

#[test]
fn an_audio_encoder_is_convolutions_and_its_ends() {
    let program = encoder();
    assert!(!program.has(Phase::Visual) && program.entry_bytes == 0);
    let frame = counts(&program, Phase::Frame);
    // Sums and `ReLU` are parts of the convolutions, of which the last has a window of one pixel.
    let expected = [
        ("conv", 12),
        ("gemm", 1),
        ("pack_floats", 1),
        ("elementwise", 1),
    ];
    assert_eq!(frame, HashMap::from(expected));
}

/// Whatever the bucket, every launch stays inside the memory that the program asks for, and sums are those of
/// one frame.
#[test]
fn launches_of_every_bucket_stay_inside_the_arena() {
    let program = program("160-wenet");
    for bucket in BUCKETS {
        let bases = Bases {
            weights: 1 << 50,
            arena: 1 << 40,
            table: 1 << 30,
            audio: 1 << 31,
            results: 1 << 32,
        };
        let arena = bases.arena..bases.arena + program.arena_bytes(bucket) as u64;
        for phase in [Phase::Visual, Phase::Frame] {
            for launch in program.launches(phase, &bases, bucket) {
                // Address and stride of what is read and written, and the pixels and channels written.
                let (read, written, pixels, channels) = match launch.args {
                    Args::GemmArgs(a) => ((a.a, a.a_stride), (a.out, a.out_stride), a.m, a.n),
                    Args::BlockArgs(a) => {
                        let pixels = a.frames * a.out_h * a.out_w;
                        ((a.input, a.in_stride), (a.out, a.out_stride), pixels, a.n)
                    }
                    _ => continue,
                };
                for (address, stride) in [read, written] {
                    assert!(arena.contains(&address) && address % 16 == 0 && stride % 8 == 0);
                }
                let last = u64::from(pixels - 1) * u64::from(written.1) + u64::from(channels);
                assert!(written.0 + last * 2 <= arena.end, "{phase:?} {launch:?}");
            }
        }
    }
}

/// Bytes of so many pixels: address, stride, pixels, channels. Vectors are read and written whole.
fn bytes_of((address, stride, pixels, channels): (u64, u32, u32, u32)) -> Range<u64> {
    let last = u64::from(pixels - 1) * u64::from(stride) + u64::from(channels.next_multiple_of(8));
    address..address + last * 2
}

/// What is read, by name.
type Read = Vec<(&'static str, Range<u64>)>;

/// What a product or a block reads and what it writes.
fn ends(args: &Args) -> Option<(Read, Range<u64>)> {
    let (read, written) = match *args {
        Args::GemmArgs(a) => {
            // The arguments do not say how many frames there are.
            let frames = a.m / (a.out_h * a.out_w);
            let n_added = match a.low_h {
                0 => a.m,
                _ => frames * a.low_h * a.low_w,
            };
            let read = vec![
                (
                    "input",
                    (a.a, a.a_stride, frames * a.in_h * a.in_w, a.channels),
                ),
                ("added", (a.added, a.added_stride, n_added, a.n)),
            ];
            (read, (a.out, a.out_stride, a.m, a.n))
        }
        Args::BlockArgs(a) => {
            let [n_in, n_low, n_out] = [[a.in_h, a.in_w], [a.low_h, a.low_w], [a.out_h, a.out_w]]
                .map(|[h, w]| a.frames * h * w);
            let read = vec![
                ("input", (a.input, a.in_stride, n_in, a.channels)),
                (
                    "lifted",
                    (a.lifted, a.lifted_stride, n_low, a.lifted_channels),
                ),
                ("added", (a.added, a.added_stride, n_out, a.n)),
            ];
            (read, (a.out, a.out_stride, n_out, a.n))
        }
        _ => return None,
    };
    let read = read.into_iter().filter(|(_, (address, ..))| *address != 0);
    let read = read.map(|(name, pixels)| (name, bytes_of(pixels)));
    Some((read.collect(), bytes_of(written)))
}

/// Blocks of threads read what their neighbours may have written already, in any order; the twins, which take one
/// step after the other, would not notice. What is added might lie exactly where the result goes, but never does.
#[test]
fn no_product_or_block_writes_what_it_reads() {
    let mut n_checked = HashMap::<(bool, &str), usize>::new();
    for (variant, program) in [
        ("328-ave", program_with("328-ave", Blocks::Fused)),
        ("328-ave", program_with("328-ave", Blocks::Separate)),
        ("160-wenet", program("160-wenet")),
        ("ave-encoder", encoder()),
    ] {
        let bases = Bases {
            arena: 1 << 40,
            ..Bases::default()
        };
        for bucket in BUCKETS {
            for phase in [Phase::Visual, Phase::Frame] {
                for launch in program.launches(phase, &bases, bucket) {
                    let Some((read, written)) = ends(&launch.args) else {
                        continue;
                    };
                    for (name, read) in read {
                        let is_apart = read.end <= written.start || written.end <= read.start;
                        assert!(
                            is_apart,
                            "{variant} {phase:?} {bucket}: {name} of {launch:?}"
                        );
                        let is_block = matches!(launch.kernel, Kernel::Block(_));
                        *n_checked.entry((is_block, name)).or_default() += 1;
                    }
                }
            }
        }
    }
    for seen in [
        (false, "input"),
        (false, "added"),
        (true, "input"),
        (true, "lifted"),
        (true, "added"),
    ] {
        assert!(
            n_checked.contains_key(&seen),
            "no {seen:?} among {n_checked:?}"
        );
    }
}

#[test]
fn a_network_without_an_audio_part_of_its_own_is_refused() {
    let encoder = write_variant("ave-encoder").unwrap();
    assert!(matches!(
        GeneratorGraph::read(&encoder),
        Err(EngineError::Contract { .. })
    ));
}

#[test]
fn networks_of_wav2lip_are_refused_with_where_they_run() {
    let onnx = Wav2lip {
        part: 128,
        ..Wav2lip::new(96)
    }
    .write();
    let read = GeneratorGraph::read(&onnx).unwrap();
    let refused = Program::new(read, Blocks::default())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("engine.device: cpu"), "{refused}");
}
