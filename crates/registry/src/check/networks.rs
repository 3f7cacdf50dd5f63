//! The networks of a model: whether they are read, and whether they fit each other and what is configured.

use std::path::Path;

use lipsync_core::{AudioKind, family::WindowSource};
use lipsync_engine::{Role, inspect};

use super::{Findings, Severity};
use crate::{
    RegistryError,
    fence::Fence,
    layout::{Found, audio_form},
    load, network_file,
};

/// What is known of a model's networks without loading them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworksFound {
    /// Side of the generator's face, px, and the kind of audio that it hears.
    pub generator: Option<(usize, AudioKind)>,
    /// Multiply-accumulates of a frame.
    pub macs: u64,
    /// Whether there is an audio encoder that fits.
    pub has_encoder: bool,
}

pub(super) fn check(found: &Found, fence: &Fence, findings: &mut Findings) -> NetworksFound {
    let mut networks = NetworksFound::default();
    if let Some(path) = &found.generator {
        match role((fence, path), "generator", findings) {
            Some((Role::Generator { region_px, audio }, macs)) => {
                networks.generator = Some((region_px, audio));
                networks.macs = macs;
            }
            Some((role, _)) => {
                let text = format!("expected a generator, found {role}: are two files swapped?");
                findings.add_file(Severity::Error, path, text);
            }
            None => {}
        }
    }
    if let Some(path) = &found.audio_encoder {
        match role((fence, path), "audio encoder", findings) {
            Some((Role::AudioEncoder { audio, .. }, _)) => {
                networks.has_encoder = true;
                check_encoder(audio, path, (networks, &mut *findings));
            }
            Some((role, _)) => {
                let text = format!("expected an audio encoder, found {role}");
                findings.add_file(Severity::Error, path, text);
            }
            None => {}
        }
    }
    let heard = networks.generator.map(|(_, audio)| audio);
    if let (Some(configured), Some(heard)) = (found.audio_kind, heard)
        && configured != heard
    {
        findings.add(
            Severity::Error,
            format!("audio_kind is {configured}, but the generator has the windows of {heard}: remove the key, or change it"),
        );
    }
    if let Some(kind) = heard.or(found.audio_kind) {
        check_audio(kind, found, networks, findings);
    }
    networks
}

/// Whether an encoder makes what the generator hears.
fn check_encoder(
    audio: AudioKind,
    path: &Path,
    (networks, findings): (NetworksFound, &mut Findings),
) {
    if let Some((_, heard)) = networks.generator.filter(|&(_, heard)| heard != audio) {
        let text = format!("an audio encoder of {audio}, but the generator hears {heard}");
        findings.add_file(Severity::Error, path, text);
    }
}

/// What a file serves as, and the multiply-accumulates of a frame.
fn role(
    (fence, path): (&Fence, &Path),
    what: &'static str,
    findings: &mut Findings,
) -> Option<(Role, u64)> {
    let onnx = network_file::read(fence, path, what);
    let inspection = onnx.and_then(|onnx| inspect(&onnx).map_err(|e| load::network(what, e)));
    let inspection = match inspection {
        Ok(inspection) => inspection,
        // Most of these errors do not know the file.
        Err(error) => {
            findings.add_file(Severity::Error, path, error.to_string());
            return None;
        }
    };
    match inspection.serves_as {
        Ok(role) => Some((role, inspection.macs_per_frame)),
        Err(reason) => {
            let mut reasons = inspection.unsupported;
            reasons.push(reason);
            let text = format!("it serves as no {what}: {}", reasons.join("; "));
            findings.add_file(Severity::Error, path, text);
            None
        }
    }
}

/// Whether the server can make what the generator hears.
fn check_audio(kind: AudioKind, found: &Found, networks: NetworksFound, findings: &mut Findings) {
    let form = audio_form(kind);
    let step_fps = form.fps.get();
    let fps = found.fps.unwrap_or(step_fps);
    match form.source {
        WindowSource::Client if found.audio_encoder.is_some() => findings.add(
            Severity::Error,
            format!("an audio encoder is named, but {kind} features are made by clients: remove it"),
        ),
        WindowSource::Mel if found.audio_encoder.is_some() => findings.add(
            Severity::Error,
            format!("an audio encoder is named, but networks of kind {kind} hear the spectrogram itself: remove it"),
        ),
        WindowSource::Mel if fps != step_fps => findings.add(
            Severity::Warning,
            format!("fps is {fps}, but {kind} windows are made {step_fps} times a second: clients can send whole windows only"),
        ),
        WindowSource::Mel => {}
        WindowSource::Client => findings.add(
            Severity::Note,
            format!("a model of audio kind {kind} cannot be driven by sound: clients send whole windows"),
        ),
        WindowSource::Steps(_) if fps != step_fps && networks.has_encoder => {
            findings.add_error(&RegistryError::EncoderFps { fps, step_fps });
        }
        WindowSource::Steps(_) if fps != step_fps => findings.add(
            Severity::Warning,
            format!("fps is {fps}, but {kind} feature steps have {step_fps} a second: clients can send whole windows only"),
        ),
        WindowSource::Steps(_) if found.audio_encoder.is_none() => findings.add(
            Severity::Warning,
            "there is no audio encoder, so clients cannot send sound: name it in audio_encoder (avatar.yaml) or \
             audio_encoder_path (config.yaml)",
        ),
        WindowSource::Steps(_) => {}
    }
}
