//! Detects files among samples: which kind of file do these bytes begin?
//!
//! A compressed file or a text sounds like noise if it is played as samples. So both ends check: the WAV reader
//! names the kind of file that it got instead, and the server the kind that was pushed as PCM. Only patterns that
//! samples do not contain by accident count: fixed words of four bytes or more, or several frames in a row that
//! agree.

/// A verdict on some first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Not a known kind of file.
    Unknown,
    /// Undecided: more bytes are needed.
    Undecided,
    /// A RIFF file of samples.
    Wav,
    /// Another kind of file, named for people.
    Other(&'static str),
    /// Only characters, such as JSON or base64.
    Text,
}

/// Beginnings of files; `?` is any byte.
const BEGINNINGS: [(&[u8], Look); 25] = [
    (b"RIFF????WAVE", Look::Wav),
    (b"RIFF????AVI ", Look::Other("an AVI film")),
    (b"RF64????WAVE", Look::Other("an RF64 file (64-bit WAV)")),
    (b"BW64????WAVE", Look::Other("a BW64 file (64-bit WAV)")),
    (b"RIFX????WAVE", Look::Other("a big-endian WAV file (RIFX)")),
    (b"FORM????AIFF", Look::Other("an AIFF file")),
    (b"FORM????AIFC", Look::Other("an AIFF-C file")),
    (b"OggS\0", Look::Other("an Ogg file")),
    (b"fLaC", Look::Other("a FLAC file")),
    (b"ID3\x02\0", Look::Other("an MP3 file (ID3)")),
    (b"ID3\x03\0", Look::Other("an MP3 file (ID3)")),
    (b"ID3\x04\0", Look::Other("an MP3 file (ID3)")),
    (b"\0\0\0?ftyp", Look::Other("an MP4 or M4A file")),
    (b"\0\0\0?moov", Look::Other("a QuickTime file")),
    (b"\x1a\x45\xdf\xa3", Look::Other("a WebM or Matroska file")),
    (b"caff\0\x01", Look::Other("a CAF file")),
    (b".snd\0\0", Look::Other("an AU file")),
    (b"#!AMR", Look::Other("an AMR file")),
    (b"wvpk", Look::Other("a WavPack file")),
    (b"MAC \x96", Look::Other("a Monkey's Audio file")),
    (
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        Look::Other("a WMA file"),
    ),
    (b"UklGR", Look::Other("base64 text of a WAV file")),
    (b"SUQzB", Look::Other("base64 text of an MP3 file")),
    (b"T2dnUw", Look::Other("base64 text of an Ogg file")),
    (b"ZkxhQ", Look::Other("base64 text of a FLAC file")),
];

/// Frames of compressed sound in a row that decide.
const FRAMES_NEEDED: usize = 3;
/// Characters in a row that count as text.
const TEXT_BYTES: usize = 64;
/// Longest frame: MP3 has up to 1,441 bytes, two channels of AAC up to 1,536 and a head.
const MAX_FRAME_BYTES: usize = 1600;
/// [`look_longer`] needs no more than this.
pub const LONG_LOOK_BYTES: usize = FRAMES_NEEDED * MAX_FRAME_BYTES;

/// Looks for the fixed beginning of a file. [`Look::Undecided`] is for a few bytes only: up to 11.
#[must_use]
pub fn look(head: &[u8]) -> Look {
    let mut result = Look::Unknown;
    for (beginning, look) in BEGINNINGS {
        let n = beginning.len().min(head.len());
        let agrees = |(want, found): (&u8, &u8)| *want == b'?' || want == found;
        if !beginning[..n].iter().zip(&head[..n]).all(agrees) {
            continue;
        }
        if n == beginning.len() {
            return look;
        }
        result = Look::Undecided;
    }
    result
}

/// Looks for compressed sound without a head, and for text. [`Look::Undecided`] never lasts longer than
/// [`LONG_LOOK_BYTES`].
///
/// Text is a guess: an 8-bit coding may hold nothing but such bytes for a while.
#[must_use]
pub fn look_longer(head: &[u8]) -> Look {
    let is_character = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    if head.iter().take(TEXT_BYTES).all(is_character) {
        return if head.len() < TEXT_BYTES {
            Look::Undecided
        } else {
            Look::Text
        };
    }
    let mut place = 0;
    for _ in 0..FRAMES_NEEDED {
        let Some(frame) = head.get(place..place + 6) else {
            return if place == 0 && head.first().is_some_and(|&byte| byte != 0xFF) {
                Look::Unknown
            } else {
                Look::Undecided
            };
        };
        match mpeg_frame_bytes(frame).or_else(|| adts_frame_bytes(frame)) {
            Some(n_bytes) if frame[1] == head[1] => place += n_bytes,
            _ => return Look::Unknown,
        }
    }
    Look::Other(if mpeg_frame_bytes(head).is_some() {
        "MP3 frames"
    } else {
        "AAC frames (ADTS)"
    })
}

/// Length of an MPEG layer III frame that begins here.
///
/// *Source:* ISO/IEC 11172-3, 2.4.1.3, and 13818-3 for the lower rates.
fn mpeg_frame_bytes(frame: &[u8]) -> Option<usize> {
    const KBIT_1: [usize; 14] = [
        32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ];
    const KBIT_2: [usize; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let [0xFF, second, third, ..] = *frame else {
        return None;
    };
    // Eleven bits of sync, then the version; layer III is 01.
    let (rate_divisor, is_first) = match second & 0xFE {
        0xFA => (1, true),
        0xF2 => (2, false),
        0xE2 => (4, false),
        _ => return None,
    };
    let kbit = if is_first { KBIT_1 } else { KBIT_2 };
    let kbit = kbit.get(usize::from(third >> 4).checked_sub(1)?)?;
    let rate_hz = [44_100, 48_000, 32_000].get(usize::from(third >> 2 & 3))? / rate_divisor;
    let eighths = if is_first { 144 } else { 72 };
    Some(eighths * kbit * 1000 / rate_hz + usize::from(third >> 1 & 1))
}

/// Length of an AAC frame with an ADTS head that begins here.
///
/// *Source:* ISO/IEC 13818-7, 6.2.
fn adts_frame_bytes(frame: &[u8]) -> Option<usize> {
    let [0xFF, second, third, fourth, fifth, sixth, ..] = *frame else {
        return None;
    };
    // Twelve bits of sync, layer 0, and one of 13 sampling rates.
    if second & 0xF6 != 0xF0 || third >> 2 & 0xF > 12 {
        return None;
    }
    let n_bytes = usize::from(fourth & 3) << 11 | usize::from(fifth) << 3 | usize::from(sixth >> 5);
    (8..=MAX_FRAME_BYTES).contains(&n_bytes).then_some(n_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes_however_few_came_so_far() {
        let files: [(&[u8], &str); 7] = [
            (b"RF64\xff\xff\xff\xffWAVEds64", "RF64"),
            (b"FORM\0\0\x10\0AIFFCOMM", "AIFF"),
            (b"OggS\0\x02\0\0", "Ogg"),
            (b"ID3\x04\0\0\0\0\0\x23TSSE", "MP3"),
            (b"\0\0\0\x20ftypM4A ", "M4A"),
            (b"\x1aE\xdf\xa3\x9fB\x86\x81", "WebM"),
            (b"UklGRtQlAABXQVZF", "base64"),
        ];
        for (file, name) in files {
            let Look::Other(found) = look(file) else {
                panic!("{name}: {:?}", look(file))
            };
            assert!(found.contains(name), "{found}");
            let mut decided = (0..file.len()).map(|n| look(&file[..n]));
            assert!(decided.all(|l| l == Look::Undecided || l == Look::Other(found)));
        }
        assert_eq!(look(b"RIFF\0\0\0\0WAVEfmt "), Look::Wav);
        for samples in [&[0; 16][..], b"RIFF\0\0\0\0wave", &[0xFF; 16], b"Oggs"] {
            assert_eq!(look(samples), Look::Unknown, "{samples:?}");
        }
    }

    /// Frames with such a head, each of the length that it announces.
    fn frames(head: [u8; 6], n_bytes: usize, n: usize) -> Vec<u8> {
        let mut frame = head.to_vec();
        frame.resize(n_bytes, 0xA5);
        frame.repeat(n)
    }

    #[test]
    fn compressed_frames_without_a_head_are_known_when_three_agree() {
        // 128 kbit/s at 44.1 kHz; 32 kbit/s at 16 kHz (MPEG 2); AAC of 0x155 bytes.
        for (head, n_bytes, name) in [
            ([0xFF, 0xFB, 0x90, 0x64, 0, 0], 417, "MP3"),
            ([0xFF, 0xF3, 0x48, 0xC4, 0, 0], 144, "MP3"),
            ([0xFF, 0xF1, 0x50, 0x80, 0x2A, 0xBF], 0x155, "AAC"),
        ] {
            let file = frames(head, n_bytes, 4);
            assert!(matches!(look_longer(&file), Look::Other(found) if found.contains(name)));
            for n in 0..2 * n_bytes {
                assert_eq!(look_longer(&file[..n]), Look::Undecided, "{n} of {name}");
            }
            let mut broken = file;
            broken[n_bytes] = 0;
            assert_eq!(look_longer(&broken), Look::Unknown);
        }
    }

    #[test]
    fn samples_are_neither_frames_nor_text() {
        let speech = include_bytes!("../assets/speech/welcome.wav");
        for start in 44..20_044 {
            let head = &speech[start..start + LONG_LOOK_BYTES];
            assert_eq!(look(head), Look::Unknown, "{start}");
            assert_eq!(look_longer(head), Look::Unknown, "{start}");
        }
        assert_eq!(look_longer(&[0xFF; LONG_LOOK_BYTES]), Look::Unknown);
    }

    #[test]
    fn text_is_known_after_64_characters() {
        let json = br#"{"type": "response.audio.delta", "delta": "AAAAAAEAAQD//wAAAQACAAAA"}"#;
        assert_eq!(look_longer(json), Look::Text);
        assert_eq!(look_longer(&json[..63]), Look::Undecided);
        assert_eq!(look_longer(b"\0\0"), Look::Unknown);
    }
}
