//! `lipsync-server plan`: the memory that a configuration needs, without starting a server or having a GPU.

use std::{path::Path, process::ExitCode};

use lipsync_engine::cuda::Devices;
use lipsync_server::{
    capacity_plan::CapacityPlan, capacity_reading::PlannedDevices, config::DeviceChoice, devices,
};

use crate::command_line::{complain, load, say};

/// Plans for this machine's devices, or for one with `device_memory_gb`. Exits with 1 if a model's files
/// cannot be read.
pub fn plan(file: &Path, device_memory_gb: Option<u32>) -> anyhow::Result<ExitCode> {
    let config = load(file)?;
    let choice = config.engine.device;
    let infos = match choice {
        DeviceChoice::Cpu => Vec::new(),
        // A machine without one can still plan for one.
        _ => Devices::discover().unwrap_or_default(),
    };
    let usable = infos.iter().filter(|info| info.unusable().is_none());
    let found: Vec<u64> = usable.map(|info| info.total_bytes).collect();
    let given = device_memory_gb.map(|gb| u64::from(gb) << 30);
    let planned = PlannedDevices {
        n: found.len(),
        bytes: given.or_else(|| found.iter().min().copied()),
    };
    let (plan, unplanned) = CapacityPlan::read(config, planned);
    for model in &unplanned {
        complain(&anyhow::anyhow!("{}: {}", model.id, model.reason));
    }
    say(&plan)?;
    let (_, unproven) = devices::proven(choice, infos.clone());
    if let Some(unproven) = unproven {
        say(&unproven)?;
    }
    Ok(match unplanned.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
