//! Which services there are on the gRPC port, and what reflection says of them.

use std::sync::Arc;

use lipsync::{
    inference::grpc_inference_service_server::GrpcInferenceServiceServer,
    legacy::{
        compositing::{self, compositing_service_server::CompositingServiceServer},
        monolithic::{self, monolithic_service_server::MonolithicServiceServer},
        multi_tenant::{self, multi_tenant_lip_sync_server::MultiTenantLipSyncServer},
    },
    v1::{
        lip_sync_server::LipSyncServer, model_admin_server::ModelAdminServer,
        server_admin_server::ServerAdminServer,
    },
};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server as reflection;

use crate::{
    core_state::Shared,
    health::HealthService,
    legacy::{CompositingLegacy, MonolithicLegacy, MultiTenantLegacy},
    open_inference::InferenceService,
    service::{LipSyncService, ModelAdminService, ServerAdminService},
};

/// The services that are switched on.
///
/// # Errors
/// [`reflection::Error`]: descriptors are compiled in, so there is none in practice.
pub(crate) fn routes(shared: &Arc<Shared>) -> Result<Routes, reflection::Error> {
    let limit = shared.limits.max_message_bytes;
    let lip_sync = LipSyncServer::new(LipSyncService::new(Arc::clone(shared)))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let inference = GrpcInferenceServiceServer::new(InferenceService::new(Arc::clone(shared)))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let health = HealthService::new(
        shared.phase.clone(),
        shared.pipeline.workers.lost_device(),
        shared.registry.clone(),
        Arc::clone(&shared.pipeline.workers),
    );
    let mut routes = Routes::new(lip_sync);
    if shared.limits.open_inference {
        routes = routes.add_service(inference);
    }
    let admin = ServerAdminService::new(Arc::clone(shared));
    Ok(with_legacy(routes, shared)
        .add_service(ModelAdminServer::new(ModelAdminService::new(shared)))
        .add_service(ServerAdminServer::new(admin))
        .add_service(HealthServer::new(health))
        .add_service(describing(shared).build_v1()?)
        .add_service(describing(shared).build_v1alpha()?))
}

/// The protocols of servers that came before, as far as they are switched on.
fn with_legacy(mut routes: Routes, shared: &Arc<Shared>) -> Routes {
    let limit = shared.limits.max_message_bytes;
    let legacy = shared.limits.legacy;
    if legacy.multi_tenant {
        let service = MultiTenantLipSyncServer::new(MultiTenantLegacy::new(Arc::clone(shared)));
        let service = service.max_decoding_message_size(limit);
        routes = routes.add_service(service.max_encoding_message_size(limit));
    }
    if legacy.monolithic {
        let service = MonolithicServiceServer::new(MonolithicLegacy::new(Arc::clone(shared)));
        let service = service.max_decoding_message_size(limit);
        routes = routes.add_service(service.max_encoding_message_size(limit));
    }
    if legacy.compositing {
        let service = CompositingServiceServer::new(CompositingLegacy::new(Arc::clone(shared)));
        let service = service.max_decoding_message_size(limit);
        routes = routes.add_service(service.max_encoding_message_size(limit));
    }
    routes
}

/// Reflection of all services but those that are switched off.
fn describing(shared: &Shared) -> reflection::Builder<'static> {
    let legacy = shared.limits.legacy;
    let sets = [
        (true, lipsync::FILE_DESCRIPTOR_SET),
        (true, lipsync::inference::FILE_DESCRIPTOR_SET),
        (legacy.multi_tenant, multi_tenant::FILE_DESCRIPTOR_SET),
        (legacy.monolithic, monolithic::FILE_DESCRIPTOR_SET),
        (legacy.compositing, compositing::FILE_DESCRIPTOR_SET),
        (true, tonic_health::pb::FILE_DESCRIPTOR_SET),
    ];
    let sets = sets.into_iter().filter(|(is_on, _)| *is_on);
    sets.fold(reflection::Builder::configure(), |builder, (_, set)| {
        builder.register_encoded_file_descriptor_set(set)
    })
}
