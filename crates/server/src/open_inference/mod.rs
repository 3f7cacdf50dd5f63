//! The Open Inference Protocol, version 2: what clients of Triton and KServe speak.
//!
//! A model takes one input (`PCM`, `STEPS` or `WINDOWS`) and gives `FRAMES` and what is known of them. Requests become
//! the same orders as those of `lipsync.v1`, and pass the same gate. docs/open-inference.md describes the tensors.
//! What it does not do: live sessions, shared memory, models sent by clients.

mod describe;
mod order;
mod outputs;
mod parameters;
mod settings;
mod statistics;
mod stream;
mod tensor;
mod version;

use std::{fmt, pin::Pin, sync::Arc};

use lipsync::{
    inference::{self as oip, grpc_inference_service_server::GrpcInferenceService},
    v1::{self, model_admin_server::ModelAdmin as _},
};
use lipsync_serving::{ServeError, phase::Phase};
use tokio_stream::Stream;
use tonic::{Code, Extensions, Request, Response, Status, metadata::MetadataMap};

pub(crate) use self::statistics::{Sums, sums_by_model};
use self::{
    order::{Call, model_name},
    outputs::Envelope,
    version::Version,
};
use crate::{
    core_state::Shared,
    request_layer::Arrival,
    service::ModelAdminService,
    wire::{
        answer::sized,
        headers::write_figures,
        status::{to_status, unsupported},
    },
};

/// The service.
#[derive(Clone)]
pub struct InferenceService {
    shared: Arc<Shared>,
    /// What it says of models, and does with them, the other protocol says and does.
    admin: ModelAdminService,
}

impl InferenceService {
    /// A service over the shared parts.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            admin: ModelAdminService::new(&shared),
            shared,
        }
    }

    fn is_ready(&self) -> bool {
        *self.shared.phase.borrow() == Phase::Serving
    }

    async fn infer(
        &self,
        request: Request<oip::ModelInferRequest>,
    ) -> Result<Response<oip::ModelInferResponse>, ServeError> {
        let arrival = Arrival::of(request.extensions());
        let headers = arrival.headers.checked()?;
        let message = request.into_inner();
        let model_id = model_name(&message.model_name)?;
        headers.check_model_id(&model_id)?;
        let hot = self.shared.hot();
        let batches = self.shared.batches(&hot);
        let upload = arrival.upload.as_deref();
        let used = batches.model(&headers.caller, &model_id, upload).await?;
        let call = Call::read(message, &used.lease.model, headers, &hot.output)?;
        let caller = call.caller(&headers.caller, headers.caller.deadline);
        let served = batches.serve_with(&caller, used, call.order).await?;
        let timings = served.answer.timings.clone();
        let envelope = Envelope {
            model_name: model_id.as_str(),
            version: call.version,
            id: &call.id,
            is_final: None,
        };
        let to_message = |answer| envelope.response(answer, &call.outputs);
        let mut response = sized(&caller, &batches, served, to_message)?;
        write_figures(&timings, &self.shared.load(), response.metadata_mut());
        Ok(response)
    }

    /// Loads a model to describe it.
    async fn described<T>(
        &self,
        extensions: &Extensions,
        (name, version): (&str, &str),
        describe: impl FnOnce(&lipsync_registry::Model, Version) -> T,
    ) -> Result<Response<T>, ServeError> {
        let version = Version::parse(version)?;
        let model_id = model_name(name)?;
        let arrival = Arrival::of(extensions);
        let (caller, upload) = (&arrival.headers.caller, arrival.upload.as_deref());
        let batches = self.shared.batches(&self.shared.hot());
        let used = batches.model(caller, &model_id, upload).await?;
        Ok(Response::new(describe(&used.lease.model, version)))
    }

    /// What the other protocol says of a model, or of all that this caller may see.
    async fn models<T>(
        &self,
        request: Request<T>,
        name: &str,
    ) -> Result<Vec<v1::ModelStats>, Status> {
        if name.is_empty() {
            let request = renamed(request, v1::ListModelsRequest::default());
            return Ok(self.admin.list_models(request).await?.into_inner().models);
        }
        let message = v1::GetModelStatsRequest {
            model_id: name.into(),
        };
        let stats = self
            .admin
            .get_model_stats(renamed(request, message))
            .await?;
        Ok(stats.into_inner().model.into_iter().collect())
    }
}

impl fmt::Debug for InferenceService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InferenceService").finish_non_exhaustive()
    }
}

/// A message of the other protocol, by the same caller.
fn renamed<T, U>(request: Request<T>, message: U) -> Request<U> {
    let (metadata, extensions, _message) = request.into_parts();
    Request::from_parts(metadata, extensions, message)
}

/// The answer to all methods of shared memory.
fn no_shared_memory<T>() -> Result<Response<T>, Status> {
    Err(unsupported(
        "there is no shared memory: send tensors in messages",
    ))
}

/// Whether a client wants an error of a stream to end it, as other calls end.
fn wants_status(metadata: &MetadataMap) -> bool {
    let wish = metadata.get("triton_grpc_error");
    wish.is_some_and(|value| value == "true")
}

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    async fn server_live(
        &self,
        _request: Request<oip::ServerLiveRequest>,
    ) -> Result<Response<oip::ServerLiveResponse>, Status> {
        let lost = self.shared.pipeline.workers.lost_device();
        let live = lost.borrow().is_none();
        Ok(Response::new(oip::ServerLiveResponse { live }))
    }

    async fn server_ready(
        &self,
        _request: Request<oip::ServerReadyRequest>,
    ) -> Result<Response<oip::ServerReadyResponse>, Status> {
        let ready = self.is_ready();
        Ok(Response::new(oip::ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<oip::ModelReadyRequest>,
    ) -> Result<Response<oip::ModelReadyResponse>, Status> {
        match Version::parse(&request.get_ref().version) {
            Err(ServeError::UnknownModel { .. }) => {
                return Ok(Response::new(oip::ModelReadyResponse { ready: false }));
            }
            version => version.map_err(to_status)?,
        };
        let name = request.get_ref().name.clone();
        // Otherwise the name would stand for all models.
        model_name(&name).map_err(to_status)?;
        let ready = match self.models(request, &name).await {
            Ok(models) => {
                self.is_ready() && models.iter().all(|m| m.state() != v1::ModelState::Failed)
            }
            Err(status) if status.code() == Code::NotFound => false,
            Err(status) => return Err(status),
        };
        Ok(Response::new(oip::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _request: Request<oip::ServerMetadataRequest>,
    ) -> Result<Response<oip::ServerMetadataResponse>, Status> {
        Ok(Response::new(describe::server()))
    }

    async fn model_metadata(
        &self,
        request: Request<oip::ModelMetadataRequest>,
    ) -> Result<Response<oip::ModelMetadataResponse>, Status> {
        let oip::ModelMetadataRequest { name, version } = request.get_ref();
        let named = (name.as_str(), version.as_str());
        let described = self.described(request.extensions(), named, |model, _version| {
            describe::metadata(model)
        });
        described.await.map_err(to_status)
    }

    async fn model_infer(
        &self,
        request: Request<oip::ModelInferRequest>,
    ) -> Result<Response<oip::ModelInferResponse>, Status> {
        let version = Version::parse(&request.get_ref().model_version).map_err(to_status)?;
        if version == Version::Decoupled {
            return Err(unsupported(
                "model_version: version 2 answers in a stream: use ModelStreamInfer, or version 1",
            ));
        }
        self.infer(request).await.map_err(to_status)
    }

    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<oip::ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: Request<tonic::Streaming<oip::ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let arrival = Arrival::of(request.extensions());
        arrival.headers.checked().map_err(to_status)?;
        let wants_status = wants_status(request.metadata());
        let responses = stream::serve(
            Arc::clone(&self.shared),
            arrival,
            request.into_inner(),
            wants_status,
        );
        Ok(Response::new(Box::pin(responses)))
    }

    async fn model_config(
        &self,
        request: Request<oip::ModelConfigRequest>,
    ) -> Result<Response<oip::ModelConfigResponse>, Status> {
        let oip::ModelConfigRequest { name, version } = request.get_ref();
        let named = (name.as_str(), version.as_str());
        let described = self.described(request.extensions(), named, describe::config);
        described.await.map_err(to_status)
    }

    async fn model_statistics(
        &self,
        request: Request<oip::ModelStatisticsRequest>,
    ) -> Result<Response<oip::ModelStatisticsResponse>, Status> {
        let oip::ModelStatisticsRequest { name, version } = request.get_ref().clone();
        let versions = if version.is_empty() {
            vec![Version::Whole, Version::Decoupled]
        } else {
            vec![Version::parse(&version).map_err(to_status)?]
        };
        let caller = Arrival::of(request.extensions()).headers.caller;
        let models = self.models(request, &name).await?;
        let rows = statistics::rows_for(&self.shared.pipeline.book, &caller);
        let sums = sums_by_model(rows.iter());
        let mut model_stats = Vec::new();
        for model in &models {
            let named = |&version: &Version| statistics::of(model, version, &sums);
            model_stats.extend(versions.iter().map(named));
        }
        Ok(Response::new(oip::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<oip::RepositoryIndexRequest>,
    ) -> Result<Response<oip::RepositoryIndexResponse>, Status> {
        check_repository(&request.get_ref().repository_name)?;
        let only_ready = request.get_ref().ready;
        let models = self.models(request, "").await?;
        Ok(Response::new(describe::index(&models, only_ready)))
    }

    async fn repository_model_load(
        &self,
        request: Request<oip::RepositoryModelLoadRequest>,
    ) -> Result<Response<oip::RepositoryModelLoadResponse>, Status> {
        let message = request.get_ref();
        check_repository(&message.repository_name)?;
        if !message.parameters.is_empty() {
            let text = "a model's files and configuration come from the server: load it without parameters";
            return Err(unsupported(text));
        }
        let model_id = message.model_name.clone();
        let load = renamed(request, v1::LoadModelRequest { model_id });
        self.admin.load_model(load).await?;
        Ok(Response::new(oip::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<oip::RepositoryModelUnloadRequest>,
    ) -> Result<Response<oip::RepositoryModelUnloadResponse>, Status> {
        check_repository(&request.get_ref().repository_name)?;
        let model_id = request.get_ref().model_name.clone();
        let unload = renamed(request, v1::UnloadModelRequest { model_id });
        self.admin.unload_model(unload).await?;
        Ok(Response::new(oip::RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        _request: Request<oip::SystemSharedMemoryStatusRequest>,
    ) -> Result<Response<oip::SystemSharedMemoryStatusResponse>, Status> {
        no_shared_memory()
    }

    async fn system_shared_memory_register(
        &self,
        _request: Request<oip::SystemSharedMemoryRegisterRequest>,
    ) -> Result<Response<oip::SystemSharedMemoryRegisterResponse>, Status> {
        no_shared_memory()
    }

    async fn system_shared_memory_unregister(
        &self,
        _request: Request<oip::SystemSharedMemoryUnregisterRequest>,
    ) -> Result<Response<oip::SystemSharedMemoryUnregisterResponse>, Status> {
        no_shared_memory()
    }

    async fn cuda_shared_memory_status(
        &self,
        _request: Request<oip::CudaSharedMemoryStatusRequest>,
    ) -> Result<Response<oip::CudaSharedMemoryStatusResponse>, Status> {
        no_shared_memory()
    }

    async fn cuda_shared_memory_register(
        &self,
        _request: Request<oip::CudaSharedMemoryRegisterRequest>,
    ) -> Result<Response<oip::CudaSharedMemoryRegisterResponse>, Status> {
        no_shared_memory()
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _request: Request<oip::CudaSharedMemoryUnregisterRequest>,
    ) -> Result<Response<oip::CudaSharedMemoryUnregisterResponse>, Status> {
        no_shared_memory()
    }

    async fn trace_setting(
        &self,
        request: Request<oip::TraceSettingRequest>,
    ) -> Result<Response<oip::TraceSettingResponse>, Status> {
        settings::trace(request.get_ref()).map(Response::new)
    }

    async fn log_settings(
        &self,
        request: Request<oip::LogSettingsRequest>,
    ) -> Result<Response<oip::LogSettingsResponse>, Status> {
        settings::log(request.get_ref()).map(Response::new)
    }
}

fn check_repository(name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Ok(());
    }
    Err(unsupported(
        "repository_name: there is one repository, leave its name empty",
    ))
}
