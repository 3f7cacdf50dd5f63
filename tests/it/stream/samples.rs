//! Sound as it comes: cut anywhere, in telephony codings, in files, in pieces too short to be segments.

use anyhow::Result;
use lipsync::{
    g711::{decode_alaw, decode_mulaw},
    v1::{
        self, audio_chunk::Audio, infer_batch_composite_request::Audio as UnaryAudio,
        stream_composite_request::Message as Ask, stream_composite_response::Message as Answer,
    },
};
use tonic::Code;

use super::{Session, fake_server, frames, pcm_session};
use crate::support::{
    TestServer,
    speech::{babble, pcm_request, to_bytes},
};

/// Samples of a frame at 16 kHz and 25 fps.
const FRAME: usize = 640;

impl Session {
    fn bytes(&mut self, segment_id: u64, chunk: &[u8]) {
        let audio = Some(Audio::Pcm(chunk.to_vec().into()));
        self.ask(Ask::Audio(v1::AudioChunk { segment_id, audio }));
    }
}

/// What a session answers that hears one segment in such pieces.
async fn said(
    server: &TestServer,
    open: v1::OpenSession,
    sound: &[u8],
    n: usize,
) -> Result<Vec<Answer>> {
    let mut session = Session::open(server, open).await?;
    for chunk in sound.chunks(n) {
        session.bytes(1, chunk);
    }
    session.half_close();
    session.rest().await
}

fn pictures(answers: &[Answer]) -> Vec<&[u8]> {
    let frames = frames(answers);
    frames.iter().map(|frame| &frame.data[..]).collect()
}

fn warnings(answers: &[Answer]) -> Vec<&str> {
    let warnings = answers.iter().filter_map(|answer| match answer {
        Answer::Warning(warning) => Some(warning.code.as_str()),
        _ => None,
    });
    warnings.collect()
}

fn echo(answers: &[Answer]) -> Vec<u8> {
    frames(answers)
        .iter()
        .flat_map(|f| f.audio.to_vec())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_end_inside_a_sample_change_no_bit() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let samples = babble(1, 2 * FRAME * 3 + 34);
    let floats = samples.iter().map(|&s| f32::from(s) / 32_768.0);
    let floats: Vec<u8> = floats.flat_map(f32::to_le_bytes).collect();
    let s16 = to_bytes(&samples);
    for (sound, encoding, channels, item_bytes) in [
        (&s16[..], v1::PcmEncoding::S16le, 1, 2),
        (&s16, v1::PcmEncoding::S16le, 2, 4),
        (&floats, v1::PcmEncoding::F32le, 2, 8),
    ] {
        let open = || v1::OpenSession {
            encoding: encoding.into(),
            channels,
            audio_echo: true,
            ..pcm_session("a")
        };
        let whole = said(&server, open(), sound, FRAME * item_bytes).await?;
        for n in [3, item_bytes + 1, 641, 1_283] {
            let cut = said(&server, open(), sound, n).await?;
            assert!(
                pictures(&cut) == pictures(&whole),
                "{encoding:?} in pieces of {n}"
            );
            assert!(echo(&cut) == sound, "{encoding:?} in pieces of {n}");
            assert!(warnings(&cut).is_empty());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_sample_ends_with_its_segment() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let sound = to_bytes(&babble(1, FRAME));
    let alone = said(&server, pcm_session("a"), &sound, 9_999).await?;
    let mut session = Session::open(&server, pcm_session("a")).await?;
    // Ended, cleared, ended by the next one: none of them shifts what follows.
    session.bytes(1, &[&sound[..], &[7]].concat());
    session.end(1);
    session.bytes(2, &[7]);
    session.clear(Some(2));
    session.bytes(3, &[&sound[..], &[7]].concat());
    session.bytes(4, &sound);
    session.half_close();
    let answers = session.rest().await?;
    assert_eq!(warnings(&answers), ["audio_truncated"]);
    let frames = frames(&answers);
    let ids: Vec<u64> = frames.iter().map(|frame| frame.segment_id).collect();
    assert_eq!(ids, [1, 3, 4]);
    assert!(frames[0].data == pictures(&alone)[0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn telephony_is_heard_as_the_same_samples_in_16_bits() -> Result<()> {
    type Decoder = fn(u8) -> i16;
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let code = |n: usize| u8::try_from(n * n / 37 % 256).unwrap_or(0);
    let codes: Vec<u8> = (0..320 * 5).map(code).collect();
    let decoders: [(_, Decoder); 2] = [
        (v1::PcmEncoding::Mulaw, decode_mulaw),
        (v1::PcmEncoding::Alaw, decode_alaw),
    ];
    for (encoding, decode) in decoders {
        let open = |encoding: v1::PcmEncoding| v1::OpenSession {
            sample_rate_hz: 8_000,
            encoding: encoding.into(),
            audio_echo: true,
            ..pcm_session("a")
        };
        let samples: Vec<i16> = codes.iter().map(|&code| decode(code)).collect();
        let samples = to_bytes(&samples);
        let expected = said(&server, open(v1::PcmEncoding::S16le), &samples, 640).await?;
        let found = said(&server, open(encoding), &codes, 333).await?;
        assert!(pictures(&found) == pictures(&expected), "{encoding:?}");
        assert!(echo(&found) == codes);
        let unary = v1::InferBatchCompositeRequest {
            audio: Some(UnaryAudio::Pcm(v1::Pcm {
                samples: codes.clone().into(),
                sample_rate_hz: 8_000,
                encoding: encoding.into(),
                ..Default::default()
            })),
            ..pcm_request("a", &[])
        };
        let unary = server.client().await?.infer_batch_composite(unary).await?;
        let unary: Vec<&[u8]> = unary.frames.iter().map(|frame| &frame.data[..]).collect();
        assert!(unary == pictures(&expected), "{encoding:?}");
    }
    Ok(())
}

/// 16 kHz mono s16, of unknown length.
fn wav_header() -> Vec<u8> {
    let mut head = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0".to_vec();
    head.extend(b"\0\x7d\0\0\x02\0\x10\0data\xff\xff\xff\xff");
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wav_header_is_no_sound() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let samples = babble(1, FRAME * 3);
    let file = [&wav_header()[..], &to_bytes(&samples)].concat();
    let expected = said(&server, pcm_session("a"), &to_bytes(&samples), 9_999).await?;
    for n in [7, 44, 640, 9_999] {
        let answers = said(&server, pcm_session("a"), &file, n).await?;
        assert!(pictures(&answers) == pictures(&expected), "pieces of {n}");
        assert_eq!(warnings(&answers), ["container_stripped"]);
    }
    let mut request = pcm_request("a", &[]);
    if let Some(UnaryAudio::Pcm(pcm)) = &mut request.audio {
        pcm.samples = file.into();
    }
    let client = server.client().await?;
    let answer = client.infer_batch_composite(request.clone()).await?;
    let unary: Vec<&[u8]> = answer.frames.iter().map(|frame| &frame.data[..]).collect();
    assert!(unary == pictures(&expected));
    let codes: Vec<&str> = answer.warnings.iter().map(|w| w.code.as_str()).collect();
    assert_eq!(codes, ["container_stripped"]);
    // Another rate than was announced.
    if let Some(UnaryAudio::Pcm(pcm)) = &mut request.audio {
        pcm.sample_rate_hz = 24_000;
    }
    let refused = client.infer_batch_composite(request).await;
    let refused = refused.expect_err("the header says 16,000 Hz");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("16000 Hz"), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_files_are_refused_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    for (magic, name) in [
        (&b"OggS\0\x02\0\0"[..], "Ogg"),
        (b"ID3\x04\0\0\0\0", "MP3"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81", "WebM"),
        (b"\0\0\0\x20ftypM4A ", "M4A"),
    ] {
        let file = [magic, &[1; 1_000]].concat();
        let mut session = Session::open(&server, pcm_session("a")).await?;
        file.chunks(3).for_each(|chunk| session.bytes(1, chunk));
        let status = session.failure().await?;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(name), "{status}");
        let mut request = pcm_request("a", &[]);
        if let Some(UnaryAudio::Pcm(pcm)) = &mut request.audio {
            pcm.samples = file.into();
        }
        let refused = server.client().await?.infer_batch_composite(request).await;
        let refused = refused.expect_err("it is no sound");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(name), "{refused}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_another_encoding_are_told_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let samples = babble(1, 16_000 * 3);
    let numbers: Vec<u8> = samples
        .iter()
        .flat_map(|&s| f32::from(s).to_le_bytes())
        .collect();
    let open = v1::OpenSession {
        encoding: v1::PcmEncoding::F32le.into(),
        ..pcm_session("a")
    };
    let answers = said(&server, open, &numbers, 3_200).await?;
    assert_eq!(warnings(&answers), ["audio_level"]);
    assert_eq!(frames(&answers).len(), 75);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_shorter_than_a_frame_are_shown_and_warned_of_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut session = Session::open(&server, pcm_session("a")).await?;
    for (id, chunk) in (1..).zip(babble(1, FRAME * 3).chunks(160)) {
        session.audio(id, chunk);
    }
    session.half_close();
    let answers = session.rest().await?;
    assert_eq!(frames(&answers).len(), 12, "one each, four times as slow");
    assert_eq!(warnings(&answers), ["short_segments"]);
    Ok(())
}
