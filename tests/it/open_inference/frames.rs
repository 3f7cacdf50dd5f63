//! Frames and the outputs beside them, raw and as lists.

use anyhow::{Context as _, Result};
use bytes::{Buf as _, Bytes};
use lipsync::inference::{
    self as oip, infer_parameter::ParameterChoice, model_infer_request::InferRequestedOutputTensor,
};

use super::{
    client, fake_server, is_final, output, pictures, request, set, streamed, text, windows,
};
use crate::support::{
    TestServer,
    speech::{babble, pcm_request, to_bytes},
};

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_give_the_same_frames() -> Result<()> {
    let server = TestServer::mira().await?;
    let mut client = client(&server).await?;
    let samples = babble(1, 16_000);
    let expected = server
        .client()
        .await?
        .infer_batch_composite(pcm_request("mira", &samples))
        .await?;
    let n = i64::try_from(samples.len())?;
    let whole = request("mira", ("PCM", "INT16", &[n]), to_bytes(&samples));
    let answer = client.model_infer(whole.clone()).await?.into_inner();
    let frames = expected.frames.iter().map(|f| f.data.clone());
    let frames: Vec<Bytes> = frames.collect();
    assert_eq!(pictures(&answer)?, frames);
    assert_eq!(
        (answer.id.as_str(), answer.model_version.as_str()),
        ("a request", "1")
    );
    let mut times = output(&answer, "AUDIO_TIME_US")?;
    for frame in &expected.frames {
        assert_eq!(Some(times.get_u64_le()), frame.audio_time_us);
    }
    let mut regions = output(&answer, "REGION")?;
    for frame in &expected.frames {
        let region = frame.region.context("a region")?;
        let found = [0; 4].map(|_| regions.get_u32_le());
        assert_eq!(found, [region.x, region.y, region.width, region.height]);
    }

    // In pieces, as they are made.
    let mut pieces = whole;
    pieces.model_version = "2".into();
    set(
        &mut pieces,
        "triton_enable_empty_final_response",
        ParameterChoice::BoolParam(true),
    );
    let responses = streamed(&mut client, vec![pieces]).await?;
    let responses = responses
        .into_iter()
        .map(|r| r.infer_response.context("a response"));
    let responses = responses.collect::<Result<Vec<_>>>()?;
    let (last, made) = responses.split_last().context("responses")?;
    assert!(last.outputs.is_empty() && is_final(last));
    assert_eq!(made.len(), frames.len().div_ceil(8));
    assert!(made.iter().all(|r| !is_final(r) && r.id == "a request"));
    let times = made.iter().map(|r| output(r, "AUDIO_TIME_US"));
    let times = times.collect::<Result<Vec<_>>>()?.concat();
    assert_eq!(times, output(&answer, "AUDIO_TIME_US")?);
    let made = made.iter().map(pictures).collect::<Result<Vec<_>>>()?;
    assert_eq!(made.concat(), frames);
    Ok(())
}

#[tokio::test]
async fn windows_come_raw_or_as_lists_and_outputs_can_be_chosen() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    let mut raw = windows("a", &[10.0, 20.0, 30.0]);
    set(&mut raw, "format", text("png"));
    set(
        &mut raw,
        "start_frame_index",
        ParameterChoice::Int64Param(3),
    );
    let output_named = |name: &str| InferRequestedOutputTensor {
        name: name.into(),
        ..Default::default()
    };
    raw.outputs = ["BACKGROUND_INDEX", "FRAMES"].map(output_named).to_vec();
    let answer = client.model_infer(raw.clone()).await?.into_inner();
    let shapes: Vec<_> = answer
        .outputs
        .iter()
        .map(|o| (o.name.as_str(), o.shape.as_slice()))
        .collect();
    assert_eq!(
        shapes,
        [("BACKGROUND_INDEX", &[3_i64][..]), ("FRAMES", &[3])]
    );
    let mut backgrounds = output(&answer, "BACKGROUND_INDEX")?;
    assert_eq!([0; 3].map(|_| backgrounds.get_u32_le()), [4, 3, 2]);
    for (picture, mouth) in pictures(&answer)?.iter().zip([10, 20, 30]) {
        let picture = image::load_from_memory(picture)?.to_rgb8();
        assert_eq!(picture.get_pixel(40, 30)[0], mouth);
    }

    // Two steps are 1,024 numbers: few enough for a list.
    let steps = vec![0.5_f32; 2 * 512];
    let mut listed = request("a", ("STEPS", "FP32", &[2, 512]), Bytes::new());
    listed.raw_input_contents.clear();
    listed.inputs[0].contents = Some(oip::InferTensorContents {
        fp32_contents: steps.clone(),
        ..Default::default()
    });
    let data = steps.iter().flat_map(|f| f.to_le_bytes()).collect();
    let raw = request("a", ("STEPS", "FP32", &[1, 2, 512]), data);
    let [listed, raw] = [listed, raw].map(|request| {
        let mut client = client.clone();
        async move { client.model_infer(request).await }
    });
    let (listed, raw) = (listed.await?.into_inner(), raw.await?.into_inner());
    assert_eq!(pictures(&listed)?, pictures(&raw)?);
    assert!(!pictures(&raw)?.is_empty());
    Ok(())
}
