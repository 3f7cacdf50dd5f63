//! Audio windows that share steps: what goes up of them, and that no bit depends on it.

use lipsync_core::{SplitMix64, family::StepForm};
use lipsync_engine::{FaceInput, Workspace, cuda::FakeDevice};

use crate::{GIB, Scene, infer, load};

const STEP: usize = StepForm::AVE.n_floats;

#[test]
fn of_frames_in_a_row_each_step_goes_up_once_and_bits_are_those_of_each_frame_alone() {
    let device = FakeDevice::new(0, 4 * GIB);
    let generator = load("small-opset12", &device.open(), GIB);
    let scene = Scene::new(&*generator, 1, 1);
    let window = scene.audio[0].len();
    assert_eq!(window, 16 * STEP);
    // Two calls: three frames in a row, one of them twice, and then two of another clip.
    let clips = [1, 2].map(|seed| SplitMix64::new(seed).floats(window + 2 * STEP, -1.0, 1.0));
    let places = [(0, 0), (0, 1), (0, 1), (0, 2), (1, 0), (1, 1)];
    let frames = places.map(|(clip, step)| FaceInput {
        audio: &clips[clip][step * STEP..][..window],
        ..scene.frame(0)
    });
    let mut workspace = Workspace::new();
    // The background frame is kept from here on.
    infer(&*generator, &mut workspace, &frames[..1]);
    let sent = |frames: &[FaceInput<'_>], workspace: &mut Workspace| {
        let before = device.uploaded_bytes();
        let faces = infer(&*generator, workspace, frames);
        (faces, device.uploaded_bytes() - before)
    };
    let (together, n_bytes) = sent(&frames, &mut workspace);
    let alone = frames.map(|frame| sent(&[frame], &mut workspace));
    assert!(together[0] != together[1] && together[1] == together[2] && together[1] != together[4]);
    for (together, (alone, _)) in together.iter().zip(&alone) {
        assert!(*together == alone[0]);
    }
    // Tables apart, of which each batch has as many.
    let floats = |n: usize| 4 * n as u64;
    assert_eq!(n_bytes - alone[0].1, floats(window + 3 * STEP));
}
