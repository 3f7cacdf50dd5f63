//! How long a certificate is good.

use std::time::SystemTime;

use super::der::{SEQUENCE, element, inside, signed_part};
use crate::config::parse_date;

/// A time with two digits for the year, and one with four.
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate (DER) is good for the last time; `None` where it does not say so in a way that is known.
pub(super) fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    let mut signed = signed_part(certificate)?;
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        (_, _, signed) = element(signed)?;
    }
    let (validity, _) = inside(signed, SEQUENCE)?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        // RFC 5280: years below 50 are of this century.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let digits = text.strip_suffix('Z').filter(|digits| digits.len() == 14)?;
    let [year, month, day, hour, minute, second] =
        [0..4, 4..6, 6..8, 8..10, 10..12, 12..14].map(|part| digits.get(part).unwrap_or_default());
    parse_date(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};

    use super::*;

    fn certificate() -> Vec<u8> {
        let pem = include_bytes!("../../../../tests/data/tls/server.pem");
        CertificateDer::from_pem_slice(pem).unwrap().to_vec()
    }

    fn unix(certificate: &[u8]) -> Option<Duration> {
        let moment = not_after(certificate)?;
        moment.duration_since(SystemTime::UNIX_EPOCH).ok()
    }

    #[test]
    fn both_ways_to_write_the_end_are_read() {
        // Nov  4 22:10:06 2126 GMT
        let certificate = certificate();
        assert_eq!(unix(&certificate), Some(Duration::from_secs(4_949_503_806)));
        let long = b"\x18\x0f21261104221006Z";
        let at = certificate.windows(17).position(|part| part == long);
        let at = at.unwrap();
        // The lengths around it do not matter to what is read.
        let mut short = certificate.clone();
        short.splice(at..at + 17, *b"\x17\x0d261104221006Z");
        // The whole is as long as it says.
        short.extend([0; 2]);
        assert_eq!(unix(&short), Some(Duration::from_secs(1_793_830_206)));
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_a_time_or_none(at in 0_usize..400, byte: u8, end in 0_usize..900) {
            let mut certificate = certificate();
            if let Some(changed) = certificate.get_mut(at) {
                *changed = byte;
            }
            certificate.truncate(end);
            let _ = not_after(&certificate);
        }
    }
}
