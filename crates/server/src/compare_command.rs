//! `lipsync-server compare-precision`: whether models are good enough in bf16, int16 and int8.

use std::{fmt::Write as _, num::NonZeroU32, path::Path, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use lipsync_core::ModelId;
use lipsync_engine::{Int8Kind, LoadOptions, Precision, Steps, load_generator};
use lipsync_registry::{
    Figures, MixedFigures, Model, PrecisionChoice, Registry, RegistryConfig, Verdict,
};
use lipsync_server::{
    CpuLoader,
    comparison::{AudioSource, Comparison, Reference},
};

use crate::{
    command_line::{complain, load, models_named, say},
    int8_steps,
};

/// Compares the named models, or all. Exits with 1 if one of them cannot be compared, or its verdict not
/// written. A bad verdict is a result, too.
pub fn compare_precision(
    file: &Path,
    names: &[String],
    n_frames: NonZeroU32,
) -> anyhow::Result<ExitCode> {
    let config = load(file)?;
    config.make_cache_dir()?;
    let ids = models_named(&config, names)?;
    let command = Command {
        registry: in_f32(config.registry),
        options: LoadOptions {
            isa: config.engine.cpu_isa,
            limits: config.engine.limits,
            ..LoadOptions::default()
        },
        n_frames,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut code = ExitCode::SUCCESS;
    for id in &ids {
        match runtime.block_on(command.compare(id)) {
            Ok(report) => say(&report)?,
            Err(error) => {
                complain(&error.context(id.to_string()));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// The configuration of a registry that loads models for nothing but this.
fn in_f32(mut config: RegistryConfig) -> RegistryConfig {
    config.precision = PrecisionChoice::F32;
    for model in &mut config.models {
        model.precision = None;
    }
    config.bake = false;
    config.preload_frames = 0;
    config
}

struct Command {
    registry: RegistryConfig,
    /// For the generators that are compared, but for their precision.
    options: LoadOptions,
    n_frames: NonZeroU32,
}

impl Command {
    /// Compares one model and writes the verdict; what to tell the user.
    async fn compare(&self, id: &ModelId) -> anyhow::Result<String> {
        let loader = CpuLoader::new(self.options.isa, 0).limited(self.options.limits);
        let loader = Arc::new(loader);
        let registry = Registry::new(self.registry.clone(), loader);
        let loaded = registry.load(id).await;
        let model = loaded
            .map_err(|error| anyhow::anyhow!(error.detail()))?
            .model;
        let path = model.generator_path();
        // It was found to lie where it may.
        let onnx = registry.read_generator(id);
        let onnx = onnx.map_err(|error| anyhow::anyhow!(error.detail()))?;
        let reference = Reference::new(&model, usize::try_from(self.n_frames.get())?)?;
        let compare = |precision| -> anyhow::Result<Comparison> {
            let options = LoadOptions {
                precision,
                ..self.options.clone()
            };
            let other = load_generator(&onnx, options)?;
            Ok(reference.compare(&*other, usize::MAX)?)
        };
        let (bf16, int16) = (compare(Precision::Bf16)?, compare(Precision::Int16)?);
        // All kinds, on whatever this CPU has: the file may go to another, and the integers are the same.
        let int8 = |kind| -> anyhow::Result<MixedFigures> {
            let int8 = int8_steps::choose(&onnx, kind, &self.options, &reference)?;
            Ok(MixedFigures {
                figures: self.figures(&int8.found),
                n_steps: int8.n_steps,
                steps: int8.steps,
                percent_of_macs: int8.percent_of_macs,
            })
        };
        let isa = self.options.isa.resolve()?;
        let verdict = Verdict {
            generator_sha256: Verdict::hash(&onnx),
            engine: env!("CARGO_PKG_VERSION").into(),
            kernels: isa.name().into(),
            bf16: self.figures(&bf16),
            int16: Some(self.figures(&int16)),
            int8: Some(int8(Int8Kind::Narrow)?),
            int8_vnni: Some(int8(Int8Kind::Full)?),
            // Where bf16 is emulated, it would take minutes, for other machines.
            int8_bf16: match isa.has_bf16() {
                true => Some(int8(Int8Kind::FullBf16)?),
                false => None,
            },
        };
        let report = report(&model, bf16.audio, &verdict);
        let cache_dir = self.registry.cache_dir.as_deref();
        let written = verdict.write(path, cache_dir).with_context(|| {
            format!(
                "{report}\n  but neither the folder of {} nor a cache_dir is writable",
                path.display()
            )
        })?;
        Ok(format!("{report}\n  written to {}", written.display()))
    }

    fn figures(&self, found: &Comparison) -> Figures {
        Figures {
            frames: self.n_frames.get(),
            psnr_mean_db: rounded(found.psnr_mean_db(), 1e2),
            psnr_min_db: rounded(found.psnr_min_db(), 1e2),
            relative_l2: rounded(found.relative_l2, 1e6),
        }
    }
}

/// Rounded down to `1 / parts`, so that nothing reaches a limit by rounding.
fn rounded(x: f64, parts: f64) -> f64 {
    (x * parts).floor() / parts
}

fn of_kind(kind: Int8Kind) -> Precision {
    Precision::Int8(kind, Steps::ALL)
}

fn report(model: &Model, audio: AudioSource, verdict: &Verdict) -> String {
    let audio = match audio {
        AudioSource::Encoder => "speech-like sound through its audio encoder",
        AudioSource::Random => "random features, because it has no audio encoder",
    };
    let mut text = format!(
        "{}: {} frames over {} backgrounds, with {audio}, on {}\n  \
         (the worst must reach {} dB of PSNR against f32, in int8 also the mean {} dB)",
        model.id(),
        verdict.bf16.frames,
        model.n_frames(),
        verdict.kernels,
        Verdict::REQUIRED_DB,
        Verdict::REQUIRED_MEAN_DB,
    );
    for (precision, cpus) in [
        (Precision::Bf16, "with instructions for it"),
        (Precision::Int16, "with VNNI, or AVX2 and no AVX-512"),
        (
            of_kind(Int8Kind::Narrow),
            "with AVX2 and no AVX-512 or VNNI",
        ),
        (of_kind(Int8Kind::Full), "with VNNI"),
        (of_kind(Int8Kind::FullBf16), "with both"),
    ] {
        let Some(figures) = verdict.figures(precision) else {
            continue;
        };
        let name = match precision {
            Precision::Int8(kind, _) => format!("int8 for {kind}"),
            other => other.to_string(),
        };
        let meaning = if verdict.is_good(precision) {
            format!("good: `precision: auto` may use {name} on CPUs {cpus}")
        } else {
            format!("not good: `precision: auto` does not use {name}")
        };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n  {name}: mean {:.2} dB, worst {:.2} dB, relative L2 {:.2e}; {meaning}",
            figures.psnr_mean_db, figures.psnr_min_db, figures.relative_l2,
        );
    }
    for kind in Int8Kind::ALL {
        let Some(int8) = verdict.int8(kind) else {
            continue;
        };
        let others = match kind {
            Int8Kind::FullBf16 => "bf16",
            Int8Kind::Narrow | Int8Kind::Full => "int16",
        };
        let _ = write!(
            text,
            "\n  (int8 for {kind} in {} of {} steps, {} % of the multiplications; the others stay in {others})",
            int8.steps.len(),
            int8.n_steps,
            int8.percent_of_macs,
        );
    }
    text
}
