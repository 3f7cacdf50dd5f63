//! What is wrong with a request, and what does not exist here.

use std::collections::HashMap;

use anyhow::Result;
use bytes::Bytes;
use lipsync::inference::{
    self as oip, ModelInferRequest, infer_parameter::ParameterChoice,
    model_infer_request::InferRequestedOutputTensor,
};
use tonic::Code;

use super::{fake_server, request, set, text, windows};

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
            with(&|r| r.model_version = "x".into()),
            "model_version: expected 1, 2",
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
            with(&|r| {
                let region = oip::InferParameter {
                    parameter_choice: Some(text("a region")),
                };
                let parameters = &mut r.inputs[0].parameters;
                parameters.insert("shared_memory_region".into(), region);
            }),
            "inputs.parameters: there is no shared memory",
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
    drop(server);
    Ok(())
}

/// With Triton's codes.
#[tokio::test]
async fn models_and_versions_that_do_not_exist_are_not_found() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    for (name, version, code, words) in [
        ("nobody", "", Code::NotFound, "nobody"),
        ("a", "7", Code::NotFound, "there are 1 and 2, found 7"),
        ("a", "2", Code::Unimplemented, "use ModelStreamInfer"),
    ] {
        let mut request = windows(name, &[1.0]);
        request.model_version = version.into();
        let status = client.model_infer(request).await.expect_err(words);
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    let request = oip::ModelReadyRequest {
        name: "a".into(),
        version: "7".into(),
    };
    assert!(!client.model_ready(request).await?.into_inner().ready);
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
