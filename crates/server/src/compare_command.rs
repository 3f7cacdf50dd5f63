//! `lipsync-server compare-precision`: whether models are good enough in bf16.

use std::{num::NonZeroU32, path::Path, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use lipsync_core::ModelId;
use lipsync_engine::{LoadOptions, Precision, load_generator};
use lipsync_registry::{Model, PrecisionChoice, Registry, RegistryConfig, Verdict};
use lipsync_server::{
    CpuLoader,
    comparison::{AudioSource, Comparison, compare},
};

use crate::command_line::{complain, load, models_named, say};

/// Compares the named models, or all. Exits with 1 if one of them cannot be compared, or its verdict not
/// written. A bad verdict is a result, too.
pub fn compare_precision(
    file: &Path,
    names: &[String],
    n_frames: NonZeroU32,
) -> anyhow::Result<ExitCode> {
    let config = load(file)?;
    let ids = models_named(&config, names)?;
    let command = Command {
        registry: in_f32(config.registry),
        options: LoadOptions {
            isa: config.engine.cpu_isa,
            precision: Precision::Bf16,
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
    /// For the generator in bf16.
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
        let bf16 = load_generator(&onnx, self.options.clone())?;
        let n_frames = usize::try_from(self.n_frames.get())?;
        let found = compare(&model, (&**model.generator(), &*bf16), n_frames)?;
        let verdict = self.verdict(&onnx, &found)?;
        let cache_dir = self.registry.cache_dir.as_deref();
        let written = verdict.write(path, cache_dir).with_context(|| {
            format!(
                "{}\n  but neither the folder of {} nor a cache_dir is writable",
                report(&model, &found, &verdict),
                path.display()
            )
        })?;
        let report = report(&model, &found, &verdict);
        Ok(format!("{report}\n  written to {}", written.display()))
    }

    fn verdict(&self, onnx: &[u8], found: &Comparison) -> anyhow::Result<Verdict> {
        Ok(Verdict {
            generator_sha256: Verdict::hash(onnx),
            engine: env!("CARGO_PKG_VERSION").into(),
            kernels: self.options.isa.resolve()?.name().into(),
            frames: self.n_frames.get(),
            psnr_mean_db: rounded(found.psnr_mean_db(), 1e2),
            psnr_min_db: rounded(found.psnr_min_db(), 1e2),
            relative_l2: rounded(found.relative_l2, 1e6),
        })
    }
}

/// Rounded down to `1 / parts`, so that nothing reaches a limit by rounding.
fn rounded(x: f64, parts: f64) -> f64 {
    (x * parts).floor() / parts
}

fn report(model: &Model, found: &Comparison, verdict: &Verdict) -> String {
    let audio = match found.audio {
        AudioSource::Encoder => "speech-like sound through its audio encoder",
        AudioSource::Random => "random features, because it has no audio encoder",
    };
    let meaning = if verdict.is_good() {
        "good: `precision: auto` uses bf16 on CPUs with instructions for it"
    } else {
        "not good: `precision: auto` stays with f32"
    };
    format!(
        "{}: {} frames over {} backgrounds, with {audio}, on {}\n  \
         PSNR of bf16 against f32: mean {:.2} dB, worst {:.2} dB (the worst must reach {})\n  \
         relative L2: {:.2e}\n  {meaning}",
        model.id(),
        verdict.frames,
        model.n_frames(),
        verdict.kernels,
        verdict.psnr_mean_db,
        verdict.psnr_min_db,
        Verdict::REQUIRED_DB,
        verdict.relative_l2,
    )
}
