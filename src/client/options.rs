//! How a connection is made, and how long silence on it is believed.

use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::{Client, ConnectError, address::Address};

/// How a connection is made, and how long silence on it is believed.
///
/// With the defaults nothing waits for ever: a connection that cannot be made is given up after 5 s, a link that has
/// gone dead under a call or a session is noticed within 30 s (HTTP/2 pings, only while something runs, as proxies and
/// gRPC servers allow them), and an answer that does not begin within two minutes is not waited for.
#[derive(Debug, Clone)]
#[must_use = "options do nothing until `connect` is awaited"]
pub struct ConnectOptions {
    ca_pem: Option<Vec<u8>>,
    connect_timeout: Duration,
    answer_timeout: Duration,
    ping_interval: Duration,
    ping_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Client::ANSWER_TIMEOUT,
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(10),
        }
    }
}

impl ConnectOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Certificates (PEM) that https trusts instead of those of the system: for a private authority, or one
    /// server's own certificate.
    pub fn ca_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// How long connecting may take, handshakes included. Default 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long an answer may take to begin; it holds for every call, for the opening of a session and for the loading
    /// of a model, but not for what comes after. Default 120 s.
    pub fn answer_timeout(mut self, limit: Duration) -> Self {
        self.answer_timeout = limit;
        self
    }

    /// While a call or a session runs and nothing comes in for `interval`, the server is asked whether it is there, and given
    /// up when it has not answered after `timeout`. Defaults 20 s and 10 s.
    pub fn pings(mut self, interval: Duration, timeout: Duration) -> Self {
        (self.ping_interval, self.ping_timeout) = (interval, timeout);
        self
    }

    /// Connects to `https://host:port` (TLS), or to `http://host:port` or `host:port` (in clear). `grpcs` and `grpc` are other
    /// names of the schemes. Without a port it is 443, 80, or 50051 where there is no scheme either.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, address: &str) -> Result<Client, ConnectError> {
        let parsed = Address::parse(address).map_err(|reason| ConnectError::Address {
            address: address.to_owned(),
            reason,
        })?;
        let endpoint = self.endpoint(&parsed)?;
        // The limit of the endpoint ends the wait for TCP only; a peer may take the connection and then be silent.
        let connecting = tokio::time::timeout(self.connect_timeout, endpoint.connect());
        let Ok(connected) = connecting.await else {
            return Err(ConnectError::Timeout {
                address: address.to_owned(),
                limit: self.connect_timeout,
            });
        };
        let channel = connected.map_err(|error| ConnectError::failed(address, &parsed, error))?;
        Ok(Client {
            channel,
            answer_timeout: self.answer_timeout,
        })
    }

    fn endpoint(&self, address: &Address) -> Result<Endpoint, ConnectError> {
        let endpoint = Endpoint::from(address.uri.clone())
            .connect_timeout(self.connect_timeout)
            .timeout(self.answer_timeout)
            .http2_keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.ping_timeout)
            .tcp_nodelay(true);
        if !address.is_secure {
            return Ok(endpoint);
        }
        let tls = ClientTlsConfig::new()
            .domain_name(&address.host)
            .timeout(self.connect_timeout);
        let tls = match &self.ca_pem {
            Some(pem) => {
                check_pem(pem)?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
            None => tls.with_native_roots(),
        };
        endpoint.tls_config(tls).map_err(ConnectError::no_tls)
    }
}

/// A file without a certificate would be trusted as an empty list: a refusal that names everything but the cause.
fn check_pem(pem: &[u8]) -> Result<(), ConnectError> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    if pem.windows(BEGIN.len()).any(|part| part == BEGIN) {
        return Ok(());
    }
    Err(ConnectError::Certificates {
        reason: "no certificate in PEM form is among those to be trusted".to_owned(),
    })
}
