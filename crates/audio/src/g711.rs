//! Telephony coding (ITU-T G.711): a byte a sample, on a roughly logarithmic scale.
//!
//! The client's crate has the same two functions, since neither imports the other; the tests of both compare
//! all 256 codes with one golden file.

/// A mu-law sample, as used in North America and Japan: 14 bits at the upper end of 16.
pub(crate) fn decode_mulaw(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((i16::from(code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4);
    if code & 0x80 == 0 {
        magnitude - 0x84
    } else {
        0x84 - magnitude
    }
}

/// An A-law sample, as used elsewhere: 13 bits at the upper end of 16.
pub(crate) fn decode_alaw(code: u8) -> i16 {
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
