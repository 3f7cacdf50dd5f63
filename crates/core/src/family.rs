//! What a family of lip-sync networks is: all that its networks agree on and their files do not say.
//!
//! The engine checks networks against it and packs faces as it says, the audio front-end takes its
//! sizes from it, the registry checks a model's windows and steps, the server asks whether it can make
//! windows at all. A new family is a new value here. What it asks for and nobody can do yet fails to
//! compile: a check stands beside the code that is written for one form only. Not here yet, since all
//! networks agree: the filter of crop and paste, which is cubic.

use crate::{AudioKind, FaceGeometry, Fps};

/// A family of networks that take the same inputs in the same form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// How messages call it.
    pub name: &'static str,
    /// The squares that its networks work on, the largest first; their masks and rings included.
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
    /// The pictures that the visual input is made of, in the order of its channels, three each.
    pub inputs: &'static [FacePart],
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

/// A picture of the face that a network sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FacePart {
    /// All of the region.
    Whole,
    /// The region, zeros inside the mask.
    Masked,
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
}

/// How windows are made of feature steps, and steps of mel rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepForm {
    /// Floats of a step.
    pub n_floats: usize,
    /// Steps of a window.
    pub n_steps: usize,
    /// Steps a second, and so frames: each frame has its own.
    pub fps: Fps,
    /// Mel bands of what the encoder reads for a step.
    pub n_mels: usize,
    /// Mel rows of what the encoder reads for a step.
    pub n_rows: usize,
}

/// Why no windows can be made of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSteps {
    /// Clients send whole windows.
    WholeWindows,
    /// Steps are made so many times a second, which is not the model's fps.
    OtherFps(Fps),
}

impl StepForm {
    /// The AVE encoder of SyncTalk_2D. A window is read as `[32, 16, 16]`.
    pub const AVE: Self = Self {
        n_floats: 512,
        n_steps: 16,
        fps: Fps::at_least_1(25),
        n_mels: 80,
        n_rows: 16,
    };
}

impl PixelForm {
    /// What the engine's kernels pack and unpack: the whole face and the masked one, BGR, numbers from
    /// 0 to 1.
    pub const WHOLE_AND_MASKED: Self = Self {
        order: ColourOrder::Bgr,
        inputs: &[FacePart::Whole, FacePart::Masked],
        input_range: [0, 1],
        output_range: [0, 1],
    };

    /// Channels of the visual input.
    #[must_use]
    pub const fn n_channels(&self) -> usize {
        3 * self.inputs.len()
    }
}

impl Family {
    /// The U-Nets of inverted residual blocks of SyncTalk_2D and Ultralight-Digital-Human.
    ///
    /// Of the windows of a kind, the second are those of newer 160-pixel networks.
    pub const U_NET: Self = Self {
        name: "u-net",
        faces: &[FaceGeometry::LARGE, FaceGeometry::SMALL],
        pixels: PixelForm::WHOLE_AND_MASKED,
        audio: &[
            AudioForm {
                kind: AudioKind::Ave,
                fps: StepForm::AVE.fps,
                windows: &[[32, 16, 16]],
                source: WindowSource::Steps(StepForm::AVE),
            },
            AudioForm {
                kind: AudioKind::Hubert,
                fps: Fps::at_least_1(25),
                windows: &[[32, 32, 32], [16, 32, 32]],
                source: WindowSource::Client,
            },
            AudioForm {
                kind: AudioKind::Wenet,
                fps: Fps::at_least_1(20),
                windows: &[[256, 16, 32], [128, 16, 32]],
                source: WindowSource::Client,
            },
        ],
    };

    /// The squares of a network whose input is `region_px` wide, if the family has such a one.
    #[must_use]
    pub fn face(&self, region_px: usize) -> Option<FaceGeometry> {
        let mut faces = self.faces.iter().copied();
        faces.find(|face| face.region_px == region_px)
    }

    /// The sides of the region in words, for messages: `320 or 160`.
    #[must_use]
    pub fn region_sides(&self) -> String {
        let sides: Vec<String> = self.faces.iter().map(|f| f.region_px.to_string()).collect();
        sides.join(" or ")
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
    /// How windows are made of steps for a model of `fps` frames per second.
    ///
    /// # Errors
    /// [`NoSteps`] where they cannot be.
    pub fn steps_at(&self, fps: Fps) -> Result<StepForm, NoSteps> {
        match self.source {
            WindowSource::Client => Err(NoSteps::WholeWindows),
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
        assert_eq!(FAMILY.region_sides(), "320 or 160");
        assert_eq!(FAMILY.pixels.n_channels(), 6);
    }

    #[test]
    fn every_kind_is_heard_and_a_window_of_steps_holds_them() {
        for kind in [AudioKind::Ave, AudioKind::Hubert, AudioKind::Wenet] {
            let form = FAMILY.audio(kind).expect("a form");
            assert_eq!(form.kind, kind);
            if let WindowSource::Steps(steps) = form.source {
                let window = steps.n_floats * steps.n_steps;
                let is_one = |shape: &[usize; 3]| shape.iter().product::<usize>() == window;
                assert!(form.windows.iter().all(is_one) && form.fps == steps.fps);
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
    }

    #[test]
    fn windows_are_made_of_ave_steps_at_their_own_rate_only() {
        let of = |kind| FAMILY.audio(kind).expect("a form");
        assert_eq!(
            of(AudioKind::Ave).steps_at(Fps::at_least_1(25)),
            Ok(StepForm::AVE)
        );
        let other = Err(NoSteps::OtherFps(StepForm::AVE.fps));
        assert_eq!(of(AudioKind::Ave).steps_at(Fps::at_least_1(30)), other);
        assert_eq!(
            of(AudioKind::Wenet).steps_at(Fps::at_least_1(20)),
            Err(NoSteps::WholeWindows)
        );
    }
}
