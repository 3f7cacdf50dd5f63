//! The keys that sign tokens: those of a file that all replicas share, or one of this process alone.

use std::{fmt, io};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The largest key file.
pub const MAX_KEY_FILE_BYTES: u64 = 64 << 10;
/// Bytes of a signature.
pub(super) const MAC_BYTES: usize = 32;
/// The block of SHA-256.
const BLOCK_BYTES: usize = 64;
const MIN_KEY_CHARS: usize = 32;
const MAX_KEYS: usize = 8;
const RANDOM_BYTES: usize = 32;

/// Keys of HMAC-SHA-256. The first one signs, all of them verify: so a key can be changed while tokens of the one
/// before are under way.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeKeys(Vec<Key>);

/// A key, absorbed into both hashes of its signatures.
#[derive(Clone)]
struct Key {
    inner: Sha256,
    outer: Sha256,
    /// A signature of nothing, by which keys are compared.
    name: [u8; MAC_BYTES],
}

impl ResumeKeys {
    /// A key of this process, which no other one knows.
    ///
    /// # Errors
    /// What the operating system says where it has no random bits.
    pub fn random() -> io::Result<Self> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::getrandom(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(vec![Key::new(&random)]))
    }

    /// The keys of a file: one a line, of at least 32 characters. Empty lines, and those that begin with `#`, are no keys.
    ///
    /// # Errors
    /// What is wrong, without a word of what is in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        // It would be a part of the first key, in this replica alone.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut keys = Vec::new();
        for (n, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let n_chars = line.chars().count();
            if n_chars < MIN_KEY_CHARS {
                return Err(format!(
                    "line {n}: expected a key of at least {MIN_KEY_CHARS} characters, found {n_chars}"
                ));
            }
            keys.push(Key::new(line.as_bytes()));
        }
        if !(1..=MAX_KEYS).contains(&keys.len()) {
            return Err(format!(
                "expected 1 to {MAX_KEYS} keys, one a line, found {}",
                keys.len()
            ));
        }
        Ok(Self(keys))
    }

    /// The first key's signature.
    pub(super) fn sign(&self, data: &[u8]) -> [u8; MAC_BYTES] {
        // There is at least one.
        self.0.first().map_or([0; MAC_BYTES], |key| key.mac(data))
    }

    /// Whether a signature is one of these keys'; how long that takes tells nothing of it.
    pub(super) fn verify(&self, data: &[u8], mac: &[u8]) -> bool {
        let is_good = |key: &Key| bool::from(key.mac(data).ct_eq(mac));
        self.0.iter().any(is_good)
    }
}

/// A key is never shown.
impl fmt::Debug for ResumeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResumeKeys({})", self.0.len())
    }
}

impl Key {
    fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK_BYTES];
        let digest = Sha256::digest(key);
        let key = if key.len() > BLOCK_BYTES {
            &digest
        } else {
            key
        };
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
        let absorbed = |pad: u8| Sha256::new_with_prefix(block.map(|byte| byte ^ pad));
        let mut made = Self {
            inner: absorbed(0x36),
            outer: absorbed(0x5c),
            name: [0; MAC_BYTES],
        };
        made.name = made.mac(b"");
        made
    }

    fn mac(&self, data: &[u8]) -> [u8; MAC_BYTES] {
        let inner = self.inner.clone().chain_update(data).finalize();
        self.outer.clone().chain_update(inner).finalize().into()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Key {}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        let long_key = [0xaa; 131];
        let cases: [(&[u8], &[u8], &str); 3] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &long_key,
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, data, expected) in cases {
            assert_eq!(hex(&Key::new(key).mac(data)), expected);
        }
    }

    #[test]
    fn a_file_has_keys_and_nothing_of_it_is_shown() {
        let (old, new) = ("o".repeat(32), "n".repeat(64));
        let keys = ResumeKeys::parse(&format!("# rotated\n\n  {new}\r\n{old}\n")).unwrap();
        let before = ResumeKeys::parse(&old).unwrap();
        let mac = before.sign(b"token");
        assert!(keys.verify(b"token", &mac) && !keys.verify(b"tokem", &mac));
        assert!(!before.verify(b"token", &keys.sign(b"token")));
        assert_ne!(keys, before);
        assert_eq!(before, ResumeKeys::parse(&format!("{old}\n")).unwrap());
        let marked = format!("\u{feff}# rotated\r\n{old}");
        assert_eq!(before, ResumeKeys::parse(&marked).unwrap());
        assert_eq!(
            before,
            ResumeKeys::parse(&format!("\u{feff}{old}")).unwrap()
        );
        assert_eq!(format!("{keys:?}"), "ResumeKeys(2)");
        for (text, fault) in [
            (
                "short".to_owned(),
                "line 1: expected a key of at least 32 characters, found 5",
            ),
            (
                "# none\n".to_owned(),
                "expected 1 to 8 keys, one a line, found 0",
            ),
            (
                format!("{old}\n").repeat(9),
                "expected 1 to 8 keys, one a line, found 9",
            ),
        ] {
            assert_eq!(ResumeKeys::parse(&text), Err(fault.to_owned()));
        }
    }
}
