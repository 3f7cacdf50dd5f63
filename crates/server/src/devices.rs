//! Which devices networks run on: what the configuration asks for, and what this machine has.

use std::{fmt, sync::Arc};

use lipsync_engine::{
    Device, EngineError,
    cuda::{self, Cuda, DeviceInfo, DeviceOptions},
};

use crate::config::DeviceChoice;

/// A kind of card on which `tools/gpu-check` has passed.
#[derive(Debug, Clone, Copy)]
struct Card {
    /// As the driver names it, for example `NVIDIA H100 80GB HBM3`.
    name: &'static str,
}

/// The cards that have passed. With [`DeviceChoice::Auto`] no other is used: a kernel that hangs, or a driver that is
/// called wrongly, would take down servers that the CPU serves well. Whoever adds one commits the raw results, as
/// `tools/gpu-check/README.md` says.
const PASSED: &[Card] = &[];

/// The configuration asks for a CUDA device that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "engine.device asks for {choice}, but {reason}; with auto or cpu the server runs on the CPU"
)]
pub struct DeviceRefused {
    /// What was asked for.
    pub choice: DeviceChoice,
    /// What is missing, as a sentence.
    pub reason: String,
}

/// The CUDA devices to be used; none: the CPU.
///
/// With [`DeviceChoice::Auto`] the log says why a device is not used: a warning, unless there is no driver
/// either.
///
/// # Errors
/// [`DeviceRefused`] where CUDA is asked for and there is not a single device that can be used.
pub fn open(choice: DeviceChoice, how: &DeviceOptions) -> Result<Vec<Arc<Cuda>>, DeviceRefused> {
    let found = match choice {
        DeviceChoice::Cpu => return Ok(Vec::new()),
        _ => cuda::Devices::discover(),
    };
    let found = match found {
        Ok(found) => {
            let (proven, unproven) = proven(choice, found);
            if let Some(unproven) = unproven {
                if proven.iter().all(|info| info.unusable().is_some()) {
                    tracing::warn!("networks run on the CPU: {unproven}");
                    return Ok(Vec::new());
                }
                tracing::warn!("{unproven}");
            }
            Ok(proven)
        }
        Err(error) => Err(error),
    };
    choose(choice, found, |ordinal| Cuda::open(ordinal, how.clone()))
}

/// Of the devices that are there, those that may be used; and why the others that could be are not, if there are
/// any.
#[must_use]
pub fn proven(choice: DeviceChoice, found: Vec<DeviceInfo>) -> (Vec<DeviceInfo>, Option<String>) {
    among(choice, found, PASSED)
}

fn among(
    choice: DeviceChoice,
    found: Vec<DeviceInfo>,
    passed: &[Card],
) -> (Vec<DeviceInfo>, Option<String>) {
    if choice != DeviceChoice::Auto {
        return (found, None);
    }
    let has_passed = |info: &DeviceInfo| passed.iter().any(|card| card.name == info.name);
    // One that cannot be used anyway is told of with its own reason.
    let (proven, unproven): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|info| has_passed(info) || info.unusable().is_some());
    let names: Vec<_> = unproven
        .iter()
        .map(|info| format!("cuda:{} ({})", info.ordinal, info.name))
        .collect();
    let said = (!names.is_empty()).then(|| {
        let (names, is) = match &*names {
            [one] => (one.clone(), "is"),
            several => (several.join(", "), "are"),
        };
        format!(
            "{names} {is} not used, because tools/gpu-check has not passed on that kind of card; to use it, run \
             tools/gpu-check first, then set engine.device: cuda"
        )
    });
    (proven, said)
}

fn choose(
    choice: DeviceChoice,
    found: Result<Vec<DeviceInfo>, EngineError>,
    open: impl Fn(u32) -> Result<Arc<Cuda>, EngineError>,
) -> Result<Vec<Arc<Cuda>>, DeviceRefused> {
    let refused = |reason| DeviceRefused { choice, reason };
    let mut opened = Vec::new();
    let mut reasons = Vec::new();
    match found {
        // Most servers: nothing is wrong there.
        Err(EngineError::NoDriver) if choice == DeviceChoice::Auto => {
            tracing::info!("no NVIDIA driver: networks run on the CPU engine");
            return Ok(opened);
        }
        Err(error) => reasons.push(error.to_string()),
        Ok(found) => {
            let is_wanted = |info: &&DeviceInfo| match choice {
                DeviceChoice::CudaAt(ordinal) => info.ordinal == ordinal,
                _ => true,
            };
            let wanted: Vec<_> = found.iter().filter(is_wanted).collect();
            if let ([], DeviceChoice::CudaAt(ordinal)) = (&*wanted, choice) {
                let n = found.len();
                reasons.push(format!(
                    "there is no device {ordinal}: this machine shows {n}, counted from 0"
                ));
            }
            for info in wanted {
                match info
                    .unusable()
                    .map_or_else(|| open(info.ordinal), unavailable)
                {
                    Ok(cuda) => opened.push(cuda),
                    Err(error) => reasons.push(error.to_string()),
                }
            }
        }
    }
    let reason = reasons.join("; ");
    match (opened.is_empty(), choice) {
        (false, _) if reason.is_empty() => {}
        (false, _) => tracing::warn!("not every CUDA device is used: {reason}"),
        (true, DeviceChoice::Auto) => tracing::warn!("networks run on the CPU: {reason}"),
        (true, _) => return Err(refused(reason)),
    }
    Ok(opened)
}

fn unavailable(reason: String) -> Result<Arc<Cuda>, EngineError> {
    Err(EngineError::DeviceUnavailable { reason })
}

/// The device of each of `n_workers`, in turn; at least one worker for every device.
#[must_use]
pub fn of_workers(devices: &[Device], n_workers: usize) -> Vec<Device> {
    let n_workers = n_workers.max(devices.len());
    devices.iter().copied().cycle().take(n_workers).collect()
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda => f.write_str("cuda"),
            Self::CudaAt(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use lipsync_engine::cuda::FakeDevice;

    use super::*;

    fn info(ordinal: u32, major: u32) -> DeviceInfo {
        DeviceInfo {
            compute_capability: (major, 0),
            ..FakeDevice::new(ordinal, 1 << 30).open().info().clone()
        }
    }

    fn open_fake(ordinal: u32) -> Result<Arc<Cuda>, EngineError> {
        match ordinal {
            9 => unavailable("cuda:9 does not open".into()),
            _ => Ok(FakeDevice::new(ordinal, 1 << 30).open()),
        }
    }

    fn ordinals(choice: DeviceChoice, found: Vec<DeviceInfo>) -> Result<Vec<u32>, String> {
        let chosen = choose(choice, Ok(found), open_fake).map_err(|e| e.to_string())?;
        Ok(chosen.iter().map(|cuda| cuda.info().ordinal).collect())
    }

    #[test]
    fn every_device_that_can_be_used_is() {
        use DeviceChoice::{Auto, Cuda, CudaAt};
        let found = || vec![info(0, 9), info(1, 7), info(2, 8), info(9, 9)];
        for choice in [Auto, Cuda] {
            assert_eq!(ordinals(choice, found()), Ok(vec![0, 2]));
        }
        assert_eq!(ordinals(CudaAt(2), found()), Ok(vec![2]));
    }

    #[test]
    fn without_one_auto_means_the_cpu_and_the_rest_is_refused_in_words() {
        use DeviceChoice::{Auto, Cpu, Cuda, CudaAt};
        let none = || EngineError::DeviceUnavailable {
            reason: "there is no driver here".into(),
        };
        for error in [none(), EngineError::NoDriver] {
            assert!(choose(Auto, Err(error), open_fake).unwrap().is_empty());
        }
        let refusal = choose(Cuda, Err(EngineError::NoDriver), open_fake).unwrap_err();
        assert!(refusal.to_string().contains("install the NVIDIA driver"));
        assert!(open(Cpu, &DeviceOptions::default()).unwrap().is_empty());
        let refusal = choose(Cuda, Err(none()), open_fake)
            .unwrap_err()
            .to_string();
        for words in ["engine.device asks for cuda", "no driver", "auto or cpu"] {
            assert!(refusal.contains(words), "{words} in {refusal}");
        }
        let refusal = |choice, found| ordinals(choice, found).unwrap_err();
        assert!(refusal(CudaAt(4), vec![info(0, 9)]).contains("shows 1"));
        assert!(refusal(Cuda, vec![info(1, 7)]).contains("8.0"));
        let both = refusal(Cuda, vec![info(1, 7), info(9, 9)]);
        assert!(
            both.contains("8.0") && both.contains("does not open"),
            "{both}"
        );
        assert_eq!(ordinals(Auto, vec![info(1, 7)]), Ok(vec![]));
    }

    #[test]
    fn auto_names_the_devices_that_it_leaves_alone() {
        use DeviceChoice::{Auto, Cuda};
        let (proven, said) = proven(Auto, vec![info(0, 9), info(1, 7), info(2, 8)]);
        let said = said.unwrap();
        for words in [
            "cuda:0 (fake CUDA device), cuda:2 (fake CUDA device) are not used",
            "set engine.device: cuda",
        ] {
            assert!(said.contains(words), "{words} in {said}");
        }
        // With its own reason.
        assert_eq!(proven.len(), 1);
        let (_, said) = super::proven(Auto, vec![info(4, 9)]);
        assert!(said.unwrap().contains("device) is not used"));
        assert_eq!(super::proven(Auto, vec![info(1, 7)]).1, None);
        let (proven, said) = super::proven(Cuda, vec![info(0, 9)]);
        assert_eq!((proven.len(), said), (1, None));
    }

    #[test]
    fn auto_uses_the_cards_that_have_passed_and_no_other() {
        let card = |name: &str| DeviceInfo {
            name: name.into(),
            ..info(0, 9)
        };
        let passed = [Card {
            name: "NVIDIA H100 80GB HBM3",
        }];
        let found = vec![card("NVIDIA H100 80GB HBM3"), card("NVIDIA H100 PCIe")];
        let (proven, said) = among(DeviceChoice::Auto, found, &passed);
        assert_eq!((proven.len(), &*proven[0].name), (1, passed[0].name));
        assert!(said.unwrap().contains("(NVIDIA H100 PCIe) is not used"));
        let (_, said) = among(DeviceChoice::Auto, vec![card(passed[0].name)], &passed);
        assert_eq!(said, None);
    }

    #[test]
    fn workers_are_dealt_to_devices_in_turn() {
        let [a, b] = [Device::Cuda(0), Device::Cuda(1)];
        assert_eq!(of_workers(&[a, b], 5), [a, b, a, b, a]);
        assert_eq!(of_workers(&[a, b], 1), [a, b], "none is left without");
        assert_eq!(of_workers(&[Device::Cpu], 2), [Device::Cpu; 2]);
    }
}
