//! The page's files, inside the binary: nothing is built, read from disk or fetched at run time.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::LazyLock,
};

use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
};

/// One file.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! page {
    ($path:literal, $file:literal, $content_type:expr) => {
        Asset {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../page/", $file)),
        }
    };
}

/// A module of the JavaScript client: the page runs the very files of the package.
macro_rules! client {
    ($name:literal) => {
        Asset {
            path: concat!("/client/", $name),
            content_type: SCRIPT,
            bytes: include_bytes!(concat!("../../../../clients/js/src/", $name)),
        }
    };
}

macro_rules! sample {
    ($name:literal, $content_type:expr) => {
        Asset {
            path: concat!("/samples/", $name),
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../../../assets/speech/", $name)),
        }
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const WAV: &str = "audio/wav";
const MP3: &str = "audio/mpeg";

static ASSETS: &[Asset] = &[
    page!("/", "index.html", HTML),
    page!("/style.css", "style.css", CSS),
    page!("/dashboard.css", "dashboard.css", CSS),
    page!("/icon.svg", "icon.svg", SVG),
    page!("/chart.js", "chart.js", SCRIPT),
    page!("/clip.js", "clip.js", SCRIPT),
    page!("/dashboard.js", "dashboard.js", SCRIPT),
    page!("/dom.js", "dom.js", SCRIPT),
    page!("/figures.js", "figures.js", SCRIPT),
    page!("/key.js", "key.js", SCRIPT),
    page!("/latency.js", "latency.js", SCRIPT),
    page!("/listener.js", "listener.js", SCRIPT),
    page!("/main.js", "main.js", SCRIPT),
    page!("/panel.js", "panel.js", SCRIPT),
    page!("/past.js", "past.js", SCRIPT),
    page!("/samples.js", "samples.js", SCRIPT),
    page!("/speech.js", "speech.js", SCRIPT),
    page!("/tables.js", "tables.js", SCRIPT),
    page!("/words.js", "words.js", SCRIPT),
    client!("index.js"),
    client!("protocol.js"),
    client!("address.js"),
    client!("session.js"),
    client!("ledger.js"),
    client!("spoken.js"),
    client!("watch.js"),
    client!("key.js"),
    client!("refusal.js"),
    client!("backgrounds.js"),
    client!("player.js"),
    client!("voice.js"),
    client!("microphone.js"),
    client!("capture.js"),
    client!("recorder.js"),
    client!("mark.js"),
    sample!("welcome.wav", WAV),
    sample!("umbrella.wav", WAV),
    sample!("lips.wav", WAV),
    sample!("tomo-welcome.mp3", MP3),
    sample!("tomo-umbrella.mp3", MP3),
    sample!("tomo-lips.mp3", MP3),
];

/// Changes whenever a file does.
static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| ASSETS.iter().map(tag).collect());

fn tag(asset: &Asset) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    asset.bytes.hash(&mut hasher);
    HeaderValue::from_str(&format!("\"{:016x}\"", hasher.finish()))
        .unwrap_or(HeaderValue::from_static("\"\""))
}

/// The file of this path. Browsers ask every time whether theirs is still good: after an update of
/// the server no page is a mixture of two versions.
pub(super) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let found = ASSETS
        .iter()
        .zip(&*TAGS)
        .find(|(a, _)| a.path == uri.path());
    let Some((asset, tag)) = found else {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    };
    let is_known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|known| known.to_str().ok())
        .zip(tag.to_str().ok())
        .is_some_and(|(known, tag)| {
            known
                .split(',')
                .any(|k| k.trim().trim_start_matches("W/") == tag)
        });
    let (status, body) = if is_known {
        (StatusCode::NOT_MODIFIED, Body::empty())
    } else {
        (StatusCode::OK, Body::from(Bytes::from_static(asset.bytes)))
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(asset.content_type),
    );
    response
}
