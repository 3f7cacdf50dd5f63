//! `server.tls` and `operations.tls`: encrypted ports.

use std::path::{Path, PathBuf};

use lipsync_core::Foreign;

use super::{BadValue, section::section, text::Text, written_path::resolve};

section! {
    /// `server.tls`, as it is written.
    RawServerTls in "server.tls";
    cold cert: Text;
    cold key: Text;
    cold client_ca: Text;
    cold min_version: Text = "1.2";
}

section! {
    /// `operations.tls`, as it is written.
    RawOperationsTls in "operations.tls";
    cold cert: Text;
    cold key: Text;
    cold client_ca: Text;
    cold min_version: Text = "1.2";
}

/// The files of an encrypted port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `server.tls` or `operations.tls`, for messages.
    pub section: &'static str,
    /// The certificate and those that lead to its authority, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities of clients, PEM; with them a client must have a certificate.
    pub client_ca: Option<PathBuf>,
    /// The oldest protocol that is spoken.
    pub min_version: TlsVersion,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2, of 2008.
    V1_2,
    /// 1.3, of 2018.
    V1_3,
}

impl RawServerTls {
    /// `None`: not encrypted. Relative paths count from `base`.
    pub(super) fn check(&self, base: &Path) -> Result<Option<Tls>, BadValue> {
        let written = Written {
            section: "server.tls",
            cert: self.cert.as_deref(),
            key: self.key.as_deref(),
            client_ca: self.client_ca.as_deref(),
            min_version: self.min_version(),
        };
        written.check(base)
    }
}

impl RawOperationsTls {
    /// As [`RawServerTls::check`].
    pub(super) fn check(&self, base: &Path) -> Result<Option<Tls>, BadValue> {
        let written = Written {
            section: "operations.tls",
            cert: self.cert.as_deref(),
            key: self.key.as_deref(),
            client_ca: self.client_ca.as_deref(),
            min_version: self.min_version(),
        };
        written.check(base)
    }
}

/// Either of the two.
struct Written<'a> {
    section: &'static str,
    cert: Option<&'a str>,
    key: Option<&'a str>,
    client_ca: Option<&'a str>,
    min_version: &'a str,
}

impl Written<'_> {
    fn check(self, base: &Path) -> Result<Option<Tls>, BadValue> {
        let key_of = |name: &str| format!("{}.{name}", self.section);
        let min_version = match self.min_version {
            "1.2" => TlsVersion::V1_2,
            "1.3" => TlsVersion::V1_3,
            other => {
                return Err(BadValue {
                    key: key_of("min_version"),
                    message: format!("expected 1.2 or 1.3, found {:?}", Foreign(other)),
                });
            }
        };
        let path = |name: &str, text: &str| resolve(&key_of(name), text, base);
        let (cert, key) = match (self.cert, self.key) {
            (Some(cert), Some(key)) => (path("cert", cert)?, path("key", key)?),
            (None, None) if self.client_ca.is_none() => return Ok(None),
            (cert, _) => {
                let (there, missing) = if cert.is_some() {
                    ("cert", "key")
                } else if self.key.is_some() {
                    ("key", "cert")
                } else {
                    ("client_ca", "cert")
                };
                return Err(BadValue {
                    key: key_of(there),
                    message: format!("goes with {}, which is missing", key_of(missing)),
                });
            }
        };
        let client_ca = self.client_ca.map(|ca| path("client_ca", ca)).transpose()?;
        Ok(Some(Tls {
            section: self.section,
            cert,
            key,
            client_ca,
            min_version,
        }))
    }
}
