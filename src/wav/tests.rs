//! The reader against files of every kind, made here, and against what hound writes.

use std::{collections::BTreeMap, io::Cursor};

use super::*;

/// A chunk as it should be, padded.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let n_bytes = u32::try_from(content.len()).expect("small");
    let mut chunk = [&name[..], &n_bytes.to_le_bytes(), content].concat();
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
    let content = [b"WAVE".to_vec(), chunks.concat()].concat();
    chunk(b"RIFF", &content)
}

/// The content of a `fmt` chunk.
fn format(tag: u16, n_channels: u16, rate_hz: u32, bits: u16) -> Vec<u8> {
    let block = n_channels.wrapping_mul(bits.div_ceil(8));
    let mut format = [tag.to_le_bytes(), n_channels.to_le_bytes()].concat();
    format.extend(rate_hz.to_le_bytes());
    format.extend(rate_hz.wrapping_mul(block.into()).to_le_bytes());
    format.extend([block.to_le_bytes(), bits.to_le_bytes()].concat());
    format
}

fn fmt(tag: u16, n_channels: u16, rate_hz: u32, bits: u16) -> Vec<u8> {
    chunk(b"fmt ", &format(tag, n_channels, rate_hz, bits))
}

fn extensible(tag: u16, n_channels: u16, bits: u16) -> Vec<u8> {
    let mut content = format(0xFFFE, n_channels, 48_000, bits);
    content.extend([22, 0]);
    content.extend(bits.to_le_bytes());
    content.extend([0; 4]);
    content.extend(tag.to_le_bytes());
    content.extend([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71]);
    chunk(b"fmt ", &content)
}

const SAMPLES: [i16; 6] = [0, 1, -1, i16::MAX, i16::MIN, 1234];

fn s16(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
}

fn mono() -> Vec<u8> {
    file(&[fmt(1, 1, 16_000, 16), chunk(b"data", &s16(&SAMPLES))])
}

/// As a service writes it while it does not know how long it will speak.
fn with_sizes(riff: u32, data: u32) -> Vec<u8> {
    let mut file = mono();
    file[4..8].copy_from_slice(&riff.to_le_bytes());
    file[40..44].copy_from_slice(&data.to_le_bytes());
    file
}

#[test]
fn lengths_that_were_not_known_or_are_wrong_cost_no_sample() {
    let n_data = 12;
    for (riff, data) in [
        (u32::MAX, u32::MAX),
        (0x7FFF_FFFF, 0x7FFF_FFFF),
        (0x7FFF_F024, 0x7FFF_F000),
        (36, 0),
        (0, 0),
        (u32::MAX, 0),
        (0, n_data),
        (12, n_data),
        (10_000, n_data),
        (10_000, 9_964),
        (36 + n_data, n_data + 1),
    ] {
        let wav = Wav::parse(&with_sizes(riff, data)).expect("samples");
        assert_eq!(wav.samples, SAMPLES, "{riff:#x} {data:#x}");
        assert_eq!((wav.rate_hz, wav.n_channels), (16_000, 1));
    }
}

#[test]
fn what_follows_the_samples_is_none_of_them() {
    let (head, data) = (fmt(1, 1, 8_000, 8), chunk(b"data", &[128, 129, 127]));
    let list = chunk(b"LIST", b"INFOISFT\x0e\0\0\0Lavf59.27.100\0");
    let wav = Wav::parse(&file(&[head.clone(), data, list.clone()])).expect("three samples");
    assert_eq!(wav.samples, [0, 256, -256]);
    // An empty chunk of samples that is really empty.
    let empty = file(&[head, chunk(b"data", &[]), list]);
    assert!(matches!(Wav::parse(&empty), Err(WavError::NoData)));
}

#[test]
fn chunks_before_the_samples_are_skipped_padded_or_not() {
    let others = [
        chunk(b"JUNK", &[0; 27]),
        chunk(b"LIST", b"odd"),
        chunk(b"bext", &[1; 602]),
    ];
    let (head, data) = (fmt(1, 2, 44_100, 16), chunk(b"data", &s16(&SAMPLES)));
    let whole = file(&[
        others.concat(),
        head.clone(),
        chunk(b"fact", &[6, 0, 0, 0]),
        data.clone(),
    ]);
    let wav = Wav::parse(&whole).expect("a file");
    assert_eq!((wav.n_channels, wav.samples), (2, SAMPLES.to_vec()));
    // Three bytes and no zero after them.
    let mut unpadded = chunk(b"LIST", b"odd");
    unpadded.pop();
    let wav = Wav::parse(&file(&[unpadded, head, data])).expect("a file");
    assert_eq!(wav.samples, SAMPLES);
}

#[test]
fn every_coding_of_plain_samples_becomes_16_bits() {
    let f32s = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let f64s = |values: &[f64]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let cases: [(u16, u16, Vec<u8>, &[i16]); 9] = [
        (1, 8, vec![0, 128, 255], &[i16::MIN, 0, 127 << 8]),
        (1, 16, s16(&SAMPLES), &SAMPLES),
        (
            1,
            20,
            vec![0xF0, 0xFF, 0x7F, 0, 0, 0x80],
            &[i16::MAX, i16::MIN],
        ),
        (1, 24, vec![0xFF, 1, 0, 0, 0xFF, 0xFF], &[1, -1]),
        (1, 32, vec![9, 9, 2, 1, 0, 0, 0, 0x80], &[0x0102, i16::MIN]),
        (
            3,
            32,
            f32s(&[0.5, -1.0, 1.0, 7.0]),
            &[16_384, i16::MIN, i16::MAX, i16::MAX],
        ),
        (3, 64, f64s(&[-0.5, -7.0]), &[-16_384, i16::MIN]),
        (7, 8, vec![0x00, 0x80, 0xFF], &[-32_124, 32_124, 0]),
        (6, 8, vec![0xD5, 0x2A, 0xAA], &[8, -32_256, 32_256]),
    ];
    for (tag, bits, data, expected) in cases {
        let data = chunk(b"data", &data);
        for head in [fmt(tag, 1, 48_000, bits), extensible(tag, 1, bits)] {
            let wav = Wav::parse(&file(&[head, data.clone()])).expect("a file");
            assert_eq!(wav.samples, expected, "{tag}, {bits} bits");
        }
    }
}

#[test]
fn more_than_two_channels_become_their_mean() {
    let data = s16(&[1, 2, 6, 0, -3, -3, -32_768, -32_768, -32_768]);
    let wav = Wav::parse(&file(&[extensible(1, 3, 16), chunk(b"data", &data)])).expect("a file");
    assert_eq!((wav.n_channels, wav.samples), (1, vec![3, -2, i16::MIN]));
}

/// A file of 64 bits: what the `ds64` says, and what follows the samples.
fn long(name: &[u8; 4], n_bytes: u64, after: &[u8]) -> Vec<u8> {
    let sizes = [u64::MAX, n_bytes, SAMPLES.len() as u64].map(u64::to_le_bytes);
    let ds64 = chunk(b"ds64", &[&sizes.concat()[..], &[0; 4]].concat());
    let mut data = chunk(b"data", &s16(&SAMPLES));
    data[4..8].copy_from_slice(&[0xFF; 4]);
    let head = [&name[..], &[0xFF; 4], b"WAVE"].concat();
    [&head, &ds64, &fmt(1, 1, 16_000, 16), &data, after].concat()
}

#[test]
fn files_of_64_bits_are_read_as_far_as_ds64_says() {
    for name in [b"RF64", b"BW64"] {
        let wav = Wav::parse(&long(name, 12, &chunk(b"axml", b"after"))).expect("a file");
        assert_eq!((wav.rate_hz, wav.samples), (16_000, SAMPLES.to_vec()));
        let wav = Wav::parse(&long(name, 4, &[])).expect("a file");
        assert_eq!(wav.samples, SAMPLES[..2]);
        let wav = Wav::parse(&long(name, 1 << 40, &[])).expect("a file");
        assert_eq!(wav.samples, SAMPLES);
        let mut reader = WavReader::default();
        let pieces = long(name, 12, b"after")
            .into_iter()
            .map(|byte| reader.push(&[byte]));
        let samples: Vec<i16> = pieces
            .flat_map(|samples| samples.expect("samples"))
            .collect();
        assert_eq!(samples, SAMPLES);
    }
}

#[test]
fn chunks_after_samples_of_unknown_length_are_no_samples() {
    let list = chunk(b"LIST", b"INFOISFT\x05\0\0\0abcd\0");
    let unpadded = &list[..list.len() - 1];
    for after in [
        list.clone(),
        [&*list, &*chunk(b"id3 ", b"xy")].concat(),
        unpadded.to_vec(),
    ] {
        for data in [0, u32::MAX, 0x7FFF_F000] {
            let whole = [with_sizes(data, data), after.clone()].concat();
            assert_eq!(
                Wav::parse(&whole).expect("a file").samples,
                SAMPLES,
                "{data}"
            );
        }
    }
    // What only looks like a chunk is sound.
    for after in [&list[..list.len() - 4], &[&*list, &[0; 6]].concat()] {
        let whole = [&with_sizes(0, u32::MAX), after].concat();
        let n_samples = SAMPLES.len() + after.len() / 2;
        assert_eq!(Wav::parse(&whole).expect("a file").samples.len(), n_samples);
    }
}

#[test]
fn a_file_is_read_within_a_limit() {
    let path = std::env::temp_dir().join(format!("lipsync-wav-{}", std::process::id()));
    std::fs::write(&path, mono()).expect("written");
    let n_bytes = mono().len() as u64;
    let read = Wav::open_within(&path, n_bytes);
    let refused = Wav::open_within(&path, n_bytes - 1);
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(read.expect("a file").samples, SAMPLES);
    assert!(matches!(refused, Err(WavError::TooLarge { .. })));
    #[cfg(unix)]
    assert!(matches!(
        Wav::open_within(Path::new("/dev/zero"), 1 << 20),
        Err(WavError::TooLarge { .. })
    ));
}

#[test]
fn what_is_no_usable_wav_file_is_refused_by_name() {
    let data = chunk(b"data", &s16(&SAMPLES));
    let of = |head| file(&[head, data.clone()]);
    let float = |value: f32| chunk(b"data", &value.to_le_bytes());
    let cases = [
        (Vec::new(), "is empty"),
        (b"RIFF".to_vec(), "not a WAV file"),
        (b"hello, world".to_vec(), "not a WAV file"),
        (b"RF64\xff\xff\xff\xffWAVEds64".to_vec(), "ends before any"),
        (b"PK\x03\x04\x14\0\0\0\0\0\0\0".to_vec(), "ZIP"),
        (b"RIFX\0\0\0\x24WAVEfmt ".to_vec(), "big-endian"),
        (b"FORM\0\0\0\x24AIFFCOMM".to_vec(), "AIFF"),
        (b"ID3\x04\0\0\0\0\0\0".to_vec(), "MP3"),
        (b"fLaC\0\0\0\x22".to_vec(), "FLAC"),
        (of(fmt(0x11, 1, 16_000, 4)), "IMA ADPCM"),
        (of(fmt(0x55, 1, 16_000, 0)), "MP3"),
        (of(fmt(0x1234, 1, 16_000, 16)), "0x1234"),
        (of(extensible(0x55, 1, 16)), "MP3"),
        (of(fmt(1, 1, 16_000, 64)), "64 bits of PCM"),
        (of(fmt(3, 1, 16_000, 16)), "16 bits of float"),
        (of(fmt(1, 0, 16_000, 16)), "0 channels"),
        (of(fmt(1, 1, 0, 16)), "0 Hz"),
        (of(fmt(1, 1, 3_999, 16)), "3999 Hz"),
        (of(fmt(1, 1, u32::MAX, 16)), "4294967295 Hz"),
        (of(chunk(b"fmt ", &[1, 0])), "does not say"),
        (file(std::slice::from_ref(&data)), "does not say"),
        (file(&[fmt(1, 1, 16_000, 16)]), "ends before any samples"),
        (
            file(&[fmt(1, 1, 16_000, 16), chunk(b"data", &[])]),
            "no samples",
        ),
        (
            file(&[fmt(1, 1, 16_000, 16), chunk(b"data", &[1])]),
            "no samples",
        ),
        (
            file(&[fmt(3, 1, 16_000, 32), float(f32::NAN)]),
            "sample 0 is not finite",
        ),
        (
            file(&[fmt(3, 1, 16_000, 32), float(8000.0)]),
            "sample 0 is above 1000",
        ),
        (
            file(&[
                fmt(3, 1, 16_000, 64),
                chunk(b"data", &1e308_f64.to_le_bytes()),
            ]),
            "sample 0 is above 1000",
        ),
    ];
    for (file, expected) in cases {
        let error = Wav::parse(&file).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} names {expected:?}");
    }
    let mut wrong = format(1, 2, 16_000, 16);
    wrong[12] = 3;
    let error = Wav::parse(&of(chunk(b"fmt ", &wrong))).expect_err("blocks of 3 bytes");
    assert!(error.to_string().contains("blocks of 3 bytes"), "{error}");
}

#[test]
fn a_block_that_was_not_filled_in_and_a_last_sample_cut_short_do_no_harm() {
    let mut content = format(1, 2, 22_050, 16);
    content[8..14].fill(0);
    let mut data = s16(&SAMPLES);
    data.push(7);
    let wav = Wav::parse(&file(&[chunk(b"fmt ", &content), chunk(b"data", &data)]));
    assert_eq!(wav.expect("a file").samples, SAMPLES);
}

#[test]
fn pieces_cut_anywhere_give_what_the_whole_gives() {
    let junk = chunk(b"LIST", b"odd");
    let after = chunk(b"LIST", b"after the samples");
    let f64s: Vec<u8> = (0..8)
        .flat_map(|n| (f64::from(n) / 9.0).to_le_bytes())
        .collect();
    let list = chunk(b"LIST", b"odd");
    for whole in [
        with_sizes(u32::MAX, u32::MAX),
        with_sizes(36, 0),
        file(&[
            fmt(1, 1, 16_000, 16),
            chunk(b"data", &[]),
            list,
            chunk(b"data", &[7; 8]),
        ]),
        file(&[
            junk.clone(),
            fmt(3, 2, 24_000, 64),
            chunk(b"data", &f64s),
            after,
        ]),
        file(&[junk, extensible(1, 3, 24), chunk(b"data", &[7; 27])]),
    ] {
        let expected = Wav::parse(&whole).expect("a file").samples;
        for n in [1, 2, 3, 7, 44, 45] {
            let mut reader = WavReader::default();
            let samples: Vec<i16> = whole
                .chunks(n)
                .flat_map(|piece| reader.push(piece).expect("a piece"))
                .collect();
            assert_eq!(samples, expected, "pieces of {n}");
            reader.finish().expect("it had samples");
        }
    }
}

#[test]
fn what_another_program_writes_is_read_back() {
    let int = hound::SampleFormat::Int;
    for (n_channels, bits, sample_format) in [
        (1, 8, int),
        (2, 16, int),
        (1, 24, int),
        (4, 24, int),
        (2, 32, int),
        (1, 32, hound::SampleFormat::Float),
    ] {
        let spec = hound::WavSpec {
            channels: n_channels,
            sample_rate: 24_000,
            bits_per_sample: bits,
            sample_format,
        };
        let mut file = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut file, spec).expect("a writer");
        let values: Vec<i32> = (0..60).map(|n| n * 4 - 120).collect();
        for &value in &values {
            match sample_format {
                hound::SampleFormat::Int => writer.write_sample(value << (bits - 8)),
                hound::SampleFormat::Float => writer.write_sample(value as f32 / 128.0),
            }
            .expect("a sample");
        }
        writer.finalize().expect("a file");
        let wav = Wav::parse(file.get_ref()).expect("a file");
        let sixteen: Vec<i16> = values
            .iter()
            .map(|&v| i16::try_from(v << 8).expect("16 bits"))
            .collect();
        let expected: Vec<i16> = if n_channels > 2 {
            let mean = |block: &[i16]| {
                block
                    .iter()
                    .map(|&s| i32::from(s))
                    .sum::<i32>()
                    .div_euclid(4)
            };
            sixteen
                .chunks(4)
                .map(|b| i16::try_from(mean(b)).expect("16 bits"))
                .collect()
        } else {
            sixteen
        };
        assert_eq!(wav.samples, expected, "{spec:?}");
    }
}

proptest::proptest! {
    /// Any damage to the head of a file gives samples or an error, and pieces give what the whole gives.
    #[test]
    fn damaged_files_do_no_harm(
        places in proptest::collection::vec((0_usize..60, proptest::num::u8::ANY), 0..4),
        cut in 0_usize..100,
        n in 1_usize..30,
    ) {
        let head = [chunk(b"LIST", b"odd"), fmt(1, 2, 22_050, 24)];
        let mut file = file(&[&head[..], &[chunk(b"data", &[7; 24])]].concat());
        for (place, byte) in places {
            file[place] = byte;
        }
        file.truncate(cut.max(1));
        let whole = Wav::parse(&file).ok();
        let mut reader = WavReader::default();
        let pieces = file.chunks(n).map(|piece| reader.push(piece).ok());
        let samples: Option<Vec<Vec<i16>>> = pieces.collect();
        let is_whole = samples.is_some() && reader.finish().is_ok();
        proptest::prop_assert_eq!(is_whole, whole.is_some());
        if let (Some(samples), Some(whole)) = (samples, whole) {
            proptest::prop_assert_eq!(samples.concat(), whole.samples);
        }
    }
}

/// The Python client has the same files, and the same words.
#[test]
fn files_are_refused_with_the_words_that_all_clients_have() {
    let cases = include_str!("../../tests/data/wav/refused.json");
    let cases: Vec<BTreeMap<String, String>> = serde_json::from_str(cases).expect("cases");
    assert!(cases.len() > 70, "{}", cases.len());
    for case in cases {
        let (hex, message) = (&case["hex"], &case["message"]);
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        let file: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let refused = Wav::parse(&file).expect_err(message);
        assert_eq!(refused.to_string(), *message, "{hex}");
    }
}
