//! What a certificate calls its owner.

use std::sync::Arc;

use super::der::{SEQUENCE, element, inside, signed_part};
use crate::tenants::MAX_NAME_BYTES;

/// The common name in the subject of a client's certificate, which its authority vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientName(Arc<str>);

/// The identifier of a common name: 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SET: u8 = 0x31;
const IDENTIFIER: u8 = 0x06;
/// UTF-8, printable and IA5: what is not UTF-8 in them is no name.
const STRINGS: [u8; 3] = [0x0c, 0x13, 0x16];

impl ClientName {
    /// Of a certificate whose signature has been checked; `None` where it has no common name that can be shown.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let mut signed = signed_part(certificate)?;
        // Serial number, algorithm, issuer, validity.
        for _ in 0..4 {
            (_, _, signed) = element(signed)?;
        }
        let (mut subject, _) = inside(signed, SEQUENCE)?;
        let mut name = None;
        while !subject.is_empty() {
            let (mut set, rest) = inside(subject, SET)?;
            subject = rest;
            while !set.is_empty() {
                let (pair, rest) = inside(set, SEQUENCE)?;
                set = rest;
                let (kind, value) = inside(pair, IDENTIFIER)?;
                if kind == COMMON_NAME {
                    name = text(value);
                }
            }
        }
        name.map(|name| Self(name.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn text(value: &[u8]) -> Option<&str> {
    let (tag, bytes, _) = element(value)?;
    let text = std::str::from_utf8(bytes).ok()?;
    let is_name = STRINGS.contains(&tag)
        && !text.is_empty()
        && text.len() <= MAX_NAME_BYTES
        && !text.chars().any(char::is_control);
    is_name.then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};

    use super::*;

    fn certificate() -> Vec<u8> {
        let pem = include_bytes!("../../../../tests/data/tls/server.pem");
        CertificateDer::from_pem_slice(pem).unwrap().to_vec()
    }

    #[test]
    fn the_common_name_is_found() {
        let name = ClientName::of(&certificate()).unwrap();
        assert_eq!(name.as_str(), "lipsync test server");
    }

    proptest! {
        /// A certificate whose signature was checked can still be anything: its authority may be careless.
        #[test]
        fn whatever_stands_there_is_a_name_or_none(at in 0_usize..400, byte: u8, end in 0_usize..900) {
            let mut certificate = certificate();
            if let Some(changed) = certificate.get_mut(at) {
                *changed = byte;
            }
            certificate.truncate(end);
            if let Some(name) = ClientName::of(&certificate) {
                prop_assert!(name.as_str().len() <= MAX_NAME_BYTES);
            }
        }
    }
}
