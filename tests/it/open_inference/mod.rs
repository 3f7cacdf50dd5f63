//! The Open Inference Protocol: the same frames, the same gate, and what its clients expect.

mod about;
mod frames;
mod refusals;
mod streams;

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::{Buf as _, Bytes};
use lipsync::{
    inference::{
        self as oip, InferParameter, ModelInferRequest, ModelInferResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient,
        infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
    },
    v1,
};
use tonic::{Code, transport::Channel};

use crate::support::{FakeLoader, TestServer, avatar, speech::windows_request};

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
