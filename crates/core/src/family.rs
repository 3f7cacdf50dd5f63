//! What a family of lip-sync networks is: all that its networks agree on and their files do not say.
//!
//! The engine checks networks against it and packs faces as it says, the audio front-end takes its
//! sizes from it, the registry checks a model's windows and steps, the server asks whether it can make
//! windows at all. A new family is a new value here. What it asks for and nobody can do yet fails to
//! compile: a check stands beside the code that is written for one form only.

use crate::{AudioKind, FaceGeometry, Fps};

/// A family of networks that take the same inputs in the same form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// How messages call it.
    pub name: &'static str,
    /// The squares that its networks work on, the largest first; with masks, rings and filters. No two
    /// families have regions of one size.
    pub faces: &'static [FaceGeometry],
    /// How pixels become numbers and numbers pixels.
    pub pixels: PixelForm,
    /// The kinds of audio that its networks hear.
    pub audio: &'static [AudioForm],
}

/// The form of a network's pictures: `[channels, side, side]` in, `[3, side, side]` out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelForm {
    /// Colours of a picture, input or output.
    pub order: ColourOrder,
    /// What the bytes 0 and 255 become in the input, linearly.
    pub input_range: [i16; 2],
    /// What becomes the bytes 0 and 255 in the output, linearly and rounded down; values outside are
    /// cut off.
    pub output_range: [i16; 2],
}

/// The order of a picture's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColourOrder {
    /// Blue, green, red.
    Bgr,
}

/// How one kind of audio comes to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioForm {
    /// Whose features they are.
    pub kind: AudioKind,
    /// Frames per second that the networks are trained for.
    pub fps: Fps,
    /// `[C, H, W]` of the windows of networks in the wild, the oldest first.
    pub windows: &'static [[usize; 3]],
    /// What a frame's window is made of.
    pub source: WindowSource,
}

/// What the window of a frame is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowSource {
    /// Nobody here knows: clients send whole windows.
    Client,
    /// Feature steps, which clients send or an audio encoder makes of sound.
    Steps(StepForm),
    /// The mel rows from the frame's own time on, as an audio encoder would read them. No network makes
    /// them, and clients send sound or whole windows.
    Mel,
}

/// How windows are made of feature steps, and steps of sound.
///
/// How many steps a window has depends on the network: [`n_steps`](Self::n_steps).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepForm {
    /// Floats of a step.
    pub n_floats: usize,
    /// Steps a second, and so frames: each frame has its own.
    pub fps: Fps,
    /// What the encoder reads.
    pub patch: PatchForm,
    /// Whether a clip's first and last step are there twice. Beyond that, windows hold zeros.
    pub repeats_ends: bool,
}

/// What an audio encoder reads at once: a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchForm {
    /// The mel spectrogram of AVE, `[n_mels, n_rows]`: one step.
    Mel {
        /// Mel bands of a row.
        n_mels: usize,
        /// Rows of a patch, 12.5 ms each.
        n_rows: usize,
    },
    /// The filter banks of Kaldi, `[n_rows, n_bands]`: one step.
    Fbank {
        /// Rows of a patch, 10 ms each.
        n_rows: usize,
        /// Bands of a row.
        n_bands: usize,
    },
    /// Samples at 16 kHz with what is heard around them: several steps.
    Wave {
        /// Steps that the patch reaches back before those that it makes.
        n_left: usize,
        /// Steps that it makes.
        n_steps: usize,
        /// Steps that it reaches ahead behind them.
        n_right: usize,
    },
}

/// Samples of a step of what reads samples.
pub const STEP_SAMPLES: usize = 640;
/// Samples that such a step reaches beyond its own: its last feature is made of 400 samples, 320 after the one before.
pub const STEP_OVERHANG: usize = 80;

/// Why no windows can be made of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSteps {
    /// Clients send whole windows.
    WholeWindows,
    /// Windows are made of sound without any.
    Sound,
    /// Steps are made so many times a second, which is not the model's fps.
    OtherFps(Fps),
}

impl StepForm {
    /// The AVE encoder of SyncTalk_2D. A window of 16 steps is read as `[32, 16, 16]`.
    pub const AVE: Self = Self {
        n_floats: 512,
        fps: Fps::at_least_1(25),
        patch: PatchForm::AVE,
        repeats_ends: true,
    };

    /// The first blocks of wenet's conformer, as Ultralight-Digital-Human runs them: 16 vectors of 512 floats. A
    /// window of 16 steps is read as `[256, 16, 32]`, one of 8 as `[128, 16, 32]`.
    pub const WENET: Self = Self {
        n_floats: 16 * 512,
        fps: Fps::at_least_1(20),
        patch: PatchForm::WENET,
        repeats_ends: false,
    };

    /// The HuBERT encoder of Ultralight-Digital-Human: two vectors of 1,024 floats. A window of 16 steps is read as
    /// `[32, 32, 32]`, one of 8 as `[16, 32, 32]`.
    pub const HUBERT: Self = Self {
        n_floats: 2 * 1024,
        fps: Fps::at_least_1(25),
        patch: PatchForm::HUBERT,
        repeats_ends: false,
    };

    /// Steps of a window of this shape.
    #[must_use]
    pub const fn n_steps(&self, [c, h, w]: [usize; 3]) -> usize {
        c * h * w / self.n_floats
    }
}

/// Mel bands and rows of what AVE encoders read.
const AVE_PATCH: [usize; 2] = [80, 16];

impl PatchForm {
    /// What AVE encoders read.
    pub const AVE: Self = Self::Mel {
        n_mels: AVE_PATCH[0],
        n_rows: AVE_PATCH[1],
    };

    /// What wenet encoders read: a chunk of 16 vectors with its context.
    pub const WENET: Self = Self::Fbank {
        n_rows: 67,
        n_bands: 80,
    };

    /// What HuBERT encoders read. They hear all of a clip at once; here it comes in pieces of 0.8 s, each with the
    /// 0.8 s before it and the 0.4 s behind it.
    pub const HUBERT: Self = Self::Wave {
        n_left: 20,
        n_steps: 20,
        n_right: 10,
    };

    /// Steps that a patch makes.
    #[must_use]
    pub const fn n_steps(self) -> usize {
        match self {
            Self::Mel { .. } | Self::Fbank { .. } => 1,
            Self::Wave { n_steps, .. } => n_steps,
        }
    }

    /// Floats of a patch.
    #[must_use]
    pub const fn n_floats(self) -> usize {
        match self {
            Self::Mel { n_mels, n_rows } => n_mels * n_rows,
            Self::Fbank { n_rows, n_bands } => n_rows * n_bands,
            Self::Wave {
                n_left,
                n_steps,
                n_right,
            } => (n_left + n_steps + n_right) * STEP_SAMPLES + STEP_OVERHANG,
        }
    }
}

impl PixelForm {
    /// What the engine's kernels pack and unpack: BGR, numbers from 0 to 1.
    pub const UNIT_BGR: Self = Self {
        order: ColourOrder::Bgr,
        input_range: [0, 1],
        output_range: [0, 1],
    };
}

impl Family {
    /// The U-Nets of inverted residual blocks of SyncTalk_2D and Ultralight-Digital-Human.
    ///
    /// Of the windows of a kind, the second are those of newer 160-pixel networks.
    pub const U_NET: Self = Self {
        name: "u-net",
        faces: &[FaceGeometry::LARGE, FaceGeometry::SMALL],
        pixels: PixelForm::UNIT_BGR,
        audio: &[
            AudioForm {
                kind: AudioKind::Ave,
                fps: StepForm::AVE.fps,
                windows: &[[32, 16, 16]],
                source: WindowSource::Steps(StepForm::AVE),
            },
            AudioForm {
                kind: AudioKind::Hubert,
                fps: StepForm::HUBERT.fps,
                windows: &[[32, 32, 32], [16, 32, 32]],
                source: WindowSource::Steps(StepForm::HUBERT),
            },
            AudioForm {
                kind: AudioKind::Wenet,
                fps: StepForm::WENET.fps,
                windows: &[[256, 16, 32], [128, 16, 32]],
                source: WindowSource::Steps(StepForm::WENET),
            },
        ],
    };

    /// The networks of Wav2Lip and of its larger relatives, which hear mel rows.
    pub const WAV2LIP: Self = Self {
        name: "wav2lip",
        faces: &[
            FaceGeometry::wav2lip(384),
            FaceGeometry::wav2lip(288),
            FaceGeometry::wav2lip(256),
            FaceGeometry::wav2lip(96),
        ],
        pixels: PixelForm::UNIT_BGR,
        audio: &[AudioForm {
            kind: AudioKind::Mel,
            fps: Fps::at_least_1(25),
            windows: &[[1, AVE_PATCH[0], AVE_PATCH[1]]],
            source: WindowSource::Mel,
        }],
    };

    /// All families.
    pub const ALL: [&'static Self; 2] = [&Self::U_NET, &Self::WAV2LIP];

    /// The family whose networks have faces of `region_px` pixels.
    #[must_use]
    pub fn of_region(region_px: usize) -> Option<&'static Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|family| family.face(region_px).is_some())
    }

    /// The kind of audio that has windows of this shape, in any family. No two kinds share one.
    #[must_use]
    pub fn kind_of_window(window: [usize; 3]) -> Option<AudioKind> {
        Self::ALL.iter().find_map(|family| family.kind_of(window))
    }

    /// How a kind of audio comes to the networks that hear it. One family hears each kind.
    #[must_use]
    pub fn form_of(kind: AudioKind) -> &'static AudioForm {
        let mut forms = Self::ALL.iter().flat_map(|family| family.audio);
        let found = forms.find(|form| form.kind == kind);
        // Every kind is one of theirs; a test goes through all.
        found.unwrap_or(&Self::U_NET.audio[0])
    }

    /// The sides of the regions of all families in words, for messages: `320, 160, 384, ...`.
    #[must_use]
    pub fn all_sides() -> String {
        let faces = Self::ALL.iter().flat_map(|family| family.faces);
        let sides: Vec<String> = faces.map(|face| face.region_px.to_string()).collect();
        sides.join(", ")
    }

    /// The audio windows of all families in words, for messages: `ave [32, 16, 16], ...`.
    #[must_use]
    pub fn all_windows() -> String {
        Self::ALL.map(Self::windows).join(", ")
    }

    /// The squares of a network whose input is `region_px` wide, if the family has such a one.
    #[must_use]
    pub fn face(&self, region_px: usize) -> Option<FaceGeometry> {
        let mut faces = self.faces.iter().copied();
        faces.find(|face| face.region_px == region_px)
    }

    /// The audio windows of its networks in words, for messages: `ave [32, 16, 16], ...`.
    #[must_use]
    pub fn windows(&self) -> String {
        let forms = self.audio.iter();
        let all = forms.flat_map(|form| {
            form.windows
                .iter()
                .map(|window| format!("{} {window:?}", form.kind))
        });
        all.collect::<Vec<_>>().join(", ")
    }

    /// The kind of audio that has windows of this shape. No two kinds share one.
    #[must_use]
    pub fn kind_of(&self, window: [usize; 3]) -> Option<AudioKind> {
        let mut forms = self.audio.iter();
        forms
            .find(|form| form.windows.contains(&window))
            .map(|form| form.kind)
    }

    /// How a kind of audio comes to its networks, if they hear it.
    #[must_use]
    pub fn audio(&self, kind: AudioKind) -> Option<&'static AudioForm> {
        self.audio.iter().find(|form| form.kind == kind)
    }
}

impl AudioForm {
    /// Whether windows are made of sound as it is, at the rate of a model of `fps` frames per second.
    #[must_use]
    pub fn is_mel_at(&self, fps: Fps) -> bool {
        self.source == WindowSource::Mel && self.fps == fps
    }

    /// How windows are made of steps for a model of `fps` frames per second.
    ///
    /// # Errors
    /// [`NoSteps`] where they cannot be.
    pub fn steps_at(&self, fps: Fps) -> Result<StepForm, NoSteps> {
        match self.source {
            WindowSource::Client => Err(NoSteps::WholeWindows),
            WindowSource::Mel => Err(NoSteps::Sound),
            WindowSource::Steps(form) if form.fps != fps => Err(NoSteps::OtherFps(form.fps)),
            WindowSource::Steps(form) => Ok(form),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILY: Family = Family::U_NET;

    #[test]
    fn faces_are_found_by_their_side() {
        assert_eq!(FAMILY.face(320), Some(FaceGeometry::LARGE));
        assert_eq!(FAMILY.face(160), Some(FaceGeometry::SMALL));
        assert_eq!((FAMILY.face(0), FAMILY.face(256)), (None, None));
        for (side, family) in [(160, Family::U_NET), (96, Family::WAV2LIP)] {
            assert_eq!(Family::of_region(side), Some(&family));
        }
        assert_eq!(Family::of_region(128), None);
        assert_eq!(Family::all_sides(), "320, 160, 384, 288, 256, 96");
    }

    #[test]
    fn families_share_no_face_and_no_window() {
        for (i, family) in Family::ALL.into_iter().enumerate() {
            for other in &Family::ALL[i + 1..] {
                let shares = |face: &FaceGeometry| other.face(face.region_px).is_some();
                assert!(!family.faces.iter().any(shares));
                let windows = |family: &Family| family.audio.iter().flat_map(|form| form.windows);
                assert!(!windows(family).any(|w| other.kind_of(*w).is_some()));
            }
        }
    }

    #[test]
    fn every_kind_is_heard_and_a_window_of_steps_holds_them() {
        for kind in [
            AudioKind::Ave,
            AudioKind::Hubert,
            AudioKind::Wenet,
            AudioKind::Mel,
        ] {
            let form = Family::form_of(kind);
            assert_eq!(form.kind, kind);
            if let WindowSource::Steps(steps) = form.source {
                let is_whole = |shape: &[usize; 3]| {
                    let n_floats: usize = shape.iter().product();
                    // Half of the steps lie before the frame's own.
                    steps.n_steps(*shape) * steps.n_floats == n_floats
                        && steps.n_steps(*shape).is_multiple_of(2)
                };
                assert!(form.windows.iter().all(is_whole) && form.fps == steps.fps);
            }
        }
    }

    #[test]
    fn a_window_shows_its_kind() {
        for form in FAMILY.audio {
            for &window in form.windows {
                assert_eq!(FAMILY.kind_of(window), Some(form.kind));
            }
        }
        assert_eq!(FAMILY.kind_of([1, 80, 16]), None);
        assert_eq!(Family::kind_of_window([1, 80, 16]), Some(AudioKind::Mel));
        assert_eq!(Family::kind_of_window([1, 80, 15]), None);
    }

    #[test]
    fn windows_are_made_of_steps_at_their_own_rate_only() {
        let of = |kind| FAMILY.audio(kind).expect("a form");
        assert_eq!(
            of(AudioKind::Ave).steps_at(Fps::at_least_1(25)),
            Ok(StepForm::AVE)
        );
        let other = Err(NoSteps::OtherFps(StepForm::AVE.fps));
        assert_eq!(of(AudioKind::Ave).steps_at(Fps::at_least_1(30)), other);
        let client = AudioForm {
            source: WindowSource::Client,
            ..*of(AudioKind::Hubert)
        };
        let refused = client.steps_at(Fps::at_least_1(25));
        assert_eq!(refused, Err(NoSteps::WholeWindows));
        let mel = Family::form_of(AudioKind::Mel);
        assert_eq!(mel.steps_at(mel.fps), Err(NoSteps::Sound));
    }

    #[test]
    fn patches_by_hand() {
        assert_eq!(PatchForm::AVE.n_floats(), 1_280);
        assert_eq!(PatchForm::WENET.n_floats(), 5_360);
        assert_eq!(PatchForm::HUBERT.n_floats(), 32_080);
        assert_eq!(PatchForm::HUBERT.n_steps(), 20);
    }
}
