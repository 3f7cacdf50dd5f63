//! The little of DER that is needed to look into a certificate. Whatever stands there, nothing panics.

pub(super) const SEQUENCE: u8 = 0x30;
/// Of the certificate's version, which the first one does not have.
const VERSION: u8 = 0xa0;

/// What is signed of a certificate, from its serial number on.
pub(super) fn signed_part(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = inside(certificate, SEQUENCE)?;
    let (signed, _) = inside(certificate, SEQUENCE)?;
    Some(inside(signed, VERSION).map_or(signed, |(_, rest)| rest))
}

/// The inside of the first element, if it has this tag, and what comes after it.
pub(super) fn inside(bytes: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, inside, rest) = element(bytes)?;
    (tag == expected).then_some((inside, rest))
}

/// The tag and the inside of the first element (DER), and what comes after it.
pub(super) fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        0..=0x7f => (usize::from(first), bytes),
        0x81..=0x84 => {
            let (digits, bytes) = bytes.split_at_checked(usize::from(first & 0x7f))?;
            let add = |sum: usize, &digit: &u8| (sum << 8) | usize::from(digit);
            (digits.iter().fold(0, add), bytes)
        }
        _ => return None,
    };
    let (inside, rest) = bytes.split_at_checked(length)?;
    Some((tag, inside, rest))
}
