//! Files that clients send as if they were samples.
//!
//! A WAV header of the announced form is taken away: services that stream speech put one before it, and what
//! follows are the samples that the client meant. One of another form is refused, and so is every other
//! file: played as samples it would be noise, and nobody would know why.

use bytes::Bytes;
use lipsync::{
    container::{Look, look, look_longer},
    wav::{DataChunk, WavEncoding, WavHead},
};
use lipsync_audio::SampleEncoding;
use lipsync_core::saturate::usize_of;
use lipsync_serving::{ServeError, order::PcmFormat};
use lipsync_session::Warning;

/// The samples in what was sent in one piece, and what to tell the client about it.
pub(crate) fn unpacked(
    field: &str,
    sent: Bytes,
    format: PcmFormat,
) -> Result<(Bytes, Option<Warning>), ServeError> {
    match look(&sent) {
        Look::Other(found) => Err(refused(field, found)),
        Look::Wav => {
            let Some(data) = wav_data(field, &sent, format)? else {
                return Err(ServeError::invalid(field, "the WAV file holds no samples"));
            };
            let n_left = sent.len() - data.start;
            let n_said = usize_of(data.n_bytes);
            let n_bytes = if n_said == 0 {
                n_left
            } else {
                n_said.min(n_left)
            };
            let n_bytes = n_bytes - n_bytes % format.item_bytes();
            Ok((
                sent.slice(data.start..data.start + n_bytes),
                Some(stripped()),
            ))
        }
        Look::Unknown | Look::Undecided | Look::Text => match look_longer(&sent) {
            Look::Other(found) => Err(refused(field, found)),
            Look::Text => Ok((sent, text(format))),
            Look::Unknown | Look::Undecided | Look::Wav => Ok((sent, None)),
        },
    }
}

/// Where the samples of a WAV file begin; `None` when that is further on.
///
/// # Errors
/// [`ServeError::Invalid`] for one that is broken, or of another form than was announced.
pub(crate) fn wav_data(
    field: &str,
    file: &[u8],
    format: PcmFormat,
) -> Result<Option<DataChunk>, ServeError> {
    let found = WavHead::find(file).map_err(|error| {
        ServeError::invalid(
            field,
            format!("expected samples, found a WAV file: {error}"),
        )
    })?;
    let Some((head, data)) = found else {
        return Ok(None);
    };
    let encoding = match head.encoding {
        WavEncoding::S16 => Some(SampleEncoding::S16Le),
        WavEncoding::F32 => Some(SampleEncoding::F32Le),
        WavEncoding::Mulaw => Some(SampleEncoding::Mulaw),
        WavEncoding::Alaw => Some(SampleEncoding::Alaw),
        WavEncoding::U8 | WavEncoding::S24 | WavEncoding::S32 | WavEncoding::F64 => None,
    };
    let is_as_announced = encoding == Some(format.encoding)
        && head.rate_hz == format.rate_hz
        && u32::from(head.n_channels) == format.n_channels;
    if is_as_announced {
        return Ok(Some(data));
    }
    Err(ServeError::invalid(
        field,
        format!(
            "a WAV header among the samples says {:?}, {} Hz, {} channels; announced were {:?}, {} Hz, {}",
            head.encoding,
            head.rate_hz,
            head.n_channels,
            format.encoding,
            format.rate_hz,
            format.n_channels
        ),
    ))
}

/// Why a file is not taken.
pub(crate) fn refused(field: &str, found: &str) -> ServeError {
    ServeError::invalid(
        field,
        format!("expected samples, found {found}: decode it first"),
    )
}

/// What a client is told whose WAV header was taken away.
pub(crate) fn stripped() -> Warning {
    Warning {
        code: "container_stripped",
        text: "a WAV header came among the samples and was taken away: send samples alone".into(),
    }
}

/// What a client is told of whose chunks one begins as a file does, in the middle of a segment.
pub(crate) fn among(found: &str) -> Warning {
    Warning {
        code: "not_samples",
        text: format!("a chunk begins like {found}: send decoded samples"),
    }
}

/// What a client is told that seems to send text. An 8-bit coding may hold nothing else for a while.
pub(crate) fn text(format: PcmFormat) -> Option<Warning> {
    (format.encoding.sample_bytes() > 1).then(|| Warning {
        code: "not_samples",
        text: "the samples look like text, such as JSON or base64: send decoded samples".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: PcmFormat = PcmFormat {
        rate_hz: 24_000,
        n_channels: 1,
        encoding: SampleEncoding::S16Le,
    };

    fn wav(n_said: u32, samples: &[u8]) -> Bytes {
        let mut file = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        file.extend(24_000_u32.to_le_bytes());
        file.extend(b"\x80\xbb\0\0\x02\0\x10\0data");
        file.extend(n_said.to_le_bytes());
        file.extend(samples);
        file.into()
    }

    #[test]
    fn a_wav_file_of_the_announced_form_is_its_samples() {
        for (n_said, samples) in [(4, 4), (u32::MAX, 9), (0, 9), (7, 7), (100, 9)] {
            let file = wav(n_said, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
            let (found, warning) = unpacked("pcm", file, FORMAT).unwrap();
            assert_eq!(found.len(), samples / 2 * 2, "{n_said}");
            assert_eq!(found[..4], [1, 2, 3, 4]);
            assert_eq!(warning.unwrap().code, "container_stripped");
        }
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let other = |rate_hz, n_channels, encoding| PcmFormat {
            rate_hz,
            n_channels,
            encoding,
        };
        let file = || wav(4, &[1, 2, 3, 4]);
        let mp3 = [&[0xFF, 0xFB, 0x90, 0x64][..], &[0; 413]]
            .concat()
            .repeat(3);
        let cases: [(Bytes, PcmFormat, &str); 8] = [
            (file(), other(16_000, 1, SampleEncoding::S16Le), "24000 Hz"),
            (
                file(),
                other(24_000, 2, SampleEncoding::S16Le),
                "1 channels",
            ),
            (file(), other(24_000, 1, SampleEncoding::F32Le), "F32Le"),
            (file(), other(24_000, 1, SampleEncoding::Mulaw), "Mulaw"),
            (file().slice(..40), FORMAT, "no samples"),
            (Bytes::from_static(b"OggS\0\x02\0\0"), FORMAT, "Ogg"),
            (Bytes::from_static(b"ID3\x04\0\0\0\0\0\x23"), FORMAT, "MP3"),
            (mp3.into(), FORMAT, "MP3"),
        ];
        for (sent, format, expected) in cases {
            let error = unpacked("pcm.samples", sent, format)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error:?} names {expected:?}");
        }
    }

    #[test]
    fn samples_and_text_are_taken_as_they_are() {
        let text = Bytes::from(vec![b'A'; 100]);
        let (sent, warning) = unpacked("pcm", text.clone(), FORMAT).unwrap();
        assert_eq!((sent, warning.unwrap().code), (text.clone(), "not_samples"));
        let telephony = PcmFormat {
            encoding: SampleEncoding::Mulaw,
            ..FORMAT
        };
        assert_eq!(
            unpacked("pcm", text.clone(), telephony).unwrap(),
            (text, None)
        );
        for samples in [vec![], vec![0; 100], vec![0xFF; 3], b"RIFF".to_vec()] {
            let samples = Bytes::from(samples);
            assert_eq!(
                unpacked("pcm", samples.clone(), FORMAT).unwrap(),
                (samples, None)
            );
        }
    }
}
