//! The Open Inference Protocol: the same frames, the same gate, and what its clients expect.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::{Buf as _, Bytes};
use lipsync::{
    inference::{
        self as oip, InferParameter, ModelInferRequest, ModelInferResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
    v1,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, transport::Channel};

use crate::support::{
    FakeLoader, HeldGate, PATIENCE, TestServer, avatar,
    speech::{babble, pcm_request, to_bytes, windows_request},
};

type Client = GrpcInferenceServiceClient<Channel>;

async fn fake_server(folder: &Path) -> Result<(TestServer, Client)> {
    avatar::write_fake(&folder.join("a"), 5)?;
    let yaml = "models: {a: {path: a}, broken: {path: nothing}}";
    let server = TestServer::start(yaml, folder, Arc::new(FakeLoader::default())).await?;
    let client = client(&server).await?;
    Ok((server, client))
}

async fn client(server: &TestServer) -> Result<Client> {
    Ok(Client::connect(format!("http://{}", server.address()))
        .await?
        .max_decoding_message_size(64 << 20))
}

/// A request of one tensor.
fn request(model: &str, input: (&str, &str, &[i64]), data: Bytes) -> ModelInferRequest {
    let (name, datatype, shape) = input;
    ModelInferRequest {
        model_name: model.into(),
        id: "a request".into(),
        inputs: vec![InferInputTensor {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.to_vec(),
            ..Default::default()
        }],
        raw_input_contents: vec![data],
        ..Default::default()
    }
}

/// One of whole windows, as [`windows_request`] makes them.
fn windows(model: &str, values: &[f32]) -> ModelInferRequest {
    let Some(v1::infer_batch_composite_request::Audio::Windows(v1::FeatureWindows { data })) =
        windows_request(model, values).audio
    else {
        unreachable!("a request of windows");
    };
    let n = i64::try_from(values.len()).expect("few windows");
    request(model, ("WINDOWS", "FP32", &[n, 32, 16, 16]), data)
}

fn set(request: &mut ModelInferRequest, name: &str, choice: ParameterChoice) {
    let parameter_choice = Some(choice);
    request
        .parameters
        .insert(name.into(), InferParameter { parameter_choice });
}

fn text(value: &str) -> ParameterChoice {
    ParameterChoice::StringParam(value.into())
}

/// The contents of an output.
fn output(response: &ModelInferResponse, name: &str) -> Result<Bytes> {
    let place = response.outputs.iter().position(|o| o.name == name);
    let place = place.with_context(|| format!("no {name}"))?;
    Ok(response.raw_output_contents[place].clone())
}

/// The elements of `FRAMES`.
fn pictures(response: &ModelInferResponse) -> Result<Vec<Bytes>> {
    let mut data = output(response, "FRAMES")?;
    let mut pictures = Vec::new();
    while data.has_remaining() {
        let n_bytes = usize::try_from(data.get_u32_le())?;
        pictures.push(data.split_to(n_bytes));
    }
    Ok(pictures)
}

fn is_final(response: &ModelInferResponse) -> bool {
    let flag = response.parameters.get("triton_final_response");
    flag.is_some_and(|p| p.parameter_choice == Some(ParameterChoice::BoolParam(true)))
}

/// The responses to some requests, until the server ends the stream.
async fn streamed(
    client: &mut Client,
    requests: Vec<ModelInferRequest>,
) -> Result<Vec<oip::ModelStreamInferResponse>> {
    let answers = client
        .model_stream_infer(tokio_stream::iter(requests))
        .await?;
    let mut answers = answers.into_inner();
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await? {
        all.push(answer);
    }
    Ok(all)
}

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

type Cases = Vec<(ModelInferRequest, &'static str)>;

fn wrong_requests() -> Cases {
    let with = |change: &dyn Fn(&mut ModelInferRequest)| {
        let mut request = windows("a", &[1.0]);
        change(&mut request);
        request
    };
    vec![
        (with(&|r| r.model_name = "b/../c".into()), "model_name"),
        (
            with(&|r| r.model_version = "7".into()),
            "model_version: expected 1, 2",
        ),
        (
            with(&|r| r.model_version = "2".into()),
            "use ModelStreamInfer",
        ),
        (
            with(&|r| r.inputs[0].contents = Some(oip::InferTensorContents::default())),
            "found both",
        ),
        (
            with(&|r| r.raw_input_contents.push(Bytes::new())),
            "raw_input_contents: expected 1",
        ),
        (
            with(&|r| {
                r.outputs = vec![InferRequestedOutputTensor {
                    name: "MOUTH".into(),
                    parameters: HashMap::new(),
                }]
            }),
            "expected FRAMES",
        ),
    ]
}

fn wrong_tensors() -> Cases {
    let with = |change: &dyn Fn(&mut ModelInferRequest)| {
        let mut request = windows("a", &[1.0]);
        change(&mut request);
        request
    };
    vec![
        (
            with(&|r| r.inputs.clear()),
            "expected one of PCM, STEPS and WINDOWS, found 0",
        ),
        (
            with(&|r| r.inputs.push(r.inputs[0].clone())),
            "found 2 tensors",
        ),
        (
            with(&|r| r.inputs[0].name = "AUDIO\n".into()),
            "AUDIO\\n: unknown",
        ),
        (
            with(&|r| r.inputs[0].datatype = "FP16".into()),
            "expected datatype FP32, found \"FP16\"",
        ),
        (
            with(&|r| r.inputs[0].shape = vec![1, 32, 16]),
            "expected shape [n, 32, 16, 16], found [1, 32, 16]",
        ),
        (with(&|r| r.inputs[0].shape[0] = -1), "not negative"),
        (
            with(&|r| r.inputs[0].shape[0] = i64::MAX),
            "their product fits 64 bits",
        ),
        (
            with(&|r| r.inputs[0].shape[0] = 0),
            "make 0 bytes (at least one element)",
        ),
        (
            with(&|r| r.inputs[0].shape[0] = 2),
            "make 65536 bytes (at least one element), found 32768",
        ),
    ]
}

fn wrong_parameters() -> Cases {
    let parameter = |name: &str, choice: ParameterChoice| {
        let mut request = windows("a", &[1.0]);
        set(&mut request, name, choice);
        request
    };
    vec![
        (
            parameter("format", text("webp")),
            "i420_limited_bt709, found \"webp\"",
        ),
        (
            parameter("quality", ParameterChoice::Int64Param(850)),
            "from 1 to 100, found 850",
        ),
        (
            parameter("frame_count", ParameterChoice::DoubleParam(1.5)),
            "found 1.5",
        ),
        (
            parameter("frame_count", ParameterChoice::Int64Param(65)),
            "found 65",
        ),
        (
            parameter("priority", ParameterChoice::Uint64Param(9)),
            "from 0 to 3, found 9",
        ),
        (
            parameter("sequence_id", ParameterChoice::Uint64Param(9)),
            "unknown parameter \"sequence_id\"",
        ),
        (
            parameter("region_only", text("yes")),
            "expected true or false, found \"yes\"",
        ),
    ]
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, client) = fake_server(folder.path()).await?;
    let good = || windows("a", &[1.0]);
    let cases = [wrong_requests(), wrong_tensors(), wrong_parameters()];
    for (request, expected) in cases.into_iter().flatten() {
        let status = client
            .clone()
            .model_infer(request)
            .await
            .expect_err(expected);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(
            status.message().contains(expected),
            "{expected:?} in {status}"
        );
    }
    let pcm = request("a", ("PCM", "INT16", &[3, 5]), Bytes::from_static(&[0; 30]));
    let status = client.clone().model_infer(pcm).await.expect_err("a shape");
    assert!(
        status.message().contains("expected shape [n] or [n, 2]"),
        "{status}"
    );
    let mut unknown = good();
    unknown.model_name = "nobody".into();
    let status = client
        .clone()
        .model_infer(unknown)
        .await
        .expect_err("no model");
    assert_eq!(status.code(), Code::NotFound);
    drop(server);
    Ok(())
}

#[tokio::test]
async fn a_request_that_fails_does_not_end_its_stream() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    let mut wrong = windows("a", &[1.0]);
    wrong.model_version = "9".into();
    let mut unknown = windows("nobody", &[1.0]);
    unknown.id = "the second".into();
    let requests = vec![wrong.clone(), unknown, windows("a", &[5.0])];
    let answers = streamed(&mut client, requests.clone()).await?;
    let [wrong, unknown, good] = answers.as_slice() else {
        anyhow::bail!("{} answers", answers.len());
    };
    assert!(wrong.error_message.contains("model_version"), "{wrong:?}");
    assert!(unknown.error_message.contains("nobody"), "{unknown:?}");
    let id = |r: &oip::ModelStreamInferResponse| r.infer_response.clone().unwrap_or_default().id;
    assert_eq!(id(unknown), "the second");
    assert!(good.error_message.is_empty());
    assert_eq!(
        pictures(good.infer_response.as_ref().context("frames")?)?.len(),
        1
    );

    // Unless the client wants that.
    let mut request = Request::new(tokio_stream::iter(requests));
    request
        .metadata_mut()
        .insert("triton_grpc_error", "true".parse()?);
    let answers = client.model_stream_infer(request).await?;
    let status = answers.into_inner().message().await.expect_err("a status");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    Ok(())
}

#[tokio::test]
async fn the_server_and_its_models_describe_themselves() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    assert!(
        client
            .server_live(oip::ServerLiveRequest {})
            .await?
            .into_inner()
            .live
    );
    assert!(
        client
            .server_ready(oip::ServerReadyRequest {})
            .await?
            .into_inner()
            .ready
    );
    let about = client
        .server_metadata(oip::ServerMetadataRequest {})
        .await?
        .into_inner();
    assert_eq!(about.name, "lipsync-server");
    let metadata = oip::ModelMetadataRequest {
        name: "a".into(),
        version: String::new(),
    };
    let metadata = client.model_metadata(metadata).await?.into_inner();
    let inputs: Vec<_> = metadata
        .inputs
        .iter()
        .map(|i| (i.name.as_str(), i.shape.as_slice()))
        .collect();
    assert_eq!(
        inputs,
        [
            ("PCM", &[-1_i64][..]),
            ("STEPS", &[-1, 512]),
            ("WINDOWS", &[-1, 32, 16, 16])
        ]
    );
    Ok(())
}

#[tokio::test]
async fn the_second_version_is_decoupled() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    for (version, is_decoupled) in [("", false), ("2", true)] {
        let config = oip::ModelConfigRequest {
            name: "a".into(),
            version: version.into(),
        };
        let config = client
            .model_config(config)
            .await?
            .into_inner()
            .config
            .context("one")?;
        assert_eq!(
            config.model_transaction_policy.context("one")?.decoupled,
            is_decoupled
        );
        assert_eq!((config.max_batch_size, config.output.len()), (0, 5));
    }
    Ok(())
}

#[tokio::test]
async fn a_model_is_ready_if_it_can_be_loaded() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    client.model_infer(windows("a", &[1.0])).await?;
    let ready = |client: &Client, name: &str| {
        let (mut client, name) = (client.clone(), name.to_owned());
        async move {
            let request = oip::ModelReadyRequest {
                name,
                version: String::new(),
            };
            client
                .model_ready(request)
                .await
                .map(|r| r.into_inner().ready)
        }
    };
    assert!(ready(&client, "a").await?);
    assert!(!ready(&client, "nobody").await?);
    assert!(!ready(&client, "broken").await?);
    assert_eq!(
        ready(&client, "").await.expect_err("no name").code(),
        Code::InvalidArgument
    );
    let index = client
        .repository_index(oip::RepositoryIndexRequest::default())
        .await?
        .into_inner();
    let states: Vec<_> = index
        .models
        .iter()
        .map(|m| (m.name.as_str(), m.version.as_str(), m.state.as_str()))
        .collect();
    assert_eq!(states[..2], [("a", "1", "READY"), ("a", "2", "READY")]);
    assert!(
        index.models[2..]
            .iter()
            .all(|m| m.state == "UNAVAILABLE" && !m.reason.is_empty())
    );
    Ok(())
}

#[tokio::test]
async fn models_are_loaded_unloaded_and_counted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    let load = oip::RepositoryModelLoadRequest {
        model_name: "a".into(),
        ..Default::default()
    };
    client.repository_model_load(load.clone()).await?;
    client.model_infer(windows("a", &[1.0, 2.0])).await?;
    let stats = oip::ModelStatisticsRequest {
        name: "a".into(),
        version: String::new(),
    };
    let stats = client
        .model_statistics(stats)
        .await?
        .into_inner()
        .model_stats;
    assert_eq!((stats[0].inference_count, stats[0].execution_count), (2, 1));
    let all = client
        .model_statistics(oip::ModelStatisticsRequest::default())
        .await?
        .into_inner();
    assert_eq!(all.model_stats.len(), 4, "two versions of two models");
    let unload = oip::RepositoryModelUnloadRequest {
        model_name: "a".into(),
        ..Default::default()
    };
    client.repository_model_unload(unload).await?;
    let mut other = load.clone();
    other.repository_name = "elsewhere".into();
    let status = client
        .repository_model_load(other)
        .await
        .expect_err("no such");
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut with_files = load;
    with_files
        .parameters
        .insert("config".into(), oip::ModelRepositoryParameter::default());
    let status = client
        .repository_model_load(with_files)
        .await
        .expect_err("parameters");
    assert_eq!(status.code(), Code::Unimplemented);
    Ok(())
}

#[tokio::test]
async fn what_does_not_exist_here_says_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    let memory = oip::SystemSharedMemoryStatusRequest::default();
    let status = client
        .system_shared_memory_status(memory)
        .await
        .expect_err("none");
    assert_eq!(status.code(), Code::Unimplemented);
    let traces = client
        .trace_setting(oip::TraceSettingRequest::default())
        .await?
        .into_inner();
    assert_eq!(traces.settings["trace_level"].value, ["OFF"]);
    let on = oip::trace_setting_request::SettingValue {
        value: vec!["TIMESTAMPS".into()],
    };
    let on = oip::TraceSettingRequest {
        settings: HashMap::from([("trace_level".to_owned(), on)]),
        ..Default::default()
    };
    assert_eq!(
        client.trace_setting(on).await.expect_err("none").code(),
        Code::Unimplemented
    );
    let log = client
        .log_settings(oip::LogSettingsRequest::default())
        .await?
        .into_inner();
    assert!(log.settings.contains_key("log_info"));
    Ok(())
}

/// Streams hold one message and one answer each, take a place for each request, and end with the server.
#[tokio::test(flavor = "multi_thread")]
async fn streams_pass_the_gate_and_end_with_the_server() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    let yaml = "server: {worker_count: 1, queue_size: 1}\nmodels: {a: {path: a, preload: true}}";
    let server = TestServer::start(yaml, folder.path(), Arc::new(loader)).await?;
    let held = HeldGate::close(&gate);
    let mut client = client(&server).await?;
    const N_STREAMS: u64 = 12;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..N_STREAMS {
        let mut client = client.clone();
        waiting.spawn(async move { streamed(&mut client, vec![windows("a", &[1.0])]).await });
    }
    let all_in = |s: &v1::GetServerStatsResponse| s.rejected + s.submitted == N_STREAMS;
    server.until("all are in", all_in).await?;
    drop(held);
    let mut n_refused = 0;
    while let Some(answers) = tokio::time::timeout(PATIENCE, waiting.join_next()).await? {
        let answers = answers??;
        assert_eq!(answers.len(), 1, "{answers:?}");
        let error = &answers[0].error_message;
        n_refused += u64::from(!error.is_empty());
        assert!(
            error.is_empty() || error.contains("try again in"),
            "{error}"
        );
    }
    assert!((1..N_STREAMS).contains(&n_refused), "{n_refused}");

    // A stream that waits for its client does not hold up the end.
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    sender.send(windows("a", &[1.0])).await?;
    let answers = client
        .model_stream_infer(ReceiverStream::new(requests))
        .await?;
    let mut answers = answers.into_inner();
    assert!(answers.message().await?.is_some());
    let begun = std::time::Instant::now();
    assert!(server.shut_down().await, "nothing was cut off");
    assert!(
        begun.elapsed() < Duration::from_secs(25),
        "{:?}",
        begun.elapsed()
    );
    let status = answers.message().await.expect_err("the server is gone");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    Ok(())
}

#[tokio::test]
async fn it_can_be_switched_off() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let yaml = "server: {open_inference: false}\nmodels: {a: {path: a}}";
    let server = TestServer::start(yaml, folder.path(), Arc::new(FakeLoader::default())).await?;
    let status = client(&server)
        .await?
        .server_live(oip::ServerLiveRequest {})
        .await;
    assert_eq!(status.expect_err("off").code(), Code::Unimplemented);
    Ok(())
}
