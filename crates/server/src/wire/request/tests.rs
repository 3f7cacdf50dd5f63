use lipsync::v1::infer_batch_composite_request::Audio;

use super::*;

fn output() -> Output {
    Output {
        encoding: Encoding::Jpeg { quality: 85 },
        jpeg_quality: 85,
        mark_generated: true,
    }
}

fn pcm(n_bytes: usize, rate: u32) -> v1::InferBatchCompositeRequest {
    v1::InferBatchCompositeRequest {
        model_id: "mira".into(),
        audio: Some(Audio::Pcm(v1::Pcm {
            samples: vec![0; n_bytes].into(),
            sample_rate_hz: rate,
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn check(request: v1::InferBatchCompositeRequest) -> Result<BatchOrder, ServeError> {
    batch_order(request, &RequestHeaders::default(), &output(), 64)
}

#[test]
fn defaults_are_filled_in() {
    let request = check(pcm(640, 16_000)).unwrap();
    assert_eq!(request.n_frames, None);
    assert_eq!(request.priority, Priority::Normal);
    assert_eq!(request.output.encoding, Encoding::Jpeg { quality: 85 });
    let Clip::Pcm { format, cut, .. } = request.clip else {
        panic!()
    };
    assert_eq!(
        (format.n_channels, format.encoding),
        (1, SampleEncoding::S16Le)
    );
    assert_eq!(
        cut,
        Cut {
            first_frame: 0,
            end_of_utterance: true,
            silence_follows: false,
        }
    );
}

#[test]
fn the_field_beats_the_header() {
    let mut headers = RequestHeaders::default();
    headers.caller.priority = Priority::Low;
    let mut request = pcm(2, 8000);
    let from_header = batch_order(request.clone(), &headers, &output(), 64).unwrap();
    assert_eq!(from_header.priority, Priority::Low);
    request.priority = v1::Priority::High.into();
    let from_field = batch_order(request, &headers, &output(), 64).unwrap();
    assert_eq!(from_field.priority, Priority::High);
}

#[test]
fn every_bad_field_is_named() {
    type Change = fn(&mut v1::InferBatchCompositeRequest);
    let cases: [(&str, Change); 12] = [
        ("model_id", |r| r.model_id = "../../etc".into()),
        ("model_id", |r| r.model_id.clear()),
        ("audio", |r| r.audio = None),
        ("frame_count", |r| r.frame_count = 65),
        ("frame_count", |r| r.frame_count = 1 << 31),
        ("start_frame_index", |r| r.start_frame_index = u64::MAX),
        ("priority", |r| r.priority = 9),
        ("output.format", |r| {
            r.output = Some(v1::OutputOptions {
                format: 77,
                ..Default::default()
            })
        }),
        ("output.quality", |r| {
            r.output = Some(v1::OutputOptions {
                quality: 101,
                ..Default::default()
            })
        }),
        ("windows.data", |r| {
            r.audio = Some(Audio::Windows(v1::FeatureWindows {
                data: vec![0; 7].into(),
            }))
        }),
        ("steps.data", |r| {
            r.audio = Some(Audio::Steps(v1::FeatureSteps::default()))
        }),
        ("pcm.samples", |r| *r = pcm(0, 16_000)),
    ];
    for (field, change) in cases {
        let mut request = pcm(640, 16_000);
        change(&mut request);
        match check(request) {
            Err(ServeError::Invalid { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn odd_lengths_and_absurd_rates_are_refused() {
    for (request, field) in [
        (pcm(3, 16_000), "pcm.samples"),
        (pcm(4, 0), "pcm.sample_rate_hz"),
        (pcm(4, u32::MAX), "pcm.sample_rate_hz"),
    ] {
        match check(request) {
            Err(ServeError::Invalid { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn quality_is_kept_when_the_format_is_the_default() {
    let mut request = pcm(2, 16_000);
    request.output = Some(v1::OutputOptions {
        quality: 50,
        ..Default::default()
    });
    assert_eq!(
        check(request).unwrap().output.encoding,
        Encoding::Jpeg { quality: 50 }
    );
}
