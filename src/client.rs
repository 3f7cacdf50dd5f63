//! A thin typed client: a connection with sensible limits, the three services, and sessions.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::{
    DEFAULT_MAX_MESSAGE_BYTES,
    session::SessionBuilder,
    v1::{
        InferBatchCompositeRequest, InferBatchCompositeResponse, lip_sync_client::LipSyncClient,
        model_admin_client::ModelAdminClient, server_admin_client::ServerAdminClient,
    },
};

/// A connection to one server. Cloning is cheap and shares the connection.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not a URI.
    #[error("not a server address: {address:?} (expected for example http://127.0.0.1:50051)")]
    Address {
        /// What was given.
        address: String,
    },
    /// Nobody answered there.
    #[error("cannot connect to {address}")]
    Transport {
        /// What was given.
        address: String,
        /// What the transport says.
        source: tonic::transport::Error,
    },
}

impl Client {
    /// Connects to `http://host:port`; `host:port` is understood too.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        let uri = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let endpoint = Endpoint::from_shared(uri)
            .map_err(|_| ConnectError::Address {
                address: address.to_owned(),
            })?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true);
        let channel = endpoint
            .connect()
            .await
            .map_err(|source| ConnectError::Transport {
                address: address.to_owned(),
                source,
            })?;
        Ok(Self { channel })
    }

    /// Wraps an existing channel.
    #[must_use]
    pub fn from_channel(channel: Channel) -> Self {
        Self { channel }
    }

    /// The inference service, taking messages of up to [`DEFAULT_MAX_MESSAGE_BYTES`].
    #[must_use]
    pub fn lip_sync(&self) -> LipSyncClient<Channel> {
        LipSyncClient::new(self.channel.clone())
            .max_decoding_message_size(DEFAULT_MAX_MESSAGE_BYTES)
            .max_encoding_message_size(DEFAULT_MAX_MESSAGE_BYTES)
    }

    /// The model administration service.
    #[must_use]
    pub fn model_admin(&self) -> ModelAdminClient<Channel> {
        ModelAdminClient::new(self.channel.clone())
    }

    /// The server administration service.
    #[must_use]
    pub fn server_admin(&self) -> ServerAdminClient<Channel> {
        ServerAdminClient::new(self.channel.clone())
    }

    /// A live conversation with a model, to be described and opened.
    pub fn session(&self, model_id: &str) -> SessionBuilder {
        SessionBuilder::new(self.clone(), model_id)
    }

    /// One batch of composited frames.
    ///
    /// # Errors
    /// The server's status; the README lists the codes, and [`CallError`](crate::call_error::CallError)
    /// reads its details.
    pub async fn infer_batch_composite(
        &self,
        request: InferBatchCompositeRequest,
    ) -> Result<InferBatchCompositeResponse, tonic::Status> {
        Ok(self
            .lip_sync()
            .infer_batch_composite(request)
            .await?
            .into_inner())
    }
}
