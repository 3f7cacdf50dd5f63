//! Certificates and keys, out of their files.

use std::{io, path::Path, sync::Arc, time::SystemTime};

use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use super::validity::not_after;
use crate::{
    config::{Tls, TlsVersion},
    named_file,
};
use lipsync_core::encoding::wide_encoding;

/// More than any chain of certificates takes.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// Why a port cannot be encrypted. The text names the key and the file.
#[derive(Debug, thiserror::Error)]
#[error("{section}.{key}: {}: {reason}", file.display())]
pub struct TlsError {
    section: &'static str,
    key: &'static str,
    file: std::path::PathBuf,
    reason: String,
}

/// What is in the files of a port.
#[derive(Debug)]
pub struct Material {
    /// How to shake hands.
    pub config: ServerConfig,
    /// When the first certificate of the chain ends; `None` where none says when.
    pub not_after: Option<SystemTime>,
}

/// Reads the files of a port and checks that they fit together. `alpn` is what is spoken inside.
///
/// # Errors
/// See [`TlsError`].
pub fn load(tls: &Tls, alpn: &[u8]) -> Result<Material, TlsError> {
    let error = |key, file: &Path, reason: String| TlsError {
        section: tls.section,
        key,
        file: file.to_owned(),
        reason,
    };
    let chain = certificates(&tls.cert).map_err(|reason| error("cert", &tls.cert, reason))?;
    let n_certificates = chain.len();
    let ends = chain
        .iter()
        .filter_map(|certificate| not_after(certificate));
    let not_after = ends.min();
    let key = private_key(&tls.key).map_err(|reason| error("key", &tls.key, reason))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(tls.min_version))
        .map_err(|fault| error("min_version", &tls.cert, fault.to_string()))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let wrong = |reason| error("client_ca", file, reason);
            let roots = Arc::new(roots(file).map_err(wrong)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|fault| wrong(fault.to_string()))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|fault| match fault {
            rustls::Error::InconsistentKeys(_) => {
                let order = if n_certificates > 1 {
                    ", whose first certificate must be the server's own"
                } else {
                    ""
                };
                let reason = format!("it is not the key of {}{order}", tls.cert.display());
                error("key", &tls.key, reason)
            }
            // Of the key, whatever it says of the certificate.
            rustls::Error::General(text) if text.contains("private key") => {
                let reason = "expected a key of RSA with at least 2048 bits, ECDSA with P-256 or P-384, or Ed25519";
                error("key", &tls.key, reason.to_owned())
            }
            other => error("cert", &tls.cert, other.to_string()),
        })?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Material { config, not_after })
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match min {
        TlsVersion::V1_2 => &BOTH,
        TlsVersion::V1_3 => &BOTH[..1],
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    named_file::read(file, MAX_PEM_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => "expected at most 1 MiB, found more".to_owned(),
        _ => format!("cannot be read: {error}"),
    })
}

/// Without a byte order mark; refused where it cannot be PEM.
fn read_pem(file: &Path) -> Result<Vec<u8>, String> {
    let text = read(file)?;
    if let Some(encoding) = wide_encoding(&text) {
        return Err(format!("this is {encoding}; save it as UTF-8"));
    }
    match text.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => Ok(rest.to_vec()),
        // A sequence in DER, longer than 127 bytes.
        None if matches!(text.as_slice(), [0x30, 0x81..=0x84, ..]) => Err(
            "this is DER or PKCS #12, and PEM is expected: openssl x509 -inform der, openssl pkey -inform der and openssl \
             pkcs12 -nodes convert it"
                .to_owned(),
        ),
        None => Ok(text),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read_pem(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no PEM certificate in it".to_owned()),
        Ok(found) => Ok(found),
        Err(pem::Error::MissingSectionEnd { .. }) => {
            Err("it ends in the middle of a certificate".to_owned())
        }
        Err(fault) => Err(format!("not PEM: {fault}")),
    }
}

/// What is wrong with a key is never said in its own words.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read_pem(file)?;
    if text.windows(9).any(|window| window == b"ENCRYPTED") {
        return Err("the key is encrypted: store it without a pass phrase".to_owned());
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| "there is no PEM private key in it".to_owned())
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|fault| fault.to_string())?;
    }
    Ok(roots)
}
