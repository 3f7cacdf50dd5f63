//! What people take for an ONNX file and is none, told by its first bytes.

/// How many bytes at the start are looked at for words.
const HEAD: usize = 4096;
/// One line of Python that exports a network.
const EXPORT: &str = "load it in the project's own code, then torch.onnx.export(net.eval(), (face, audio), \
    'model.onnx', opset_version=17, dynamo=False)";

/// What a file is that is no ONNX file, and what to do about it, if its first bytes say so. Nothing is
/// executed or unpacked.
#[must_use]
pub fn foreign_format(bytes: &[u8]) -> Option<String> {
    let head = &bytes[..bytes.len().min(HEAD)];
    let has = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
    let starts = |magic: &[u8]| head.starts_with(magic);
    let text = head.trim_ascii_start();
    let begins = |word: &[u8]| {
        text.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let checkpoint =
        |kind: &str| format!("a PyTorch {kind}, which holds weights but no network: {EXPORT}");
    if bytes.is_empty() {
        return Some("an empty file: copy it again".into());
    }
    if starts(b"PK\x03\x04") {
        let is_torch = has(b"data.pkl")
            || has(b"archive/")
            || has(b"byteorder")
            || has(b".data/serialization_id");
        return Some(if is_torch {
            checkpoint("checkpoint (.pth or .pt)")
        } else {
            "a zip archive: unpack it, python -m zipfile -e FILE FOLDER".into()
        });
    }
    if is_pickle(head) {
        return Some(checkpoint(
            "checkpoint or another Python pickle (.pth, .pt or .pkl)",
        ));
    }
    if is_safetensors(bytes) {
        return Some(checkpoint("checkpoint in the safetensors format"));
    }
    if starts(b"\x1f\x8b") {
        return Some("compressed with gzip: unpack it, gunzip FILE".into());
    }
    if starts(b"version https://git-lfs") {
        return Some("a Git LFS pointer, not the file itself: git lfs pull".into());
    }
    if begins(b"<!doctype html") || begins(b"<html") {
        return Some(
            "an HTML page, as a failed download leaves it: download the file itself".into(),
        );
    }
    if starts(b"ftrt") || starts(b"ptrt") {
        return Some(format!(
            "a TensorRT engine, which only TensorRT runs: take the ONNX file that it was built from, or {EXPORT}"
        ));
    }
    if head.get(4..8) == Some(b"TFL3") {
        return Some("a TensorFlow Lite model: take the ONNX file that it was made from".into());
    }
    if begins(b"<?xml") || begins(b"<net ") {
        return Some("XML, perhaps of OpenVINO: take the ONNX file that it was made from".into());
    }
    None
}

/// Protocol 2 or later, as PyTorch wrote before its archives, and other tools write now.
fn is_pickle(head: &[u8]) -> bool {
    // A protobuf message cannot begin with field 16 of wire type 0 here: no field of a model has that number.
    matches!(head, [0x80, 2..=5, ..])
}

/// Eight bytes of length, then a JSON object of that length.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    rest.first() == Some(&b'{') && length <= rest.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_formats_are_named_with_a_way_out() {
        let zip = |name: &str| [b"PK\x03\x04".as_slice(), &[0; 26], name.as_bytes()].concat();
        let safetensors = [&2_u64.to_le_bytes()[..], b"{}"].concat();
        let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        for (bytes, word) in [
            (&zip("archive/data.pkl")[..], "PyTorch checkpoint"),
            (&zip("notes.txt"), "zipfile"),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "pickle"),
            (&safetensors, "safetensors"),
            (b"\x1f\x8b\x08\0", "gunzip"),
            (lfs, "git lfs pull"),
            (b"\n<!DOCTYPE html><p>404", "HTML"),
            (b"ftrt\0\0\0\0", "TensorRT"),
            (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
            (b"", "empty"),
        ] {
            let said = foreign_format(bytes).unwrap_or_default();
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_eq!(foreign_format(b"\x08\x08\x12\x07pytorch"), None);
        assert_eq!(foreign_format(b"not an ONNX file"), None);
    }
}
