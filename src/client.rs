//! A thin typed client: a connection with sensible limits, the three services, and sessions.

mod address;
mod error;
mod key;
mod options;

use std::time::Duration;

use tonic::{
    Request,
    metadata::{AsciiMetadataValue, MetadataMap},
    service::interceptor::InterceptedService,
    transport::Channel,
};

pub use self::{error::ConnectError, key::ApiKey, options::ConnectOptions};
use crate::{
    DEFAULT_MAX_MESSAGE_BYTES,
    call_error::in_plain_words,
    session::SessionBuilder,
    v1::{
        InferBatchCompositeRequest, InferBatchCompositeResponse, lip_sync_client::LipSyncClient,
        model_admin_client::ModelAdminClient, server_admin_client::ServerAdminClient,
    },
};

/// A connection on which every call carries the key, if there is one.
pub type KeyedChannel = InterceptedService<Channel, ApiKey>;
const MODEL_ID: &str = "x-model-id";

/// A connection to one server. Cloning is cheap and shares the connection.
#[derive(Debug, Clone)]
pub struct Client {
    channel: KeyedChannel,
    sends_key_in_clear: bool,
    pub(crate) answer_timeout: Duration,
}

impl Client {
    /// Default time limit for an answer to begin; [`ConnectOptions`] can change it.
    pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

    /// Connects with the default [`ConnectOptions`]: with TLS to `https://host:port`, without to
    /// `http://host:port` or `host:port`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        ConnectOptions::default().connect(address).await
    }

    /// Wraps an existing channel.
    #[must_use]
    pub fn from_channel(channel: Channel) -> Self {
        Self {
            channel: InterceptedService::new(channel, ApiKey::default()),
            sends_key_in_clear: false,
            answer_timeout: Self::ANSWER_TIMEOUT,
        }
    }

    /// Whether a key is sent without TLS to another machine, where anybody on the way can read it. Programs should warn
    /// of that.
    #[must_use]
    pub fn sends_key_in_clear(&self) -> bool {
        self.sends_key_in_clear
    }

    /// The inference service, for messages of up to [`DEFAULT_MAX_MESSAGE_BYTES`].
    #[must_use]
    pub fn lip_sync(&self) -> LipSyncClient<KeyedChannel> {
        LipSyncClient::new(self.channel.clone())
            .max_decoding_message_size(DEFAULT_MAX_MESSAGE_BYTES)
            .max_encoding_message_size(DEFAULT_MAX_MESSAGE_BYTES)
    }

    /// The model administration service.
    #[must_use]
    pub fn model_admin(&self) -> ModelAdminClient<KeyedChannel> {
        ModelAdminClient::new(self.channel.clone())
    }

    /// The server administration service.
    #[must_use]
    pub fn server_admin(&self) -> ServerAdminClient<KeyedChannel> {
        ServerAdminClient::new(self.channel.clone())
    }

    /// A live session with a model, to be configured and opened.
    pub fn session(&self, model_id: &str) -> SessionBuilder {
        SessionBuilder::new(self.clone(), model_id)
    }

    /// One batch of composited frames.
    ///
    /// # Errors
    /// The server's status. `docs/clients.md` lists the codes, and
    /// [`CallError`](crate::call_error::CallError) reads the details.
    pub async fn infer_batch_composite(
        &self,
        request: InferBatchCompositeRequest,
    ) -> Result<InferBatchCompositeResponse, tonic::Status> {
        let mut request = Request::new(request);
        let model_id = request.get_ref().model_id.clone();
        name_model(request.metadata_mut(), &model_id);
        match self.lip_sync().infer_batch_composite(request).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(in_plain_words(status)),
        }
    }
}

/// Names the model in `x-model-id`, by which a proxy can choose the server that has it in memory. What the program
/// itself wrote there stays.
pub(crate) fn name_model(metadata: &mut MetadataMap, model_id: &str) {
    // An id that is no header is refused by the server.
    if !metadata.contains_key(MODEL_ID)
        && let Ok(value) = AsciiMetadataValue::try_from(model_id)
    {
        metadata.insert(MODEL_ID, value);
    }
}
