//! What the settings of tenants mean on a machine: for `check-config`, and for whoever asks a server that runs.

mod estimate;
mod of_tenant;

pub use estimate::{estimate, estimated};
pub use of_tenant::{Conversations, Cost, Machine, Meaning};
