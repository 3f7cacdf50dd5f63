//! What people come for: the mouths of the demo avatars follow speech that they were never trained on.

use std::fs;

use anyhow::{Context as _, Result};
use image::RgbImage;
use lipsync::{cuts::Cuts, session::AudioFormat, v1};
use serde_json::Value;

use crate::support::{
    TestServer,
    server::repository,
    speech::{pcm_request, sample_speech, to_bytes},
};

/// Samples of one frame at 16 kHz.
const FRAME_SAMPLES: usize = 640;

/// How an opening is read from pixels; `assets/speech/heldout/README.md` explains it.
struct Probe {
    x: [f64; 2],
    y: [f64; 2],
    dark_red: i32,
    teeth_red_minus_green: i32,
    teeth_blue: i32,
}

impl Probe {
    fn load() -> Result<Self> {
        let text = fs::read(repository().join("assets/speech/heldout/opening_probe.json"))?;
        let json: Value = serde_json::from_slice(&text)?;
        let span = |key: &str| -> Result<[f64; 2]> {
            let at = |i: usize| json[key][i].as_f64().context("a number");
            Ok([at(0)?, at(1)?])
        };
        let level = |key: &str| -> Result<i32> {
            Ok(i32::try_from(json[key].as_i64().context("a number")?)?)
        };
        Ok(Self {
            x: span("x")?,
            y: span("y")?,
            dark_red: level("dark_if_red_below")?,
            teeth_red_minus_green: level("teeth_if_red_minus_green_below")?,
            teeth_blue: level("teeth_if_blue_above")?,
        })
    }

    fn opening(&self, picture: &RgbImage, region: &v1::Rect) -> f64 {
        let side = f64::from(region.width);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small and positive"
        )]
        let span = |from: u32, [a, b]: [f64; 2]| from + (a * side) as u32..from + (b * side) as u32;
        let mut counts = (0, 0);
        for y in span(region.y, self.y) {
            for x in span(region.x, self.x) {
                let [r, g, b] = picture.get_pixel(x, y).0.map(i32::from);
                let is_tooth = r - g < self.teeth_red_minus_green && b > self.teeth_blue;
                counts = (
                    counts.0 + i32::from(r < self.dark_red || is_tooth),
                    counts.1 + 1,
                );
            }
        }
        f64::from(counts.0) / f64::from(counts.1)
    }
}

/// All frames of an utterance, asked for in calls of at most `n_per_call` frames that share context.
async fn speak(
    server: &TestServer,
    model: &str,
    samples: &[i16],
    n_per_call: u32,
) -> Result<Vec<v1::CompositedFrame>> {
    let client = server.client().await?;
    let format = AudioFormat::mono_s16(16_000);
    let template = pcm_request(model, &[]);
    let mut frames = Vec::new();
    for cut in Cuts::new(format, to_bytes(samples), n_per_call) {
        let n_frames = usize::try_from(cut.n_frames)?;
        let answer = client.infer_batch_composite(cut.request(&template)).await?;
        assert_eq!(answer.frames.len(), n_frames);
        frames.extend(answer.frames);
    }
    Ok(frames)
}

/// What the probe reads from every frame of a held-out clip.
async fn openings(server: &TestServer, probe: &Probe, model: &str, clip: &str) -> Result<Vec<f64>> {
    let samples = sample_speech(&format!("heldout/{clip}.wav"))?;
    let mut seen = Vec::new();
    for frame in speak(server, model, &samples, 60).await? {
        let picture = image::load_from_memory(&frame.data)?.to_rgb8();
        seen.push(probe.opening(&picture, frame.region.as_ref().context("a region")?));
    }
    Ok(seen)
}

/// Of the frames whose lips touch, the share that is seen within a tenth of the widest opening.
fn shut_share(seen: &[f64], truth: &[f64]) -> f64 {
    let widest = seen.iter().fold(0.0, |a: f64, &b| a.max(b));
    let touching: Vec<_> = seen.iter().zip(truth).filter(|(_, t)| **t < 0.02).collect();
    let n: f64 = touching.iter().map(|_| 1.0).sum();
    let n_shut: f64 = touching
        .iter()
        .filter(|(s, _)| **s <= 0.1 * widest)
        .map(|_| 1.0)
        .sum();
    n_shut / n
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n: f64 = a.iter().map(|_| 1.0).sum();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let (ma, mb) = (mean(a), mean(b));
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(x - ma, y - mb)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mouth_follows_sentences_and_voices_never_trained_on() -> Result<()> {
    let server = TestServer::mira().await?;
    let probe = Probe::load()?;
    for (model, name) in [
        ("mira", "balloon"),
        ("mira", "fountain"),
        ("mira", "weather"),
        ("tomo", "balloon"),
    ] {
        let truth =
            fs::read(repository().join(format!("assets/speech/heldout/{name}.opening.json")))?;
        let truth: Vec<f64> = serde_json::from_slice(&truth)?;
        let seen = openings(&server, &probe, model, name).await?;
        assert_eq!(seen.len(), truth.len());
        let r = correlation(&seen, &truth);
        let shut = shut_share(&seen, &truth);
        println!(
            "{model}, {name}: correlation {r:.3}, shut {shut:.2} over {} frames",
            truth.len()
        );
        assert!(r >= 0.8, "{model}, {name}: the opening correlates {r:.3}");
        let late = correlation(&seen[1..], &truth[..truth.len() - 1]);
        let early = correlation(&seen[..seen.len() - 1], &truth[1..]);
        assert!(r >= late && r >= early, "{early:.3} {r:.3} {late:.3}");
        assert!(
            shut >= 0.85,
            "{model}, {name}: shut in {shut:.2} of the frames"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_utterance_cut_into_calls_gives_the_frames_of_one_whole_call() -> Result<()> {
    let server = TestServer::mira().await?;
    let samples = &sample_speech("heldout/balloon.wav")?[..FRAME_SAMPLES * 44 + 123];
    let whole = speak(&server, "mira", samples, 64).await?;
    for n_per_call in [7, 20] {
        let cut = speak(&server, "mira", samples, n_per_call).await?;
        for (n, (cut, whole)) in cut.iter().zip(&whole).enumerate() {
            assert!(cut.data == whole.data, "frame {n} in calls of {n_per_call}");
            assert_eq!(cut.background_index, whole.background_index);
        }
    }
    Ok(())
}
