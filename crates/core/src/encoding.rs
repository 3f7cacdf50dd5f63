//! Which encoding a text has that is not UTF-8.

/// The encoding of a text whose characters take several bytes each: what editors on Windows write as "Unicode".
///
/// Without a byte order mark the first character tells: where it is one of ASCII, half or more of its bytes are NUL,
/// which no file of ours begins with.
#[must_use]
pub fn wide_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [first, 0, 0, 0, ..] | [0, 0, 0, first, ..] if *first != 0 => Some("UTF-32"),
        [first, 0, ..] | [0, first, ..] if *first != 0 => Some("UTF-16"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_texts_are_told_by_their_first_bytes() {
        for (bytes, encoding) in [
            (&b"\xff\xfes\0"[..], Some("UTF-16")),
            (b"\xfe\xff\0s", Some("UTF-16")),
            (b"s\0e\0", Some("UTF-16")),
            (b"\0s\0e", Some("UTF-16")),
            (b"\xff\xfe\0\0s\0\0\0", Some("UTF-32")),
            (b"s\0\0\0e\0\0\0", Some("UTF-32")),
            (b"\0\0\0s", Some("UTF-32")),
            (b"\xef\xbb\xbfa", None),
            (b"[1]", None),
            (b"\0\0", None),
            (b"", None),
        ] {
            assert_eq!(wide_encoding(bytes), encoding, "{bytes:?}");
        }
    }
}
