//! Connection options: TLS, timeouts and pings.

use std::{fmt, time::Duration};

use tonic::{
    service::interceptor::InterceptedService,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};

use super::{ApiKey, Client, ConnectError, address::Address};

/// Connection options: TLS, timeouts and pings.
///
/// With the defaults nothing waits for ever. Connecting fails after 5 s. A dead link under a call or a session is
/// noticed within 30 s (HTTP/2 pings, only while something runs, as proxies and gRPC servers allow). A call fails
/// if its answer does not begin within two minutes.
#[derive(Clone)]
#[must_use = "options do nothing until `connect` is awaited"]
pub struct ConnectOptions {
    ca_pem: Option<Vec<u8>>,
    api_key: Option<String>,
    connect_timeout: Duration,
    answer_timeout: Duration,
    ping_interval: Duration,
    ping_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            ca_pem: None,
            api_key: None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Client::ANSWER_TIMEOUT,
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(10),
        }
    }
}

/// The key is left out.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("connect_timeout", &self.connect_timeout)
            .field("answer_timeout", &self.answer_timeout)
            .field("ping_interval", &self.ping_interval)
            .field("ping_timeout", &self.ping_timeout)
            .finish_non_exhaustive()
    }
}

impl ConnectOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// CA certificates (PEM) to trust for https instead of the system's: of a private authority, or one server's own
    /// certificate.
    pub fn ca_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// The key of a tenant, for every call (`authorization: Bearer <key>`). Without TLS it travels in clear:
    /// [`Client::sends_key_in_clear`].
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Time limit for connecting, handshakes included. Default 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Time limit for an answer to begin. It applies to every call, to the opening of a session and to the loading of a
    /// model, but not to the rest of an answer. Default 120 s.
    pub fn answer_timeout(mut self, limit: Duration) -> Self {
        self.answer_timeout = limit;
        self
    }

    /// If nothing comes in for `interval` while a call or a session runs, the client pings the server. It gives up if
    /// no answer comes within `timeout`. Defaults 20 s and 10 s.
    pub fn pings(mut self, interval: Duration, timeout: Duration) -> Self {
        (self.ping_interval, self.ping_timeout) = (interval, timeout);
        self
    }

    /// Connects to `https://host:port` (TLS), or to `http://host:port` or `host:port` (no TLS). `grpcs` and `grpc` are
    /// other names of the schemes. Default ports: 443 with https, 80 with http, 50051 without a scheme.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, address: &str) -> Result<Client, ConnectError> {
        let parsed = Address::parse(address).map_err(|reason| ConnectError::Address {
            address: address.to_owned(),
            reason,
        })?;
        let key = match &self.api_key {
            None => ApiKey::default(),
            Some(key) => ApiKey::new(key).ok_or(ConnectError::Key)?,
        };
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
            channel: InterceptedService::new(channel, key),
            sends_key_in_clear: self.api_key.is_some() && parsed.is_exposed(),
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

/// Refuses a file without a certificate. An empty list of trusted certificates would fail later, without naming the cause.
fn check_pem(pem: &[u8]) -> Result<(), ConnectError> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    if pem.windows(BEGIN.len()).any(|part| part == BEGIN) {
        return Ok(());
    }
    Err(ConnectError::Certificates {
        reason: "no certificate in PEM form is among those to be trusted".to_owned(),
    })
}
