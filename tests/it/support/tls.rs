//! TLS in front of a server: what a proxy does that ends it.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

/// The authority of the tests.
pub const CA: &[u8] = include_bytes!("../../data/tls/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("../../data/tls/server.pem");
const KEY: &[u8] = include_bytes!("../../data/tls/server-key.pem");

/// Listens for TLS and passes what comes to `server`, a `host:port`; gives its port. `alpn`: what it offers.
pub async fn in_front_of(server: String, alpn: &[&str]) -> Result<u16> {
    let chain = CertificateDer::pem_slice_iter(CERTIFICATE).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(KEY)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate of the tests")?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let mut inside = TcpStream::connect(&server).await?;
                // A peer that does not speak TLS, or does not trust us, is left.
                let mut outside = acceptor.accept(socket).await?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    Ok(port)
}
