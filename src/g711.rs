//! Telephony coding (ITU-T G.711): a byte a sample, on a roughly logarithmic scale.
//!
//! For clients that play echoed audio, and for WAV files. The server has its own copy
//! (`lipsync_audio::g711`), because a client program links no server crate. One golden file pins both.

/// A mu-law sample, as used in North America and Japan: 14 bits at the upper end of 16.
#[must_use]
pub fn decode_mulaw(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((i16::from(code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4);
    if code & 0x80 == 0 {
        magnitude - 0x84
    } else {
        0x84 - magnitude
    }
}

/// An A-law sample, as used elsewhere: 13 bits at the upper end of 16.
#[must_use]
pub fn decode_alaw(code: u8) -> i16 {
    let code = code ^ 0x55;
    let step = i16::from(code & 0x0F) << 4;
    let magnitude = match (code & 0x70) >> 4 {
        0 => step + 8,
        segment => (step + 0x108) << (segment - 1),
    };
    if code & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_what_the_golden_file_says() {
        let golden = |bytes: &[u8]| -> Vec<i16> {
            let (samples, _) = bytes.as_chunks::<2>();
            samples.iter().map(|s| i16::from_le_bytes(*s)).collect()
        };
        let mulaw = golden(include_bytes!("../crates/audio/tests/golden/mulaw.s16"));
        let alaw = golden(include_bytes!("../crates/audio/tests/golden/alaw.s16"));
        let all = |decode: fn(u8) -> i16| (0..=u8::MAX).map(decode).collect::<Vec<_>>();
        assert_eq!(all(decode_mulaw), mulaw);
        assert_eq!(all(decode_alaw), alaw);
    }
}
