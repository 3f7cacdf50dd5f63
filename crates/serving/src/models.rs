//! The model that a caller asks for, whatever it takes to have it.

use lipsync_core::ModelId;
use lipsync_registry::{Lease, Registry};

use crate::{admission::Admission, caller::Caller, error::ServeError, residents::InUse};

/// A model for a caller, loaded if need be.
#[derive(Debug)]
pub struct Used {
    /// The model, which stays as long as this is held.
    pub lease: Lease,
    /// Says that the tenant uses it, where the tenant's models are counted.
    pub(crate) in_use: Option<InUse>,
}

/// The model that a caller asks for. Another one of its tenant may have to leave memory for it.
///
/// # Errors
/// [`ServeError::UnknownModel`], also for a model of others; [`ServeError::OverQuota`] where all that the tenant may
/// have in memory are in use; what the registry says.
pub(crate) async fn model_for(
    caller: &Caller,
    id: &ModelId,
    registry: &Registry,
    admission: &Admission,
) -> Result<Used, ServeError> {
    caller.check_model(id)?;
    // One that does not exist displaces nothing.
    let _known = registry.watch_failed(id)?;
    let mut in_use = None;
    if caller.rights.is_one_of_many {
        let is_resident = |id: &ModelId| registry.resident(id).is_some();
        let begun = admission.residents().begin(caller, id, is_resident);
        let (begun, leaving) = begun.inspect_err(|_| admission.count_refusal())?;
        in_use = Some(begun);
        for model in leaving {
            let registry = registry.clone();
            // Gives back the memory of a whole model. One that was removed meanwhile is gone anyway.
            let unloading = tokio::task::spawn_blocking(move || registry.unload(&model));
            drop(unloading.await);
        }
    }
    let lease = registry.model(id).await;
    caller.tally.asked_for(id, &lease);
    Ok(Used {
        lease: lease?,
        in_use,
    })
}
