//! Keys, and what is kept of them.

use std::{
    fmt::{self, Write as _},
    io,
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Longer ones are no keys, and are not looked at.
pub const MAX_KEY_BYTES: usize = 256;
/// How keys of ours begin, so that people and scanners know one when they see it.
const PREFIX: &str = "lsk_";
const RANDOM_BYTES: usize = 32;

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a key; `None`: it is empty, or too long to be one.
    #[must_use]
    pub fn of(key: &[u8]) -> Option<Self> {
        let is_key = (1..=MAX_KEY_BYTES).contains(&key.len());
        is_key.then(|| Self(Sha256::digest(key).into()))
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for &digit in pair {
                let digit = char::from(digit).to_digit(16)?;
                *byte = *byte << 4 | u8::try_from(digit).ok()?;
            }
        }
        Some(Self(bytes))
    }

    /// As 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Whether two are the same; how long that takes tells nothing.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Its first eight bytes, by which it is found. Whoever could choose them would have to know a key.
    #[must_use]
    pub(super) fn start(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Enough to tell one from another.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.hex()[..8])
    }
}

/// A key that was made just now. It is shown once, by [`NewKey::reveal`].
pub struct NewKey(String);

impl NewKey {
    /// Makes one of 256 random bits from the operating system.
    ///
    /// # Errors
    /// What the operating system says where it has none.
    pub fn make() -> io::Result<Self> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::getrandom(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(format!("{PREFIX}{}", hex(&random))))
    }

    /// The key itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewKey(..)")
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_standard_and_reads_what_it_writes() {
        let digest = Digest::of(b"abc").unwrap();
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.hex(), hex);
        assert_eq!(Digest::parse(hex), Some(digest));
        assert_eq!(Digest::parse(&hex.to_uppercase()), Some(digest));
        assert!(digest.is_same(&digest) && !digest.is_same(&Digest::of(b"abd").unwrap()));
        for wrong in ["", &hex[1..], &format!("{hex}0"), &hex.replace('b', "g")] {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
        assert!(Digest::of(b"").is_none());
        assert!(Digest::of(&[b'k'; MAX_KEY_BYTES]).is_some());
        assert!(Digest::of(&[b'k'; MAX_KEY_BYTES + 1]).is_none());
    }

    #[test]
    fn a_new_key_is_another_each_time_and_nothing_shows_it_by_accident() {
        let (one, other) = (NewKey::make().unwrap(), NewKey::make().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert!(one.reveal().starts_with(PREFIX));
        assert_eq!(one.reveal().len(), PREFIX.len() + 64);
        let digest = Digest::of(one.reveal().as_bytes()).unwrap();
        for shown in [format!("{one:?}"), format!("{digest:?}")] {
            assert!(!shown.contains(&one.reveal()[4..12]), "{shown}");
        }
    }
}
