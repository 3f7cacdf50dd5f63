//! What can go wrong with models on disk and in memory.

mod detail;

use std::{io, path::PathBuf, sync::Arc};

use lipsync_core::{CropRect, ModelId};
use lipsync_engine::{EngineError, Shortage};

use crate::{MAX_FPS, PackFault, system_words::InWords};

/// An error of the registry; cloned to everyone who waited for the same load or frame.
///
/// `Display` is fit for clients and names no path; [`RegistryError::detail`] adds what an operator
/// needs.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// No model of this name is configured.
    #[error("unknown model {id}")]
    UnknownModel {
        /// The name asked for.
        id: ModelId,
    },
    /// The model was taken out of the configuration while it was being loaded.
    #[error("model {id} was removed from the configuration while it was loading")]
    Removed {
        /// The model.
        id: ModelId,
    },
    /// A file cannot be read.
    #[error("the {what} cannot be read: {}", InWords(*kind))]
    File {
        /// Which file.
        what: &'static str,
        /// What the system said.
        kind: io::ErrorKind,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file is larger than any such file should be.
    #[error("the file of the {what} is larger than {limit_bytes} bytes")]
    FileTooLarge {
        /// Which file.
        what: &'static str,
        /// The most that is read.
        limit_bytes: u64,
        /// Where it is.
        path: PathBuf,
    },
    /// A file is text, but not in UTF-8.
    #[error("the {what} must be UTF-8 text, but it is {found}: save it as UTF-8")]
    Encoding {
        /// Which file.
        what: &'static str,
        /// What it is instead.
        found: &'static str,
        /// Where it is.
        path: PathBuf,
    },
    /// The weights of a network are in a file that cannot be read.
    #[error(
        "the weights of the {what} are in the file \"{name}\", which cannot be read beside it ({}): copy both \
         files into one folder, or export again with torch.onnx.export(..., external_data=False)",
        InWords(*kind)
    )]
    DataFile {
        /// Which network.
        what: &'static str,
        /// The file's name, as it may be shown.
        name: String,
        /// What the system said; permission denied for a link that leads out of the model's folder.
        kind: io::ErrorKind,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A link leads to where the files of the model may not lie.
    #[error(
        "a link leads from the {what} out of the model's folder, which follow_links: true in its configuration allows"
    )]
    Outside {
        /// Which file or folder.
        what: &'static str,
        /// The link.
        path: PathBuf,
    },
    /// A folder has more entries than any such folder should have.
    #[error("the folder of the {what} has more than {limit} entries")]
    TooManyEntries {
        /// Which folder.
        what: &'static str,
        /// The most that are looked at.
        limit: usize,
        /// Where it is.
        path: PathBuf,
    },
    /// `avatar.yaml` cannot be understood.
    #[error("avatar.yaml is invalid at line {line}, column {column}")]
    Manifest {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What was expected; may quote the file.
        reason: String,
        /// Where it is.
        path: PathBuf,
    },
    /// A path in `avatar.yaml` is absolute or leaves the model's folder.
    #[error("avatar.yaml: {key} must be a relative path inside the model's folder")]
    ManifestPath {
        /// The key of the path.
        key: &'static str,
        /// Where the manifest is.
        path: PathBuf,
    },
    /// A folder without manifest lacks what the known layouts have.
    #[error("the model's folder has no avatar.yaml and no {expected}")]
    Layout {
        /// What was looked for.
        expected: &'static str,
        /// The folder.
        path: PathBuf,
    },
    /// Neither the configuration nor a manifest says how the audio is encoded, and the network does not show it.
    #[error(
        "the model's audio_kind (ave, hubert, wenet or mel) must be configured: no kind has the windows {found:?} that its \
         generator reads"
    )]
    AudioKindMissing {
        /// `[C, H, W]` of the windows.
        found: [usize; 3],
    },
    /// A model cannot have so many frames per second, or none.
    #[error("the model's fps must be 1 to {MAX_FPS}, not {fps}")]
    Fps {
        /// What was asked for.
        fps: u32,
    },
    /// The audio encoder makes feature steps at another rate than the model has frames.
    #[error(
        "the model's fps must be {step_fps}, not {fps}: its audio encoder makes {step_fps} feature steps a second"
    )]
    EncoderFps {
        /// What was asked for.
        fps: u32,
        /// Feature steps a second.
        step_fps: u32,
    },
    /// The rectangles cannot be understood.
    #[error("the crop rectangles are invalid: {reason}")]
    Rectangles {
        /// What is wrong, and where in the file.
        reason: String,
        /// What the parser says, which may quote the file: for the log.
        quoted: Option<String>,
        /// The file.
        path: PathBuf,
    },
    /// There are fewer rectangles than frames.
    #[error("{n_frames} background frames but only {n_rectangles} crop rectangles")]
    RectangleCount {
        /// Rectangles found.
        n_rectangles: usize,
        /// Frames in use.
        n_frames: usize,
    },
    /// Rectangles carry the numbers of other frames.
    #[error(
        "background frames are numbered {first_frame} to {last_frame}, but their {n_rectangles} crop \
         rectangles from {first} on"
    )]
    RectangleNumbers {
        /// Number of the first frame in use.
        first_frame: u64,
        /// And of the last.
        last_frame: u64,
        /// Number of the first rectangle.
        first: u64,
        /// Rectangles found.
        n_rectangles: usize,
    },
    /// All rectangles make sense in another order of numbers only.
    #[error(
        "the crop rectangles must be [x1, y1, x2, y2], but their numbers make squares on the frame only as {order}"
    )]
    RectangleOrder {
        /// The order; where several fit, all.
        order: String,
    },
    /// A rectangle cannot be that of a face.
    #[error("crop rectangle {index} ({rect:?}) {reason}")]
    RectangleShape {
        /// The frame's index.
        index: usize,
        /// The rectangle as written.
        rect: CropRect,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A rectangle has no pixel on its frame.
    #[error("crop rectangle {index} ({rect:?}) lies outside the {width}x{height} frame")]
    RectangleOffFrame {
        /// The frame's index.
        index: usize,
        /// The rectangle as written.
        rect: CropRect,
        /// The frame's width, px.
        width: usize,
        /// The frame's height, px.
        height: usize,
    },
    /// The configuration counts on more frames than there are.
    #[error("{configured} background frames are configured but only {found} exist")]
    MissingFrames {
        /// Frames that the configuration asks for.
        configured: u32,
        /// Frames in the folder.
        found: usize,
    },
    /// There are more frames than one model may have.
    #[error("the model has {n_frames} background frames, capacity.max_frames allows {max_frames}")]
    TooManyFrames {
        /// Frames in use.
        n_frames: usize,
        /// The limit.
        max_frames: usize,
    },
    /// There is not a single frame.
    #[error("the model has no background frames")]
    NoFrames,
    /// Numbered pictures are there, but in another format.
    #[error(
        "the background frames must be PNG or JPEG files, but those in their folder are {found}: convert them"
    )]
    OtherFrames {
        /// Their format.
        found: &'static str,
        /// The folder.
        path: PathBuf,
    },
    /// The numbers in a folder's file names do not follow each other.
    #[error("the {what} are not numbered one after the other: {reason}")]
    Numbering {
        /// Which files.
        what: &'static str,
        /// The first place where they are not.
        reason: String,
        /// The folder.
        path: PathBuf,
    },
    /// A frame does not have the size of the first one.
    #[error("background frame {index} is {found_width}x{found_height}, not {width}x{height}")]
    FrameSize {
        /// The frame's index.
        index: usize,
        /// Its width, px.
        found_width: usize,
        /// Its height, px.
        found_height: usize,
        /// The model's width, px.
        width: usize,
        /// The model's height, px.
        height: usize,
    },
    /// A frame's file is another one than when the model was loaded.
    #[error(
        "background frame {index} has changed since the model was loaded: unload the model and load it again"
    )]
    FrameChanged {
        /// The frame's index.
        index: usize,
        /// Its file.
        path: PathBuf,
    },
    /// The file of a frame cannot be read.
    #[error("background frame {index} cannot be read: {}", InWords(*kind))]
    FrameFile {
        /// The frame's index.
        index: usize,
        /// What the system said.
        kind: io::ErrorKind,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A frame cannot be decoded.
    #[error("background frame {index} cannot be decoded: {reason}")]
    Frame {
        /// The frame's index.
        index: usize,
        /// What the decoder said.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// A frame was asked for that the model does not have.
    #[error("background frame {index} asked for, the model has {n_frames}")]
    FrameIndex {
        /// The index asked for.
        index: u32,
        /// Frames of the model.
        n_frames: u32,
    },
    /// A pack could not be baked. While serving this is no error: frames are made from their files.
    #[error("the pack: {fault}")]
    Pack {
        /// Why not.
        fault: PackFault,
        /// Where it is to be.
        path: PathBuf,
    },
    /// The engine does not take a network.
    #[error("the {what}: {source}")]
    Network {
        /// Which network.
        what: &'static str,
        /// What the engine said.
        source: Arc<EngineError>,
    },
    /// The numbers that a generator writes are no picture.
    #[error(
        "the generator writes numbers from {min} to {max} for the first background frame, {:.0} % of them outside 0..1: \
         export it with what follows it in its project (a sigmoid, or x / 255), or set cut_output: true in avatar.yaml",
        100.0 * outside
    )]
    OutputRange {
        /// The least number.
        min: f32,
        /// The largest.
        max: f32,
        /// The share of numbers outside.
        outside: f32,
    },
    /// Silence cannot be generated, since nobody here knows its features.
    #[error(
        "rest: generated in avatar.yaml needs an audio encoder, which makes the features of silence: name it, or remove the key"
    )]
    RestWithoutEncoder,
    /// A network is not of the kind that its model says.
    #[error("the model does not fit its audio kind: expected {expected}, found {found}")]
    Contract {
        /// What the kind asks for.
        expected: String,
        /// What the network has.
        found: String,
    },
    /// The byte budget is taken by models in use.
    #[error(
        "no memory for the model: it needs {needed} of {budget} bytes, which models in use hold"
    )]
    OutOfMemory {
        /// Bytes of the model's weights, and of what the workers need to run it.
        needed: u64,
        /// Bytes of the whole budget.
        budget: u64,
    },
    /// The model is larger than all that models may have.
    #[error("the model is larger than {limit}: it needs {needed} of {budget} bytes")]
    NeverFits {
        /// Bytes of the model's weights, and of what the workers need to run it.
        needed: u64,
        /// Bytes of the whole budget.
        budget: u64,
        /// What sets the budget.
        limit: &'static str,
    },
    /// As many models as may be in memory are in use.
    #[error("all {max_models} models that may be in memory are in use")]
    TooManyModels {
        /// The limit.
        max_models: usize,
    },
    /// A load or a decode panicked; the registry lives on.
    #[error("internal error: {what} panicked")]
    Panicked {
        /// What was being done.
        what: &'static str,
    },
    /// No thread could be started for a load.
    #[error("internal error: no thread for the load: {kind}")]
    Thread {
        /// What the system said.
        kind: io::ErrorKind,
    },
}

/// Whose fault an error is, for those who map errors to status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Nobody knows such a model.
    UnknownModel,
    /// The model's files are broken; the operator must act.
    BrokenModel,
    /// No room now; trying later may help.
    NoRoom,
    /// The device failed for good.
    DeviceLost,
    /// A mistake of ours.
    Internal,
}

impl Shortage for RegistryError {
    fn missing_bytes(&self) -> Option<u64> {
        match self {
            Self::Network { source, .. } => source.missing_bytes(),
            _ => None,
        }
    }
}

impl RegistryError {
    /// The class of the error.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownModel { .. } | Self::Removed { .. } => ErrorClass::UnknownModel,
            Self::OutOfMemory { .. } | Self::TooManyModels { .. } => ErrorClass::NoRoom,
            Self::Network { source, .. } => match **source {
                EngineError::OutOfMemory { .. } => ErrorClass::NoRoom,
                EngineError::DeviceFault { sticky: true, .. } => ErrorClass::DeviceLost,
                EngineError::Device { .. }
                | EngineError::DeviceFault { .. }
                | EngineError::NoDriver
                | EngineError::DeviceUnavailable { .. } => ErrorClass::Internal,
                _ => ErrorClass::BrokenModel,
            },
            Self::FrameIndex { .. } | Self::Panicked { .. } | Self::Thread { .. } => {
                ErrorClass::Internal
            }
            Self::File { .. }
            | Self::FileTooLarge { .. }
            | Self::Encoding { .. }
            | Self::DataFile { .. }
            | Self::OutputRange { .. }
            | Self::RestWithoutEncoder
            | Self::Manifest { .. }
            | Self::ManifestPath { .. }
            | Self::Layout { .. }
            | Self::AudioKindMissing { .. }
            | Self::Fps { .. }
            | Self::EncoderFps { .. }
            | Self::NeverFits { .. }
            | Self::Outside { .. }
            | Self::TooManyEntries { .. }
            | Self::TooManyFrames { .. }
            | Self::Rectangles { .. }
            | Self::RectangleCount { .. }
            | Self::RectangleNumbers { .. }
            | Self::RectangleOrder { .. }
            | Self::RectangleShape { .. }
            | Self::RectangleOffFrame { .. }
            | Self::MissingFrames { .. }
            | Self::NoFrames
            | Self::OtherFrames { .. }
            | Self::Numbering { .. }
            | Self::FrameSize { .. }
            | Self::FrameChanged { .. }
            | Self::FrameFile { .. }
            | Self::Frame { .. }
            | Self::Pack { .. }
            | Self::Contract { .. } => ErrorClass::BrokenModel,
        }
    }
}
