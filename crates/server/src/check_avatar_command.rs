//! `lipsync-server check-avatar`: all that is wrong with an avatar, and how it speaks.

use std::{path::Path, process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lipsync::wav::Wav;
use lipsync_core::{Foreign, ModelId};
use lipsync_registry::{
    FilesReport, Findings, Model, ModelConfig, ModelSource, Registry, Severity, check_files,
};
use lipsync_server::{
    Config, CpuLoader,
    avatar_check::{
        show::{self, Folder},
        sound::Speech,
        speak,
        trial::Trial,
    },
};

use crate::command_line::{CheckAvatar, load_or_default, say};

/// The largest recording that is read.
const MAX_WAV_BYTES: u64 = 256 << 20;
/// What a folder is called whose name can be no id.
const NAMELESS: &str = "avatar";
/// Shown on a terminal only.
const BAR: &str = "{prefix} {msg:8} {wide_bar} {pos}/{len} {eta}";

/// Checks one avatar. Exits with 1 if it has an error.
pub fn check_avatar(file: &Path, arguments: CheckAvatar) -> anyhow::Result<ExitCode> {
    let config = load_or_default(file)?;
    let model = model(&config, file, &arguments)?;
    let speech = speech(arguments.audio.as_deref())?;
    let out = arguments.out.as_deref().map(Folder::create).transpose()?;
    let n_errors = Check { config, speech }.run(&model, out)?;
    Ok(if n_errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Checks all configured models; how many errors there are.
pub fn check_models(config: Config) -> anyhow::Result<usize> {
    let models = config.registry.models.clone();
    let check = Check {
        config,
        speech: Speech::built_in(),
    };
    let models = models.iter();
    let n_errors: anyhow::Result<Vec<usize>> = models.map(|model| check.run(model, None)).collect();
    Ok(n_errors?.into_iter().sum())
}

/// `1 error`, `2 errors`.
fn counted(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

fn model(config: &Config, file: &Path, arguments: &CheckAvatar) -> anyhow::Result<ModelConfig> {
    let name = &arguments.avatar;
    let encoder = arguments.audio_encoder.clone();
    let configured = config
        .registry
        .models
        .iter()
        .find(|m| m.id.as_str() == name);
    if let Some(model) = configured {
        return Ok(ModelConfig {
            audio_encoder: encoder.or_else(|| model.audio_encoder.clone()),
            ..model.clone()
        });
    }
    let folder = Path::new(name);
    if !folder.is_dir() {
        let read = if file.exists() {
            ""
        } else {
            ", which does not exist"
        };
        bail!(
            "{}: neither a folder nor the id of a model in {}{read}",
            Foreign(name),
            file.display()
        );
    }
    let folder = std::path::absolute(folder)?;
    let id = folder
        .file_name()
        .and_then(|name| ModelId::new(name.to_str()?).ok());
    Ok(ModelConfig {
        id: id.map_or_else(|| ModelId::new(NAMELESS), Ok)?,
        source: ModelSource::Folder(folder),
        audio_kind: None,
        fps: None,
        audio_encoder: encoder,
        precision: None,
        preload: false,
        follow_links: false,
    })
}

fn speech(audio: Option<&Path>) -> anyhow::Result<Speech> {
    let Some(path) = audio else {
        return Ok(Speech::built_in());
    };
    let wav = Wav::open_within(path, MAX_WAV_BYTES);
    let wav = wav.with_context(|| format!("cannot use --audio {}", path.display()))?;
    Ok(Speech::of(wav))
}

struct Check {
    config: Config,
    speech: Speech,
}

impl Check {
    /// Checks a model and prints what was found; how many errors there are.
    fn run(&self, model: &ModelConfig, mut out: Option<Folder>) -> anyhow::Result<usize> {
        let bar = progress_bar(&model.id);
        bar.set_message("reading");
        let report = check_files(model, self.config.registry.max_frames, &|n, of| {
            bar.set_length(of as u64);
            bar.set_position(n as u64);
        });
        let mut lines = vec![heading(model, &report)];
        let mut findings = report.findings.clone();
        if let (Some(out), Some(size)) = (&mut out, report.size) {
            show::rectangles(out, &report.frames, size)?;
        }
        match self.load(model) {
            Ok(loaded) => self.speak(&loaded, (&mut lines, &mut findings), out.as_mut(), &bar)?,
            // Most of what keeps a model from loading was found in its files.
            Err(text) if findings.count(Severity::Error) == 0 => {
                findings.add(Severity::Error, text)
            }
            Err(_) => lines.push("it does not load, so it was not heard".into()),
        }
        bar.finish_and_clear();
        lines.extend(
            out.iter()
                .flat_map(|out| &out.written)
                .map(|path| format!("wrote {}", path.display())),
        );
        lines.extend(findings.list().iter().map(ToString::to_string));
        let count = |severity| findings.count(severity);
        let (n_errors, n_warnings) = (count(Severity::Error), count(Severity::Warning));
        lines.push(match (n_errors, n_warnings) {
            (0, 0) => "good".into(),
            (0, n) => format!("good, with {}", counted(n, "warning")),
            (n, _) => format!(
                "not good: {}, {}",
                counted(n, "error"),
                counted(n_warnings, "warning")
            ),
        });
        say(&lines.join("\n  "))?;
        Ok(n_errors)
    }

    /// Loads a model as the server would, but for what it bakes and preloads.
    fn load(&self, model: &ModelConfig) -> Result<Arc<Model>, String> {
        let engine = &self.config.engine;
        let loader = CpuLoader::new(engine.cpu_isa, engine.visual_cache_bytes);
        let mut registry = self.config.registry.clone();
        registry.models = vec![model.clone()];
        registry.bake = false;
        registry.preload_frames = 0;
        let registry = Registry::new(registry, Arc::new(loader.limited(engine.limits)));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let loaded = runtime.block_on(registry.load(&model.id));
        loaded
            .map(|lease| lease.model)
            .map_err(|error| error.detail())
    }

    fn speak(
        &self,
        model: &Model,
        (lines, findings): (&mut Vec<String>, &mut Findings),
        out: Option<&mut Folder>,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        bar.set_message("speaking");
        let trial = Trial::new(model, &self.speech)?;
        let spoken = speak(model, &trial, &self.speech)?;
        lines.push(format!(
            "runs in {}: {}",
            model.precision().name(),
            model.precision().reason
        ));
        lines.extend(spoken.to_string().lines().map(str::to_owned));
        if self.speech.is_cut && trial.hears_speech {
            lines.push("of the recording the first 30 s were used".into());
        }
        findings.extend(spoken.findings);
        let Some(out) = out else { return Ok(()) };
        show::spoken(out, &trial.walk(&spoken.places)?)?;
        if trial.hears_speech {
            bar.set_message("filming");
            bar.set_length(trial.n_frames() as u64);
            bar.set_position(0);
            show::film(out, (&trial, model), &self.speech, &|n| bar.inc(n as u64))?;
        }
        Ok(())
    }
}

fn heading(model: &ModelConfig, report: &FilesReport) -> String {
    let mut text = model.id.to_string();
    if let ModelSource::Folder(folder) = &model.source {
        text = format!("{text}: {}", folder.display());
    }
    if let Some((region_px, audio)) = report.networks.generator {
        let gmac = report.networks.macs / 10_000_000;
        let (whole, hundredths) = (gmac / 100, gmac % 100);
        text = format!(
            "{text}\n  generator of {region_px}-pixel faces with {audio} audio, {whole}.{hundredths:02} GMAC a frame"
        );
    }
    if let Some((width, height)) = report.size {
        let n_paired = report
            .frames
            .iter()
            .filter(|frame| frame.rect.is_some())
            .count();
        let n_frames = report.frames.len();
        text = format!(
            "{text}\n  {n_frames} frames of {width}x{height}, {n_paired} with a crop rectangle"
        );
    }
    text
}

fn progress_bar(id: &ModelId) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(BAR) {
        bar.set_style(style);
    }
    bar.with_prefix(id.to_string())
}
