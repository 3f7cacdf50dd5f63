//! What `check-config` says of tenants.

use std::{fmt, sync::Arc};

use lipsync_core::ModelId;
use lipsync_registry::Registry;
use lipsync_server::{
    Config, CpuLoader,
    meaning::{Cost, Machine, Meaning, estimate},
};

/// Tenants beyond this many are only counted.
const MAX_TENANTS: usize = 100;
/// Models whose files are read to estimate what a frame costs.
const MAX_READ: usize = 20;

/// The tenants of a configuration, and what their settings mean.
pub struct TenantsText<'a>(pub &'a Config);

impl fmt::Display for TenantsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.0;
        if let Some(exposure) = config.exposure() {
            writeln!(f, "  advice: {exposure}")?;
        }
        let tenants = config.tenants.list();
        if tenants.is_empty() {
            return Ok(());
        }
        writeln!(f, "  {} tenants:", tenants.len())?;
        let costs = self.costs();
        let cost = |id: &ModelId| costs.iter().find(|(of, _)| of == id).map(|(_, cost)| *cost);
        let machine = Machine::of(config, &cost);
        for tenant in tenants.iter().take(MAX_TENANTS) {
            write(&Meaning::of(tenant, &config.tenants, &machine), f)?;
        }
        if tenants.len() > MAX_TENANTS {
            writeln!(f, "  and {} more", tenants.len() - MAX_TENANTS)?;
        }
        if !tenants.iter().any(|tenant| tenant.rights.is_admin) {
            writeln!(
                f,
                "  advice: no tenant has admin: true, so nobody can load, unload or see statistics"
            )?;
        }
        Ok(())
    }
}

fn write(meaning: &Meaning, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "  {}: {}", meaning.tenant, meaning.rights)?;
    if !meaning.quotas.is_empty() {
        writeln!(f, "    {}", meaning.quotas)?;
    }
    if let Some(conversations) = &meaning.conversations {
        writeln!(f, "    {conversations}")?;
    }
    for contradiction in &meaning.contradictions {
        writeln!(f, "    contradiction: {contradiction}")?;
    }
    for advice in &meaning.advice {
        writeln!(f, "    advice: {advice}")?;
    }
    Ok(())
}

impl TenantsText<'_> {
    /// What frames cost, of the first models whose files can be read.
    fn costs(&self) -> Vec<(ModelId, Cost)> {
        let engine = &self.0.engine;
        let loader = CpuLoader::new(engine.cpu_isa, 0);
        let registry = Registry::new(self.0.registry.clone(), Arc::new(loader));
        let models = self.0.registry.models.iter().take(MAX_READ);
        let costs = models.filter_map(|model| {
            let cost = estimate(&registry, &model.id, engine.cpu_isa)?;
            Some((model.id.clone(), cost))
        });
        costs.collect()
    }
}
