//! Frames without the network: the backgrounds themselves.

use std::sync::Arc;

use anyhow::Result;
use lipsync_compositor::Encoding;
use lipsync_core::ModelId;
use lipsync_serving::order::OutputSpec;

use crate::support::{FakeLoader, TestServer, avatar};

#[tokio::test]
async fn idle_frames_are_the_backgrounds() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let loader = Arc::new(FakeLoader::default());
    let server = TestServer::start("models: {a: {path: a}}", folder.path(), loader).await?;
    let shared = server.running().shared();
    let model = shared.registry.model(&ModelId::new("a")?).await?.model;
    let frames = async |region_only| {
        let output = OutputSpec {
            encoding: Encoding::Rgb,
            region_only,
            is_marked: true,
        };
        shared.pipeline.idle_frames(&model, 1, 4, output).await
    };
    let (whole, regions) = (frames(false).await?, frames(true).await?);
    let indices: Vec<u32> = whole.iter().map(|f| f.background_index).collect();
    assert_eq!(indices, [2, 1, 0, 1]);
    for (n, (frame, region)) in (1..).zip(whole.iter().zip(&regions)) {
        assert_eq!((frame.frame_index, region.frame_index), (n, n));
        assert!(!frame.generated && !region.generated);
        let (width, height) = avatar::SIZE;
        assert_eq!(
            (frame.width, frame.height),
            (width as usize, height as usize)
        );
        let file = format!("a/frames/frame_{:04}.png", frame.background_index);
        let picture = image::open(folder.path().join(file))?.to_rgb8();
        assert_eq!(frame.data, picture.as_raw().as_slice());
        let rect = region.region;
        let px = u32::try_from;
        let (x, y, width, height) = (px(rect.x)?, px(rect.y)?, px(rect.width)?, px(rect.height)?);
        let face = image::imageops::crop_imm(&picture, x, y, width, height);
        assert_eq!(region.data, face.to_image().as_raw().as_slice());
        assert_eq!((region.width, region.height), (rect.width, rect.height));
    }
    Ok(())
}
