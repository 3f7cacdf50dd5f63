//! Sends spans to the collector, in batches.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Uri, header};
use lipsync::otlp::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_client::TraceServiceClient,
    },
    common::v1::{InstrumentationScope, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use lipsync_core::saturate::u64_of;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout_at},
};
use tonic::{
    Code, Request, Status,
    metadata::MetadataMap,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::{
    attributes::attribute,
    outbox::{Item, SpanFigures},
};
use crate::config::Traces;

/// Spans of one batch.
const BATCH: usize = 512;
/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// Tries of one batch, and the pause before the second one; each is twice the one before.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Spans that wait for the collector.
#[derive(Debug)]
pub(crate) struct Spans {
    settings: Traces,
    queue: mpsc::Receiver<Item>,
    figures: Arc<SpanFigures>,
}

/// Sends what is queued until all senders are gone.
pub(crate) async fn keep_exporting(mut spans: Spans) {
    let client = match spans.client() {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "traces cannot be sent");
            // They are counted as they come.
            while let Some(item) = spans.queue.recv().await {
                if matches!(item, Item::Span(_)) {
                    spans.figures.failed.inc();
                }
            }
            return;
        }
    };
    let resource = spans.resource();
    while let Some(batch) = spans.gather().await {
        let n = u64_of(batch.spans.len());
        if n > 0 {
            let request = request(batch.spans, &resource);
            match spans.send(&client, request).await {
                Ok(n_refused) => {
                    spans.figures.exported.add(n.saturating_sub(n_refused));
                    spans.figures.failed.add(n_refused.min(n));
                }
                Err(status) => {
                    spans.figures.failed.add(n);
                    let (code, message) = (status.code(), status.message());
                    tracing::warn!(
                        spans = n,
                        ?code,
                        message,
                        "the collector has not taken traces"
                    );
                }
            }
        }
        for waiting in batch.waiting {
            // Who has left needs no answer.
            let _ = waiting.send(());
        }
    }
}

/// What is sent at once, and who waits for it.
#[derive(Default)]
struct Batch {
    spans: Vec<Span>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn take(&mut self, item: Item) {
        match item {
            Item::Span(span) => self.spans.push(*span),
            Item::Flush(waiting) => self.waiting.push(waiting),
        }
    }

    fn is_due(&self) -> bool {
        self.spans.len() >= BATCH || !self.waiting.is_empty()
    }
}

impl Spans {
    pub(super) fn new(
        settings: Traces,
        queue: mpsc::Receiver<Item>,
        figures: Arc<SpanFigures>,
    ) -> Self {
        Self {
            settings,
            queue,
            figures,
        }
    }

    /// Connects when there is something to send, and again whenever that is necessary.
    fn client(&self) -> Result<TraceServiceClient<Channel>, tonic::transport::Error> {
        let endpoint: &Uri = &self.settings.endpoint;
        let mut to = Endpoint::from(endpoint.clone())
            .connect_timeout(self.settings.timeout)
            .timeout(self.settings.timeout);
        if endpoint.scheme_str() == Some("https") {
            to = to.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        Ok(TraceServiceClient::new(to.connect_lazy()))
    }

    /// What this server is called.
    fn resource(&self) -> Resource {
        let word = |key, word: &str| attribute(key, Value::StringValue(word.to_owned()));
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Resource {
            attributes: vec![
                word("service.name", &self.settings.service_name),
                word("service.version", env!("CARGO_PKG_VERSION")),
                word("host.name", host.trim()),
                attribute("process.pid", Value::IntValue(std::process::id().into())),
            ],
            ..Resource::default()
        }
    }

    /// The next batch: what comes within a moment, or as many as fit. `None` when there will be no more.
    async fn gather(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        batch.take(self.queue.recv().await?);
        let until = tokio::time::Instant::now() + GATHER;
        while !batch.is_due() {
            match timeout_at(until, self.queue.recv()).await {
                Ok(Some(item)) => batch.take(item),
                Ok(None) | Err(_) => break,
            }
        }
        Some(batch)
    }

    /// Tries a few times; how many of the spans the collector has refused.
    async fn send(
        &self,
        client: &TraceServiceClient<Channel>,
        spans: ExportTraceServiceRequest,
    ) -> Result<u64, Status> {
        let mut pause = FIRST_PAUSE;
        for n_left in (0..TRIES).rev() {
            let mut request = Request::new(spans.clone());
            *request.metadata_mut() = MetadataMap::from_headers(self.headers());
            match client.clone().export(request).await {
                Ok(answer) => return Ok(refused(&answer.into_inner())),
                Err(status) if n_left == 0 || !is_worth_repeating(status.code()) => {
                    return Err(status);
                }
                Err(_) => {}
            }
            sleep(pause).await;
            pause *= 2;
        }
        Err(Status::unavailable("it was tried too often"))
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = self.settings.headers.clone();
        // Those of the transport are its own.
        for name in [
            header::HOST,
            header::CONTENT_TYPE,
            header::TE,
            HeaderName::from_static("grpc-timeout"),
        ] {
            headers.remove::<HeaderName>(name);
        }
        headers
    }
}

fn request(spans: Vec<Span>, resource: &Resource) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "lipsync-server".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

/// Spans that a collector takes the batch without.
fn refused(answer: &ExportTraceServiceResponse) -> u64 {
    let Some(partial) = &answer.partial_success else {
        return 0;
    };
    if partial.rejected_spans > 0 {
        let (spans, reason) = (
            partial.rejected_spans,
            lipsync_core::Foreign(&partial.error_message),
        );
        tracing::warn!(spans, %reason, "the collector has refused some traces");
    }
    u64::try_from(partial.rejected_spans).unwrap_or(0)
}

/// As the protocol says.
fn is_worth_repeating(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    )
}
