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
const BEGINNINGS: [(&[u8], Look); 60] = [
    (b"RIFF????WAVE", Look::Wav),
    (b"RF64????WAVE", Look::Wav),
    (b"BW64????WAVE", Look::Wav),
    (b"RIFF????AVI ", Look::Other("an AVI film")),
    (b"RIFF????WEBP", Look::Other("a WebP picture")),
    (b"RIFF????QLCM", Look::Other("a QCP file")),
    (b"RIFX????WAVE", Look::Other("a big-endian WAV file (RIFX)")),
    (b"riff\x2e\x91\xcf\x11", Look::Other("a Wave64 file")),
    (b"FORM????AIFF", Look::Other("an AIFF file")),
    (b"FORM????AIFC", Look::Other("an AIFF-C file")),
    (b"OggS\0", Look::Other("an Ogg file")),
    (b"OpusHead", Look::Other("the head of an Opus stream")),
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
    (b"MAC ", Look::Other("a Monkey's Audio file")),
    (b"TTA1", Look::Other("a True Audio file")),
    (b"TTA2", Look::Other("a True Audio file")),
    (b"DSD ", Look::Other("a DSD file (DSF)")),
    (b"MThd\0\0\0\x06", Look::Other("a MIDI file")),
    (b"Creative Voi", Look::Other("a VOC file")),
    (b"NIST_1A\n", Look::Other("a SPHERE file")),
    (b".RMF\0\0\0", Look::Other("a RealMedia file")),
    (b"FLV\x01", Look::Other("an FLV film")),
    (b"\0\0\x01\xba", Look::Other("an MPEG film")),
    (
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        Look::Other("a WMA file"),
    ),
    (b"PK\x03\x04", Look::Other("a ZIP archive")),
    (b"\x28\xb5\x2f\xfd", Look::Other("a Zstandard archive")),
    (b"7z\xbc\xaf\x27\x1c", Look::Other("a 7-Zip archive")),
    (b"\xfd7zXZ\0", Look::Other("an XZ archive")),
    (b"\x89PNG\r\n", Look::Other("a PNG picture")),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", Look::Other("a JPEG picture")),
    (b"GIF89a", Look::Other("a GIF picture")),
    (b"%PDF-", Look::Other("a PDF document")),
    (b"\x7fELF", Look::Other("a program (ELF)")),
    (b"HTTP/1.", Look::Other("an HTTP answer with its headers")),
    (b"<!DOCTYPE", Look::Other("a web page")),
    (b"<!doctype", Look::Other("a web page")),
    (b"<html", Look::Other("a web page")),
    (
        b"\xef\xbb\xbfRIFF",
        Look::Other("a WAV file behind a byte order mark"),
    ),
    (b"\nRIFF", Look::Other("a WAV file behind a line break")),
    (b"\r\nRIFF", Look::Other("a WAV file behind a line break")),
    (b"data:audio/", Look::Other("base64 text (a data: address)")),
    (b"{\"audio", Look::Other("JSON text")),
    (b"{\"data\"", Look::Other("JSON text")),
    (b"{\"error", Look::Other("JSON text")),
    (b"{\"type\"", Look::Other("JSON text")),
    (b"{\"event", Look::Other("JSON text")),
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
    for guess in [gzip(head), transport_stream(head)] {
        if guess != Look::Unknown {
            return guess;
        }
    }
    frames(head)
}

/// A gzip file: its three fixed bytes are too few, so what the next seven may be counts, too.
///
/// *Source:* RFC 1952, 2.3.
fn gzip(head: &[u8]) -> Look {
    const FIXED: [u8; 3] = [0x1F, 0x8B, 8];
    let Some(&[a, b, c, flags, .., extra, system]) = head.first_chunk::<10>() else {
        let is_begun = !head.is_empty() && FIXED.starts_with(&head[..head.len().min(3)]);
        return if is_begun {
            Look::Undecided
        } else {
            Look::Unknown
        };
    };
    let is_known = flags < 0x20 && matches!(extra, 0 | 2 | 4) && matches!(system, 0..=13 | 255);
    if [a, b, c] == FIXED && is_known {
        Look::Other("a gzip archive")
    } else {
        Look::Unknown
    }
}

/// An MPEG transport stream: a mark every 188 bytes, and heads that differ, which those of a tone of that
/// period would not.
///
/// *Source:* ISO/IEC 13818-1, 2.4.3.2.
fn transport_stream(head: &[u8]) -> Look {
    const PACKET_BYTES: usize = 188;
    const N_PACKETS: usize = 4;
    let first = head.first_chunk::<4>();
    let mut differ = false;
    for n in 0..N_PACKETS {
        let packet = head.get(n * PACKET_BYTES..).unwrap_or_default();
        match packet.first_chunk::<4>() {
            // No fault of transmission, and something in it.
            Some(found @ [0x47, flags, _, control]) if flags & 0x80 == 0 && control & 0x30 != 0 => {
                differ |= Some(found) != first;
            }
            None if head.first() == Some(&0x47) => return Look::Undecided,
            _ => return Look::Unknown,
        }
    }
    if differ {
        Look::Other("an MPEG transport stream")
    } else {
        Look::Unknown
    }
}

/// A kind of compressed sound that comes in frames.
struct FrameKind {
    name: &'static str,
    /// The first byte of every frame.
    sync: u8,
    /// Bits of the second byte that are alike in all frames.
    alike: u8,
    /// Length of the frame that begins so.
    n_bytes: fn(&[u8; 6]) -> Option<usize>,
}

const FRAME_KINDS: [FrameKind; 4] = [
    FrameKind {
        name: "MP3 frames",
        sync: 0xFF,
        alike: 0xFF,
        n_bytes: mpeg_frame_bytes,
    },
    FrameKind {
        name: "AAC frames (ADTS)",
        sync: 0xFF,
        alike: 0xFF,
        n_bytes: adts_frame_bytes,
    },
    FrameKind {
        name: "AAC frames (LOAS)",
        sync: 0x56,
        alike: 0xE0,
        n_bytes: loas_frame_bytes,
    },
    FrameKind {
        name: "AC-3 frames",
        sync: 0x0B,
        alike: 0xFF,
        n_bytes: ac3_frame_bytes,
    },
];

/// Frames in a row, of which each begins where the one before says that it ends. A single head proves nothing:
/// samples of -5 and -1025 begin like one of MP3.
fn frames(head: &[u8]) -> Look {
    let Some(first) = head.first_chunk::<6>() else {
        let is_begun = |kind: &FrameKind| head.first().is_none_or(|&byte| byte == kind.sync);
        return if FRAME_KINDS.iter().any(is_begun) {
            Look::Undecided
        } else {
            Look::Unknown
        };
    };
    let is_kind = |kind: &&FrameKind| first[0] == kind.sync && (kind.n_bytes)(first).is_some();
    let Some(kind) = FRAME_KINDS.iter().find(is_kind) else {
        return Look::Unknown;
    };
    let mut place = 0;
    for _ in 0..FRAMES_NEEDED {
        let Some(frame) = head.get(place..).and_then(<[u8]>::first_chunk::<6>) else {
            return Look::Undecided;
        };
        let is_alike = frame[0] == kind.sync && (frame[1] ^ head[1]) & kind.alike == 0;
        match (kind.n_bytes)(frame) {
            Some(n_bytes) if is_alike => place += n_bytes,
            _ => return Look::Unknown,
        }
    }
    Look::Other(kind.name)
}

/// Length of an MPEG layer III frame that begins here.
///
/// *Source:* ISO/IEC 11172-3, 2.4.1.3, and 13818-3 for the lower rates.
fn mpeg_frame_bytes(frame: &[u8; 6]) -> Option<usize> {
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
fn adts_frame_bytes(frame: &[u8; 6]) -> Option<usize> {
    let [0xFF, second, third, fourth, fifth, sixth] = *frame else {
        return None;
    };
    // Twelve bits of sync, layer 0, and one of 13 sampling rates.
    if second & 0xF6 != 0xF0 || third >> 2 & 0xF > 12 {
        return None;
    }
    let n_bytes = usize::from(fourth & 3) << 11 | usize::from(fifth) << 3 | usize::from(sixth >> 5);
    (8..=MAX_FRAME_BYTES).contains(&n_bytes).then_some(n_bytes)
}

/// Length of an AAC frame in LOAS, as broadcasters send LATM.
///
/// *Source:* ISO/IEC 14496-3, 1.7.2: eleven bits of sync, thirteen of length.
fn loas_frame_bytes(frame: &[u8; 6]) -> Option<usize> {
    let [0x56, second @ 0xE0..=0xFF, third, ..] = *frame else {
        return None;
    };
    let n_bytes = 3 + (usize::from(second & 0x1F) << 8 | usize::from(third));
    (8..=MAX_FRAME_BYTES).contains(&n_bytes).then_some(n_bytes)
}

/// Length of an AC-3 frame that begins here.
///
/// *Source:* ATSC A/52, 5.3 and table 5.18: a frame lasts 1,536 samples.
fn ac3_frame_bytes(frame: &[u8; 6]) -> Option<usize> {
    const KBIT: [usize; 19] = [
        32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640,
    ];
    let [0x0B, 0x77, _, _, rate, version] = *frame else {
        return None;
    };
    if version >> 3 > 8 {
        return None;
    }
    let kbit = KBIT.get(usize::from(rate >> 1 & 0x1F))?;
    let n_words = match rate >> 6 {
        0 => 2 * kbit,
        1 => 320 * kbit / 147 + usize::from(rate & 1),
        2 => 3 * kbit,
        _ => return None,
    };
    (2 * n_words <= MAX_FRAME_BYTES).then_some(2 * n_words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes_however_few_came_so_far() {
        let files: [(&[u8], &str); 6] = [
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
        for wav in [
            b"RIFF\0\0\0\0WAVE",
            b"RF64\xff\xff\xff\xffWAVE",
            b"BW64\xff\xff\xff\xffWAVE",
        ] {
            assert_eq!(look(wav), Look::Wav);
        }
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

    #[test]
    fn files_of_other_trades_are_known_too() {
        for (file, name) in [
            (&b"PK\x03\x04\x14\0"[..], "ZIP"),
            (b"\x89PNG\r\n\x1a\n", "PNG"),
            (b"%PDF-1.7", "PDF"),
            (b"RIFF\x10\x20\0\0WEBPVP8 ", "WebP"),
            (b"RIFF\x10\x20\0\0QLCMfmt ", "QCP"),
            (b"riff\x2e\x91\xcf\x11\xa5\xd6", "Wave64"),
            (b"DSD \x1c\0\0\0", "DSF"),
            (b"MAC \x96\x0f", "Monkey"),
            (b"TTA1\x01\0", "True Audio"),
            (b"Creative Voice File\x1a", "VOC"),
            (b"NIST_1A\n   1024\n", "SPHERE"),
            (b"MThd\0\0\0\x06\0\x01", "MIDI"),
            (b"OpusHead\x01\x01", "Opus"),
            (b"FLV\x01\x05\0\0\0\x09", "FLV"),
            (b"\0\0\x01\xba\x44\0", "MPEG film"),
            (b"\xef\xbb\xbfRIFF\0\0", "byte order mark"),
            (b"\nRIFF\0\0\0\0WAVE", "line break"),
            (b"HTTP/1.1 200 OK\r\n", "HTTP"),
            (b"data:audio/wav;base64,UklGR", "base64"),
            (b"{\"audio\":\"UklGR", "JSON"),
            (b"{\"error\":\"no\"}", "JSON"),
        ] {
            let found = look(file);
            assert!(
                matches!(found, Look::Other(n) if n.contains(name)),
                "{name}: {found:?}"
            );
            let early = (0..file.len()).map(|n| look(&file[..n]));
            assert!(
                early
                    .into_iter()
                    .all(|l| l == Look::Undecided || l == found),
                "{name}"
            );
        }
    }

    #[test]
    fn what_few_bytes_do_not_prove_is_looked_at_longer() {
        let gzip = b"\x1f\x8b\x08\0\x12\x34\x56\x78\x02\xff\xa5";
        let is = |head: &[u8], name: &str| matches!(look_longer(head), Look::Other(n) if n.contains(name));
        assert!(is(gzip, "gzip"));
        assert_eq!(look_longer(&gzip[..9]), Look::Undecided);
        assert_eq!(
            look_longer(b"\x1f\x8b\x08\xff\x12\x34\x56\x78\x02\xff"),
            Look::Unknown
        );

        let packet = |counter: u8| {
            let mut packet = vec![0x47, 0x41, 0, 0x10 | counter];
            packet.resize(188, 0xA5);
            packet
        };
        let stream: Vec<u8> = (0..4).flat_map(packet).collect();
        assert!(is(&stream, "transport"));
        assert_eq!(look_longer(&stream[..500]), Look::Undecided);
        // A tone of that period.
        assert_eq!(look_longer(&packet(0).repeat(9)), Look::Unknown);
        assert_eq!(look_longer(&[0x47; 4800][..63]), Look::Undecided, "text");

        // 200 bytes of AAC in LOAS; AC-3 of 192 kbit/s at 48 kHz.
        assert!(is(&frames([0x56, 0xE0, 197, 1, 2, 3], 200, 3), "LOAS"));
        assert!(is(&frames([0x0B, 0x77, 1, 2, 0x14, 0x40], 768, 3), "AC-3"));
        for head in [
            [0x56, 0xE0, 197, 1, 2, 3],
            [0x0B, 0x77, 1, 2, 0x14, 0x40],
            [0xFF, 0xE3, 0x18, 0xC4, 0, 0],
        ] {
            // A lone head, and then anything.
            let mut lone = head.to_vec();
            lone.resize(LONG_LOOK_BYTES, 0xA5);
            assert_eq!(look_longer(&lone), Look::Unknown);
        }
    }
}
