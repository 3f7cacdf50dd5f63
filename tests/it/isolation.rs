//! Many clients at once get exactly the frames that each gets alone.

use std::collections::BTreeSet;

use anyhow::Result;
use lipsync::{client::Client, v1};
use lipsync_core::AudioKind;
use lipsync_engine::network_writer::{Unet, write_audio_encoder};

use crate::support::{
    TestServer, avatar,
    server::repository,
    speech::{babble, pcm_request},
};

/// Mira, and a second model of the 160-pixel family with few channels and seeded weights.
async fn two_models(folder: &std::path::Path) -> Result<TestServer> {
    let yaml = write_models(folder)?;
    TestServer::start_real(&yaml, folder).await
}

/// Writes the second model, and gives the configuration of both.
fn write_models(folder: &std::path::Path) -> Result<String> {
    let mut unet = Unet::new(160, AudioKind::Ave);
    unet.channels = [8, 8, 16, 16, 32];
    let encoder = write_audio_encoder(32, 13, false, 7);
    avatar::write(&folder.join("tomo"), 5, &unet.write(), &encoder)?;
    let mira = repository().join("assets/avatars/mira");
    Ok(format!(
        "capacity: {{bake: off}}\nmodels:\n  mira: {{path: {}}}\n  tomo: {{path: tomo}}\n",
        mira.display()
    ))
}

fn request(client: u32) -> v1::InferBatchCompositeRequest {
    let model = if client.is_multiple_of(2) {
        "mira"
    } else {
        "tomo"
    };
    let n_frames = 3 + usize::try_from(client % 5).unwrap_or(0);
    let mut request = pcm_request(model, &babble(client, 640 * n_frames));
    request.start_frame_index = u64::from(client) * 3;
    request
}

async fn frames(client: &Client, n: u32) -> Result<Vec<v1::CompositedFrame>> {
    Ok(client.infer_batch_composite(request(n)).await?.frames)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_concurrent_clients_on_two_models() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = two_models(folder.path()).await?;
    let client = server.client().await?;
    let mut alone = Vec::new();
    for n in 0..16 {
        alone.push(frames(&client, n).await?);
    }
    let different: BTreeSet<_> = alone.iter().map(|f| f[0].data.clone()).collect();
    assert_eq!(
        different.len(),
        16,
        "different audio gives different frames"
    );
    for _round in 0..2 {
        let mut together = tokio::task::JoinSet::new();
        for n in 0..16 {
            let client = server.client().await?;
            together.spawn(async move { anyhow::Ok((n, frames(&client, n).await?)) });
        }
        while let Some(answer) = together.join_next().await {
            let (n, frames) = answer??;
            let expected = &alone[usize::try_from(n)?];
            assert!(
                frames == *expected,
                "client {n} got other frames than alone"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_the_same_alone_and_in_any_batch() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = two_models(folder.path()).await?;
    let client = server.client().await?;
    let samples = babble(3, 640 * 8);
    let whole = client
        .infer_batch_composite(pcm_request("tomo", &samples))
        .await?;
    for (n, expected) in (0..).zip(&whole.frames) {
        let mut one = pcm_request("tomo", &samples);
        one.frame_count = 1;
        one.start_frame_index = u64::from(n);
        if let Some(v1::infer_batch_composite_request::Audio::Pcm(pcm)) = &mut one.audio {
            pcm.first_frame = n;
        }
        let answer = client.infer_batch_composite(one).await?;
        assert!(answer.frames[0].data == expected.data, "frame {n}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_visual_cache_changes_no_frame_and_tells_its_hits() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = write_models(folder.path())?;
    let cached = TestServer::start_cached(&yaml, folder.path(), 64 << 20).await?;
    let uncached = TestServer::start_cached(&yaml, folder.path(), 0).await?;
    for n in [1, 2, 1, 2] {
        let expected = frames(&uncached.client().await?, n).await?;
        let found = frames(&cached.client().await?, n).await?;
        assert!(found == expected, "client {n} got other frames");
    }
    let stats = cached.stats().await?.visual_cache.unwrap_or_default();
    assert_eq!(stats.capacity_bytes, 64 << 20);
    // The second time, the four frames of client 1 and the five of client 2 are there.
    assert!(stats.hits >= 9, "{stats:?}");
    assert!(stats.resident_frames > 0 && stats.resident_bytes > 0);
    assert!(stats.resident_bytes <= stats.capacity_bytes);
    let off = uncached.stats().await?.visual_cache.unwrap_or_default();
    assert_eq!(off, v1::VisualCacheStats::default());
    Ok(())
}
