//! `ExplainTenants`: what the settings of tenants mean on this server, as it is now.

use std::{sync::Arc, time::Duration};

use lipsync::v1;
use lipsync_core::{
    Foreign, ModelId,
    saturate::{micros, u32_of},
};
use lipsync_serving::{ServeError, caller::Caller};

use crate::{
    core_state::Shared,
    meaning::{Cost, Machine, Meaning, estimated},
    tenants::Tenant,
};

/// Tenants of one answer.
const MAX_TENANTS: usize = 1000;

/// Those that the caller may ask about, of whom it asks about one or all.
pub(super) fn explain(
    shared: &Shared,
    caller: &Caller,
    wanted: &str,
) -> Result<v1::ExplainTenantsResponse, ServeError> {
    let hot = shared.hot();
    let tenants = &hot.tenants;
    let is_own = wanted == caller.tenant.as_str();
    if !wanted.is_empty() && !is_own {
        caller.check_admin()?;
    }
    let wanted = match wanted.is_empty() && !caller.rights.is_admin {
        true => caller.tenant.as_str(),
        false => wanted,
    };
    let all = tenants.or_everybody();
    let is_wanted = |tenant: &&Arc<Tenant>| wanted.is_empty() || tenant.id.as_str() == wanted;
    let found: Vec<_> = all.iter().filter(is_wanted).take(MAX_TENANTS).collect();
    if found.is_empty() {
        let reason = format!("there is no tenant {:?}", Foreign(wanted));
        return Err(ServeError::UnknownModel { reason });
    }
    let cost = |id: &ModelId| cost_of(shared, id);
    let limits = &shared.limits;
    let machine = Machine {
        models: models(shared),
        n_workers: limits.workers.max(),
        max_sessions: hot.session.max_sessions,
        max_requests: shared.admission.max_requests(),
        max_models: hot.registry.max_models,
        cost: &cost,
    };
    let meanings = found
        .iter()
        .map(|tenant| Meaning::of(tenant, tenants, &machine));
    Ok(v1::ExplainTenantsResponse {
        tenants: meanings.map(to_proto).collect(),
        n_tenants: match caller.rights.is_admin {
            true => u32_of(all.len()),
            false => 1,
        },
    })
}

fn models(shared: &Shared) -> Vec<(ModelId, Option<u32>)> {
    let models = shared.registry.list().into_iter();
    models
        .map(|model| (model.id, model.info.map(|info| info.fps.get())))
        .collect()
}

/// Of a model in memory: as measured, or else by its work.
fn cost_of(shared: &Shared, id: &ModelId) -> Option<Cost> {
    let model = shared.registry.resident(id)?;
    let generator = model.generator();
    let measured = shared.pipeline.workers.frame_cost(generator);
    let measured = measured.map(|cost| Cost {
        per_frame: cost.per_frame,
        is_measured: true,
    });
    measured
        .filter(|cost| cost.per_frame > Duration::ZERO)
        .or_else(|| estimated(generator.macs(), shared.cpu_isa))
}

fn to_proto(meaning: Meaning) -> v1::TenantMeaning {
    v1::TenantMeaning {
        tenant_id: meaning.tenant,
        model_ids: meaning.models.iter().map(ModelId::to_string).collect(),
        rights: meaning.rights,
        quotas: meaning.quotas,
        capacity: meaning.conversations.map(|told| v1::TenantCapacity {
            conversations_alone: told.alone,
            conversations_busy: told.at_least,
            bound: told.bound.into(),
            model_id: told.model.to_string(),
            frame_us: micros(told.cost.per_frame),
            measured: told.cost.is_measured,
        }),
        contradictions: meaning.contradictions,
        advice: meaning.advice,
    }
}
