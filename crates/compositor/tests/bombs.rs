//! Files that unpack to far more than they are. Alone in its process, whose memory is measured.
#![cfg(target_os = "linux")]

use anyhow::{Context, Result};
use lipsync_compositor::{DecodeLimits, Encoding, Picture, decode, encode};

/// What a bomb unpacks to.
const BOMB_BYTES: u32 = 200 << 20;
/// What decoding a picture of a few pixels may take.
const ALLOWED_KB: u64 = 32 << 10;

/// Zeros as zlib packs them: one block of fixed codes, a zero and then "258 times the byte before".
fn bomb() -> Vec<u8> {
    let mut bits = Bits::default();
    // The last block, of fixed codes.
    bits.push(0b011, 3);
    bits.push(0b0000_1100, 8);
    let n_repeats = BOMB_BYTES / 258;
    for _ in 0..n_repeats {
        // Length 258 is 1100'0101, most significant bit first; distance 1 is five zeros.
        bits.push(0b1010_0011, 13);
    }
    bits.push(0, 7);
    // Adler-32 of so many zeros: the sum is 1, the sum of sums their number.
    let n_bytes = n_repeats * 258 + 1;
    let checksum = (n_bytes % 65_521) << 16 | 1;
    [&[0x78, 0x9C], &*bits.finish(), &checksum.to_be_bytes()].concat()
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u32,
    n_held: u32,
}

impl Bits {
    /// Writes the lowest `n` bits, the lowest first.
    fn push(&mut self, bits: u32, n: u32) {
        self.held |= bits << self.n_held;
        self.n_held += n;
        while self.n_held >= 8 {
            self.bytes.push(self.held.to_le_bytes()[0]);
            self.held >>= 8;
            self.n_held -= 8;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.push(0, 7);
        self.bytes
    }
}

fn chunk(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let named = [&[&name[..]], parts].concat().concat();
    let length = u32::try_from(named.len() - 4).expect("a small chunk");
    let checksum = crc32fast::hash(&named).to_be_bytes();
    [&length.to_be_bytes(), &*named, &checksum].concat()
}

fn peak_kb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmHWM")?.parse()?)
}

#[test]
fn what_hangs_on_a_png_is_not_unpacked() -> Result<()> {
    let picture = Picture::new(8, 8, vec![90; 8 * 8 * 3])?;
    let plain = encode(&picture, Encoding::Png)?;
    let (head, rest) = plain.split_at(33);
    let bomb = bomb();
    let before = peak_kb()?;
    for hanging in [
        chunk(b"iCCP", &[b"a\0\0", &bomb]),
        chunk(b"zTXt", &[b"a\0\0", &bomb]),
        chunk(b"iTXt", &[b"a\0\x01\0\0\0", &bomb]),
    ] {
        let file = [head, &hanging, rest].concat();
        assert_eq!(decode(&file, DecodeLimits::default())?, picture);
    }
    let grown = peak_kb()? - before;
    assert!(grown < ALLOWED_KB, "{grown} kB");
    Ok(())
}

#[test]
fn pixels_that_unpack_to_more_than_the_picture_take_no_more_than_it() -> Result<()> {
    let picture = Picture::new(8, 8, vec![0; 8 * 8 * 3])?;
    let plain = encode(&picture, Encoding::Png)?;
    let file = [
        &plain[..33],
        &chunk(b"IDAT", &[&bomb()]),
        &chunk(b"IEND", &[]),
    ];
    let before = peak_kb()?;
    let decoded = decode(&file.concat(), DecodeLimits::default());
    let grown = peak_kb()? - before;
    assert!(grown < ALLOWED_KB, "{grown} kB");
    assert!(decoded.is_err() || decoded == Ok(picture));
    Ok(())
}
