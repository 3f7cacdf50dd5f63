//! The page: its files, and the backgrounds that it fetches.

use anyhow::Result;
use lipsync::v1;

use super::fake_server;
use crate::support::Http;

#[tokio::test]
async fn the_page_and_all_that_it_names_is_served() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let page = Http::get(&server, "/").await?;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"));
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    for inline in ["<script>", "style=", " onclick", "http://", "https://"] {
        assert!(!page.text().contains(inline), "{inline}");
    }
    let mut wanted = vec!["/".to_owned()];
    let mut n_seen = 0;
    while let Some(path) = wanted.get(n_seen).cloned() {
        n_seen += 1;
        let file = Http::get(&server, &path).await?;
        assert_eq!(file.status, 200, "{path}");
        assert!(!file.body.is_empty() && !file.header("content-type").is_empty());
        let known = format!("if-none-match: {}\r\n", file.header("etag"));
        let again = Http::request(&server, &format!("GET {path}"), &known).await?;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        for found in names(&path, file.text()) {
            if !wanted.contains(&found) {
                wanted.push(found);
            }
        }
    }
    for part in [
        "/main.js",
        "/client/protocol.js",
        "/client/capture.js",
        "/style.css",
        "/samples/lips.wav",
        "/samples/tomo-lips.mp3",
        "/chart.js",
    ] {
        assert!(wanted.iter().any(|w| w == part), "{part} in {wanted:?}");
    }
    assert_eq!(Http::get(&server, "/../config.yaml").await?.status, 404);
    assert_eq!(Http::get(&server, "/nothing").await?.status, 404);
    let post = Http::request(&server, "POST /api/stats", "content-length: 0\r\n").await?;
    assert_eq!(post.status, 405);
    Ok(())
}

/// The files that the text at this path names in quotes.
fn names(path: &str, text: &str) -> Vec<String> {
    let here = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let of_ours = |part: &&str| {
        [".js", ".css", ".svg", ".wav", ".mp3"]
            .iter()
            .any(|e| part.ends_with(e))
            && !part.contains([' ', '$'])
    };
    let quoted = text.split('"').filter(of_ours);
    quoted
        .map(|name| {
            let name = name.trim_start_matches("./");
            if name.ends_with(".wav") || name.ends_with(".mp3") {
                format!("/samples/{name}")
            } else {
                format!("{here}/{name}")
            }
        })
        .collect()
}

#[tokio::test]
async fn a_page_fetches_backgrounds() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let path = "/api/models/a/backgrounds/";
    let first = Http::get(&server, &format!("{path}0")).await?;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.header("content-type"), "image/jpeg");
    let wanted = v1::GetBackgroundRequest {
        model_id: "a".into(),
        background_indices: vec![0],
        output: None,
    };
    let mut client = server.client().await?.lip_sync();
    let wire = client.get_background(wanted).await?.into_inner();
    assert!(
        first.body == wire.frames[0].data,
        "the contract's very bytes"
    );
    let n_frames: u32 = first.header("x-background-frames").parse()?;
    assert_eq!(n_frames, wire.n_background_frames);
    for (path, status, text) in [
        (
            format!("{path}{n_frames}"),
            400,
            "INVALID_ARGUMENT: background_indices: ",
        ),
        (
            format!("{path}first"),
            400,
            "INVALID_ARGUMENT: background_indices: ",
        ),
        (
            format!("{path}-1"),
            400,
            "INVALID_ARGUMENT: background_indices: ",
        ),
        (
            "/api/models/nobody/backgrounds/0".to_owned(),
            404,
            "NOT_FOUND: ",
        ),
        (
            "/api/models/%2e%2e/backgrounds/0".to_owned(),
            400,
            "INVALID_ARGUMENT: model_id: ",
        ),
    ] {
        let refused = Http::get(&server, &path).await?;
        assert_eq!(refused.status, status, "{path}: {}", refused.text());
        assert!(
            refused.text().starts_with(text),
            "{path}: {}",
            refused.text()
        );
    }
    Ok(())
}
