//! How a model and the server look to clients of this protocol.

use lipsync::{
    inference::{
        DataType, ModelConfig, ModelConfigResponse, ModelInput, ModelMetadataResponse, ModelOutput,
        ModelParameter, ModelTransactionPolicy, ModelVersionPolicy, RepositoryIndexResponse,
        ServerMetadataResponse,
        model_metadata_response::TensorMetadata,
        model_version_policy::{PolicyChoice, Specific},
        repository_index_response::ModelIndex,
    },
    v1,
};
use lipsync_core::{family::WindowSource, saturate::i64_of};
use lipsync_registry::Model;

use super::{
    outputs::Output,
    tensor::{PCM, STEPS, WINDOWS},
    version::{VERSIONS, Version},
};

/// What Triton calls the framework of a model.
const PLATFORM: &str = "lipsync";
/// Parts of the protocol that are served beyond its core, by the protocol's names.
const EXTENSIONS: [&str; 5] = [
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
];

/// An input that a model can take.
struct Input {
    name: &'static str,
    datatype: &'static str,
    shape: Vec<i64>,
}

pub(super) fn server() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

pub(super) fn metadata(model: &Model) -> ModelMetadataResponse {
    let input = |input: Input| TensorMetadata {
        name: input.name.into(),
        datatype: input.datatype.into(),
        shape: input.shape,
    };
    let output = |output: Output| TensorMetadata {
        name: output.name().into(),
        datatype: output.datatype().into(),
        shape: shape(output),
    };
    ModelMetadataResponse {
        name: model.id().to_string(),
        versions: VERSIONS.map(str::to_owned).to_vec(),
        platform: PLATFORM.into(),
        inputs: inputs(model).into_iter().map(input).collect(),
        outputs: Output::ALL.map(output).to_vec(),
    }
}

pub(super) fn config(model: &Model, version: Version) -> ModelConfigResponse {
    let input = |input: Input| ModelInput {
        name: input.name.into(),
        data_type: data_type(input.datatype).into(),
        dims: input.shape,
        optional: true,
    };
    let output = |output: Output| ModelOutput {
        name: output.name().into(),
        data_type: data_type(output.datatype()).into(),
        dims: shape(output),
    };
    let facts = [
        ("fps", u64::from(model.fps())),
        ("n_background_frames", u64::from(model.n_frames())),
        ("width", model.width() as u64),
        ("height", model.height() as u64),
    ];
    let parameter = |(name, value): (&str, u64)| {
        let string_value = value.to_string();
        (name.to_owned(), ModelParameter { string_value })
    };
    let config = ModelConfig {
        name: model.id().to_string(),
        platform: PLATFORM.into(),
        backend: PLATFORM.into(),
        version_policy: Some(ModelVersionPolicy {
            policy_choice: Some(PolicyChoice::Specific(Specific {
                versions: vec![1, 2],
            })),
        }),
        max_batch_size: 0,
        input: inputs(model).into_iter().map(input).collect(),
        output: Output::ALL.map(output).to_vec(),
        parameters: facts.into_iter().map(parameter).collect(),
        model_transaction_policy: Some(ModelTransactionPolicy {
            decoupled: version == Version::Decoupled,
        }),
    };
    ModelConfigResponse {
        config: Some(config),
    }
}

pub(super) fn index(models: &[v1::ModelStats], only_ready: bool) -> RepositoryIndexResponse {
    let is_wanted = |m: &&v1::ModelStats| !only_ready || m.state() == v1::ModelState::Ready;
    let entry = |model: &v1::ModelStats| {
        let (state, reason) = match model.state() {
            v1::ModelState::Ready => ("READY", ""),
            v1::ModelState::Loading => ("LOADING", ""),
            v1::ModelState::Failed => ("UNAVAILABLE", model.failure.as_str()),
            v1::ModelState::Unloaded | v1::ModelState::Unspecified => ("UNAVAILABLE", "unloaded"),
        };
        VERSIONS.map(|version| ModelIndex {
            name: model.model_id.clone(),
            version: version.into(),
            state: state.into(),
            reason: reason.into(),
        })
    };
    RepositoryIndexResponse {
        models: models.iter().filter(is_wanted).flat_map(entry).collect(),
    }
}

/// Each optional for itself: a request brings one of them.
fn inputs(model: &Model) -> Vec<Input> {
    let mut inputs = Vec::new();
    if model.hears_sound() {
        inputs.push(Input {
            name: PCM,
            datatype: "INT16",
            shape: vec![-1],
        });
    }
    if let WindowSource::Steps(form) = model.audio_form().source {
        inputs.push(Input {
            name: STEPS,
            datatype: "FP32",
            shape: vec![-1, i64_of(form.n_floats)],
        });
    }
    let [c, h, w] = model.audio_shape().map(i64_of);
    inputs.push(Input {
        name: WINDOWS,
        datatype: "FP32",
        shape: vec![-1, c, h, w],
    });
    inputs
}

fn shape(output: Output) -> Vec<i64> {
    [&[-1], output.inner_shape()].concat()
}

fn data_type(datatype: &str) -> DataType {
    match datatype {
        "INT16" => DataType::TypeInt16,
        "FP32" => DataType::TypeFp32,
        "UINT32" => DataType::TypeUint32,
        "UINT64" => DataType::TypeUint64,
        "BYTES" => DataType::TypeString,
        _ => DataType::TypeInvalid,
    }
}
