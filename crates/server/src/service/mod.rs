//! The gRPC services: thin, each method a list of named steps.

mod explain;
mod lip_sync;
pub(crate) mod model_admin;
pub(crate) mod server_admin;

pub use lip_sync::LipSyncService;
pub use model_admin::ModelAdminService;
pub use server_admin::ServerAdminService;
