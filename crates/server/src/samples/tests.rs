use lipsync_audio::SampleEncoding;

use super::*;

fn format(n_channels: u32, encoding: SampleEncoding) -> PcmFormat {
    PcmFormat {
        rate_hz: 16_000,
        n_channels,
        encoding,
    }
}

fn mono() -> PcmIntake {
    PcmIntake::new(format(1, SampleEncoding::S16Le), Fps::at_least_1(25))
}

fn codes(intake: &mut PcmIntake) -> Vec<&'static str> {
    let warnings = intake.take_warnings().into_iter();
    warnings.map(|warning| warning.code).collect()
}

/// A segment in such pieces, as it is passed on.
fn passed<'a>(intake: &mut PcmIntake, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut passed: Vec<u8> = Vec::new();
    let item_bytes = intake.format.item_bytes();
    for piece in pieces {
        let whole = intake.push(piece).unwrap();
        assert_eq!(whole.len() % item_bytes, 0);
        passed.extend_from_slice(&whole);
    }
    passed.extend(intake.end());
    passed
}

/// A header of 44 bytes, in 16 kHz mono s16.
fn header() -> Vec<u8> {
    let mut head =
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0".to_vec();
    head.extend(b"\x02\0\x10\0data\xff\xff\xff\xff");
    head
}

#[test]
fn chunks_cut_anywhere_are_the_samples_of_whole_chunks() {
    // Silence first, as MP4 begins with it too; then any bytes.
    let sound: Vec<u8> = [[0; 8].as_slice(), &(1..=250).rev().collect::<Vec<u8>>()].concat();
    for (n_channels, encoding) in [
        (1, SampleEncoding::S16Le),
        (2, SampleEncoding::S16Le),
        (2, SampleEncoding::F32Le),
        (1, SampleEncoding::Mulaw),
        (2, SampleEncoding::Alaw),
    ] {
        let format = format(n_channels, encoding);
        let whole = sound.len() - sound.len() % format.item_bytes();
        for n in 1..20 {
            let mut intake = PcmIntake::new(format, Fps::at_least_1(25));
            let found = passed(&mut intake, sound.chunks(n));
            assert_eq!(found, sound[..whole], "{format:?} in pieces of {n}");
            let is_cut = whole < sound.len();
            let expected: &[&str] = if is_cut { &["audio_truncated"] } else { &[] };
            assert_eq!(codes(&mut intake), expected);
        }
    }
}

#[test]
fn a_part_of_a_sample_ends_with_its_segment() {
    let mut intake = mono();
    intake.push(&[200, 1, 2]).unwrap();
    intake.clear();
    assert_eq!(&*intake.push(&[200, 4]).unwrap(), [200, 4]);
    assert_eq!(codes(&mut intake), [""; 0], "a cleared segment has no end");
    intake.push(&[5]).unwrap();
    assert!(intake.end().is_empty());
    assert_eq!(&*intake.push(&[200, 7]).unwrap(), [200, 7]);
    intake.push(&[5]).unwrap();
    intake.end();
    assert_eq!(codes(&mut intake), ["audio_truncated"], "once a session");
}

#[test]
fn wav_headers_of_the_announced_form_are_taken_away() {
    let samples: Vec<u8> = (1..=200).collect();
    let file = [header(), samples.clone()].concat();
    for n in (1..50).chain([64, 244]) {
        let mut intake = mono();
        let found = passed(&mut intake, file.chunks(n));
        assert_eq!(found, samples, "pieces of {n}");
        assert_eq!(codes(&mut intake), ["container_stripped"]);
    }
    // Files one after the other in a segment, the first with half a sample too much.
    let mut intake = mono();
    let odd = [&file[..], &[9]].concat();
    let found = passed(&mut intake, [&odd[..], &file].into_iter());
    assert_eq!(found, [&samples[..], &samples].concat());
    // A header and nothing else is a segment without audio.
    assert!(passed(&mut intake, [&header()[..30]].into_iter()).is_empty());
    assert_eq!(codes(&mut intake), ["container_stripped"]);
}

#[test]
fn other_files_end_the_session_however_they_are_cut() {
    let mp3 = [&[0xFF, 0xFB, 0x90, 0x64][..], &[0; 413]]
        .concat()
        .repeat(4);
    let mut fast = header();
    fast[24..28].copy_from_slice(&24_000_u32.to_le_bytes());
    fast.resize(5000, 0);
    let mut endless = header();
    endless[36..40].copy_from_slice(b"JUNK");
    endless.resize(70_000, 0);
    for (file, name) in [
        (b"OggS\0\x02\0\0\0\0\0\0".as_slice(), "Ogg"),
        (b"ID3\x04\0\0\0\0\0\x23TSSE", "MP3"),
        (b"fLaC\0\0\0\x22", "FLAC"),
        (b"FORM\0\0\0\x24AIFF", "AIFF"),
        (b"UklGRiQAAABXQVZF", "base64"),
        (&mp3, "MP3 frames"),
        (&fast, "24000 Hz"),
        (&endless, "no samples"),
    ] {
        for n in [1, 5, 160, 8000] {
            let mut intake = mono();
            let mut pieces = file.chunks(n);
            let error = pieces.find_map(|piece| intake.push(piece).err());
            let error = error
                .unwrap_or_else(|| panic!("{name} in pieces of {n}"))
                .to_string();
            assert!(error.contains(name) && error.contains(FIELD), "{error}");
        }
    }
}

#[test]
fn text_is_warned_of_and_what_is_warned_of_is_news_once() {
    let mut intake = mono();
    let text = [b'A'; 100];
    assert_eq!(passed(&mut intake, text.chunks(7)), text);
    assert_eq!(codes(&mut intake), ["not_samples"]);
    let sound = [[1; 640].as_slice(), b"OggS\0\x02fLaC", &text].concat();
    assert_eq!(passed(&mut intake, sound.chunks(640)), sound);
    assert_eq!(codes(&mut intake), [""; 0]);
}

/// Services that say something first and then send files. Samples look like that by accident, too: they play.
#[test]
fn a_file_in_a_later_chunk_is_warned_of() {
    for file in [b"OggS\0\x02".as_slice(), b"ID3\x04\0\0", b"fLaC\0\0"] {
        let mut intake = mono();
        let sound = [[1; 640].as_slice(), file, &[1; 634]].concat();
        assert_eq!(passed(&mut intake, sound.chunks(640)), sound);
        assert_eq!(codes(&mut intake), ["not_samples"], "{file:?}");
        // Inside of a chunk nobody looks.
        let mut intake = mono();
        assert_eq!(passed(&mut intake, sound.chunks(639)), sound);
        assert_eq!(codes(&mut intake), [""; 0]);
    }
}

#[test]
fn many_segments_shorter_than_a_frame_are_warned_of_once() {
    let mut intake = mono();
    let mut say = |n_samples: usize| {
        intake.push(&vec![1; 2 * n_samples]).unwrap();
        intake.end();
        codes(&mut intake)
    };
    assert_eq!(say(639), [""; 0]);
    assert_eq!(say(639), [""; 0]);
    assert_eq!(say(640), [""; 0], "whole frames are none of them");
    assert_eq!(say(160), [""; 0]);
    assert_eq!(say(0), [""; 0], "an empty one changes nothing");
    assert_eq!(say(160), [""; 0]);
    assert_eq!(say(160), ["short_segments"]);
    for _ in 0..10 {
        assert_eq!(say(160), [""; 0]);
    }
}
