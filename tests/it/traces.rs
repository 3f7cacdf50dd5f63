//! Traces, taken by a collector in this process.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use lipsync::{
    otlp::{
        collector::trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
        common::v1::{KeyValue, any_value::Value},
        trace::v1::Span,
    },
    v1,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataValue};

use crate::{
    stream::{Session, pcm_session},
    support::{
        FakeLoader, Http, PATIENCE, TestServer, avatar,
        speech::{babble, windows_request},
    },
};

#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let key = request.metadata().get("authorization");
        if key.is_none_or(|key| key != "Bearer abc") {
            return Err(Status::unauthenticated("no key"));
        }
        let of_resources = request.into_inner().resource_spans.into_iter();
        let of_scopes = of_resources.flat_map(|of| of.scope_spans);
        let spans = of_scopes.flat_map(|of| of.spans);
        if let Ok(mut seen) = self.0.lock() {
            seen.extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Begins to listen; gives its address.
    async fn listen(&self) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = TraceServiceServer::new(self.clone());
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Ok(format!("http://{address}"))
    }

    /// Spans by their names, once there is one of this name.
    async fn until(&self, name: &str) -> Result<BTreeMap<String, Span>> {
        let begun = Instant::now();
        loop {
            let spans = self.0.lock().ok().context("a poisoned lock")?.clone();
            if spans.iter().any(|span| span.name == name) {
                let named = spans.into_iter().map(|span| (span.name.clone(), span));
                return Ok(named.collect());
            }
            ensure!(begun.elapsed() < PATIENCE, "no {name} in {spans:?}");
            tokio::task::yield_now().await;
        }
    }
}

async fn server(folder: &Path, endpoint: &str, more: &str) -> Result<TestServer> {
    avatar::write_fake(&folder.join("a"), 4)?;
    let yaml = format!(
        "models: {{a: {{path: a, preload: true}}}}\ncapacity: {{bake: off}}\n\
         traces: {{endpoint: '{endpoint}', headers: 'authorization=Bearer abc'{more}}}\n"
    );
    TestServer::start(&yaml, folder, Arc::new(FakeLoader::default())).await
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    let is_it = |attribute: &&KeyValue| attribute.key == key;
    let found = span.attributes.iter().find(is_it)?;
    found.value.as_ref()?.value.as_ref()
}

fn word(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

/// They are parts of the call: in its trace, below it, and in its time.
fn check_parts(spans: &BTreeMap<String, Span>, root: &Span, parts: &[&str]) -> Result<()> {
    for part in parts {
        let span = spans.get(*part).with_context(|| format!("no {part}"))?;
        assert_eq!(span.trace_id, root.trace_id, "{part}");
        assert_eq!(span.parent_span_id, root.span_id, "{part}");
        let (from, to) = (span.start_time_unix_nano, span.end_time_unix_nano);
        assert!(root.start_time_unix_nano <= from && from <= to, "{part}");
        assert!(to <= root.end_time_unix_nano, "{part}");
    }
    Ok(())
}

#[tokio::test]
async fn a_call_tells_where_its_time_went() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let collector = Collector::default();
    // By chance, no call is traced; this client says that its is.
    let server = server(
        folder.path(),
        &collector.listen().await?,
        ", sample_ratio: 0",
    )
    .await?;
    let client = server.client().await?;
    client
        .infer_batch_composite(windows_request("a", &[7.0]))
        .await?;
    let mut request = Request::new(windows_request("a", &[7.0; 3]));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", MetadataValue::from_static(parent));
    metadata.insert("tracestate", MetadataValue::from_static("a=1"));
    metadata.insert("x-request-id", MetadataValue::from_static("mine"));
    client.lip_sync().infer_batch_composite(request).await?;
    let name = "lipsync.v1.LipSync/InferBatchComposite";
    let spans = collector.until(name).await?;
    let root = &spans[name];
    assert_eq!(root.trace_id[..4], [0x4b, 0xf9, 0x2f, 0x35]);
    assert_eq!(root.parent_span_id[6..], [0x02, 0xb7]);
    assert_eq!((root.kind, &*root.trace_state), (2, "a=1"));
    let parts = [
        "audio",
        "background",
        "queue",
        "infer",
        "composite",
        "write",
    ];
    check_parts(&spans, root, &parts)?;
    assert_eq!(spans.len(), 1 + parts.len(), "{:?}", spans.keys());
    for (key, value) in [
        ("rpc.method", word("InferBatchComposite")),
        ("lipsync.model", word("a")),
        ("lipsync.request_id", word("mine")),
        ("lipsync.outcome", word("ok")),
        ("lipsync.frames", Value::IntValue(3)),
    ] {
        assert_eq!(attribute(root, key), Some(&value), "{key}");
    }
    let metrics = Http::get(&server, "/metrics").await?;
    let line = "lipsync_trace_spans_total{outcome=\"dropped\"} 0";
    assert!(metrics.text().contains(line));
    Ok(())
}

#[tokio::test]
async fn a_session_has_its_segments() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let collector = Collector::default();
    let server = server(folder.path(), &collector.listen().await?, "").await?;
    let client = server.client().await?;
    let mut session = Session::over(&client, pcm_session("a")).await?;
    let samples = babble(1, 640 * 5);
    session.audio(1, &samples);
    session.end(1);
    session.half_close();
    session.rest().await?;
    let name = "lipsync.v1.LipSync/StreamComposite";
    let spans = collector.until(name).await?;
    check_parts(&spans, &spans[name], &["segment"])?;
    let segment = &spans["segment"];
    assert_eq!(
        attribute(segment, "lipsync.segment_id"),
        Some(&Value::IntValue(1))
    );
    assert_eq!(
        attribute(segment, "lipsync.frames"),
        Some(&Value::IntValue(5))
    );
    assert!(attribute(segment, "lipsync.first_frame_ms").is_some());
    Ok(())
}

/// What is told at the end arrives, though the server stops.
#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let collector = Collector::default();
    let server = server(folder.path(), &collector.listen().await?, "").await?;
    let unknown = server
        .client()
        .await?
        .infer_batch_composite(v1::InferBatchCompositeRequest::default())
        .await;
    assert!(unknown.is_err());
    server.shut_down().await;
    let spans = collector.0.lock().ok().context("a poisoned lock")?.clone();
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(
        attribute(&spans[0], "lipsync.outcome"),
        Some(&word("invalid"))
    );
    Ok(())
}
