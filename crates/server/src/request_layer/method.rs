//! What there is to call, and what each call may cost before its message is whole.

use std::time::Duration;

use lipsync_serving::admission::Work;

use crate::{
    config::{Hot, ServerLimits},
    telemetry::CallKind,
};

/// Methods that `server.request_timeout_ms` is about begin with this.
const LIP_SYNC: &str = "/lipsync.v1.LipSync/";
/// Methods of the Open Inference Protocol begin with this.
const INFERENCE: &str = "/inference.GRPCInferenceService/";
/// Methods of the Go servers that came before begin so. All have the same ones.
const LEGACY: [&str; 3] = [
    "/lipsync.MultiTenantLipSync/",
    "/monolithic.MonolithicService/",
    "/compositing.CompositingService/",
];
/// Methods of the Open Inference Protocol that are answered at once.
const INFERENCE_CONTROL: [&str; 15] = [
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryUnregister",
    "LogSettings",
    "ModelReady",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelUnload",
    "ServerLive",
    "ServerMetadata",
    "ServerReady",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryUnregister",
    "TraceSetting",
];
/// The largest message of a call that carries no speech: a model's id, the numbers of some frames.
const SMALL_BYTES: usize = 64 << 10;
/// A load takes as long as the files take; the load itself goes on without its caller.
const LOAD_LIMIT: Duration = Duration::from_secs(600);
/// Reflection is a conversation of some questions.
const REFLECTION_LIMIT: Duration = Duration::from_secs(60);

/// How a call is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Frames are made for it. It takes its place when its model is there.
    Work,
    /// A live conversation. It takes its place with its first message.
    Session,
    /// Answered at once.
    Control,
    /// Waits until a model is loaded.
    Load,
    /// One question, and answers for as long as it is open.
    Watch,
    /// Some questions and answers.
    Reflection,
    /// One request for frames after the other. Each takes its place when its model is there.
    Stream,
    /// No such method.
    Unknown,
}

/// What the configuration says about calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    max_message_bytes: usize,
    max_session_message_bytes: usize,
    request_timeout: Duration,
}

impl Limits {
    pub(super) fn of(server: &ServerLimits, hot: &Hot) -> Self {
        let max_message_bytes = server.max_message_bytes;
        Self {
            max_message_bytes,
            max_session_message_bytes: hot.session.max_message_bytes.min(max_message_bytes),
            request_timeout: hot.requests.request_timeout,
        }
    }
}

/// A method's rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    pub(super) kind: Kind,
    /// Largest message, bytes.
    pub(super) message_limit: usize,
    /// For the message to arrive and the answer's headers to leave.
    pub(super) time_limit: Duration,
    is_open: bool,
    is_health: bool,
}

/// Services of health begin with this.
const HEALTH: &str = "/grpc.health.v1.Health/";

impl Method {
    pub(super) fn of(path: &str, limits: Limits) -> Self {
        let kind = Kind::of(path);
        let message_limit = match kind {
            Kind::Work if path.ends_with("Background") => SMALL_BYTES.min(limits.max_message_bytes),
            Kind::Work | Kind::Stream => limits.max_message_bytes,
            Kind::Session => limits.max_session_message_bytes,
            _ => SMALL_BYTES.min(limits.max_message_bytes),
        };
        let time_limit = match kind {
            Kind::Load => LOAD_LIMIT,
            Kind::Reflection => REFLECTION_LIMIT,
            _ => limits.request_timeout,
        };
        let is_health = path.starts_with(HEALTH);
        Self {
            kind,
            message_limit,
            time_limit,
            is_health,
            is_open: is_health || matches!(kind, Kind::Reflection | Kind::Unknown),
        }
    }

    /// Whether anybody may call it: probes have no keys, and the contract is no secret.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether it is a question about health.
    pub(super) fn is_health(&self) -> bool {
        self.is_health
    }

    /// Whether it is answered at once, and only its address's turns hold it back.
    pub(super) fn takes_turns(&self) -> bool {
        matches!(
            self.kind,
            Kind::Control | Kind::Load | Kind::Watch | Kind::Unknown
        )
    }

    /// Whether the drain waits for it once it is let in.
    pub(super) fn is_work(&self) -> bool {
        matches!(self.kind, Kind::Work | Kind::Session | Kind::Stream)
    }
}

impl Kind {
    /// What somebody is let in for who calls such a method.
    pub(super) fn work(self) -> Option<Work> {
        match self {
            Self::Work => Some(Work::Batch),
            Self::Session => Some(Work::Session),
            Self::Load => Some(Work::Load),
            Self::Control => Some(Work::Control),
            Self::Watch | Self::Reflection | Self::Stream => Some(Work::Watch),
            Self::Unknown => None,
        }
    }

    /// What such a call is to the book of figures.
    pub(super) fn in_book(self) -> CallKind {
        match self {
            Self::Work => CallKind::Request,
            Self::Session => CallKind::Session,
            // Of a stream, each request counts.
            Self::Control
            | Self::Load
            | Self::Watch
            | Self::Reflection
            | Self::Stream
            | Self::Unknown => CallKind::Other,
        }
    }

    fn of(path: &str) -> Self {
        if let Some(method) = path.strip_prefix(LIP_SYNC) {
            return match method {
                "InferBatchComposite" | "GetBackground" => Self::Work,
                "StreamComposite" => Self::Session,
                _ => Self::Unknown,
            };
        }
        if let Some(method) = path.strip_prefix(INFERENCE) {
            return match method {
                "ModelInfer" => Self::Work,
                "ModelStreamInfer" => Self::Stream,
                // What describes a model loads it.
                "ModelMetadata" | "ModelConfig" | "RepositoryModelLoad" => Self::Load,
                _ if INFERENCE_CONTROL.contains(&method) => Self::Control,
                _ => Self::Unknown,
            };
        }
        if let Some(method) = LEGACY.iter().find_map(|service| path.strip_prefix(service)) {
            return match method {
                "InferBatchComposite" => Self::Work,
                "LoadModel" => Self::Load,
                "ListModels" | "UnloadModel" | "GetModelStats" | "Health" => Self::Control,
                _ => Self::Unknown,
            };
        }
        match path {
            "/lipsync.v1.ModelAdmin/LoadModel" => Self::Load,
            "/lipsync.v1.ModelAdmin/ListModels"
            | "/lipsync.v1.ModelAdmin/UnloadModel"
            | "/lipsync.v1.ModelAdmin/GetModelStats"
            | "/lipsync.v1.ServerAdmin/GetServerStats"
            | "/lipsync.v1.ServerAdmin/ExplainTenants"
            | "/grpc.health.v1.Health/Check"
            | "/grpc.health.v1.Health/List" => Self::Control,
            "/lipsync.v1.ServerAdmin/WatchServerStats" | "/grpc.health.v1.Health/Watch" => {
                Self::Watch
            }
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Self::Reflection,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// A method that this module forgets is answered as if it did not exist.
    #[test]
    fn every_method_of_every_service_is_known() {
        let mut n_methods = 0;
        for set in [
            lipsync::FILE_DESCRIPTOR_SET,
            lipsync::inference::FILE_DESCRIPTOR_SET,
            lipsync::legacy::multi_tenant::FILE_DESCRIPTOR_SET,
            lipsync::legacy::monolithic::FILE_DESCRIPTOR_SET,
            lipsync::legacy::compositing::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    for method in &service.method {
                        let path =
                            format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        let kind = Kind::of(&path);
                        let is_stream =
                            matches!(kind, Kind::Session | Kind::Reflection | Kind::Stream);
                        assert_ne!(kind, Kind::Unknown, "{path}");
                        assert_eq!(method.client_streaming(), is_stream, "{path}");
                        let is_long = is_stream || kind == Kind::Watch;
                        assert_eq!(method.server_streaming(), is_long, "{path}");
                        n_methods += 1;
                    }
                }
            }
        }
        assert!(n_methods >= 51, "{n_methods}");
    }
}
