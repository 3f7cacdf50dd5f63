//! Weights in a file beside the model: `unet.onnx` and `unet.onnx.data`, as PyTorch exports since 2.9.
//!
//! This module reads no files. [`data_files`] names those that a model needs, and whoever reads them
//! [attaches](attach) them: then the bytes are whole, and one hash or one slice stands for all files. A name
//! is that of a file beside the model and nothing else. The import checks places and sizes before it copies.

use std::collections::BTreeMap;

use lipsync_core::Foreign;
use prost::Message;

use super::{
    bounds, element_type,
    proto::{DataFile, ModelProto, StringStringEntryProto, TensorProto},
    tensor::n_elements,
};
use crate::EngineError;

/// Most data files of a model; older exporters write one for each weight.
pub const MAX_DATA_FILES: usize = 1024;

/// A model without its weights: the same messages, of which little is decoded.
#[derive(Clone, PartialEq, Message)]
struct Outline {
    #[prost(message, optional, tag = "7")]
    graph: Option<OutlineGraph>,
}

#[derive(Clone, PartialEq, Message)]
struct OutlineGraph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<OutlineNode>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<OutlineTensor>,
}

#[derive(Clone, PartialEq, Message)]
struct OutlineNode {
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<OutlineAttribute>,
}

#[derive(Clone, PartialEq, Message)]
struct OutlineAttribute {
    #[prost(message, optional, tag = "5")]
    t: Option<OutlineTensor>,
}

#[derive(Clone, PartialEq, Message)]
struct OutlineTensor {
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<StringStringEntryProto>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

/// The names of the files beside a model that hold its weights, each once, in the order of their first use.
/// Bytes that are no model have none: the import says what is wrong with them.
///
/// # Errors
/// [`EngineError::Malformed`] for a name that is not plainly that of a file in the model's folder, for more
/// than [`MAX_DATA_FILES`], and for what is out of [`bounds`].
pub fn data_files(onnx: &[u8]) -> Result<Vec<String>, EngineError> {
    bounds::check(onnx)?;
    let Some(graph) = Outline::decode(onnx).ok().and_then(|model| model.graph) else {
        return Ok(Vec::new());
    };
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let tensors = graph
        .initializer
        .iter()
        .chain(attributes.filter_map(|attribute| attribute.t.as_ref()));
    let mut names: Vec<String> = Vec::new();
    for tensor in tensors.filter(|tensor| tensor.data_location != 0) {
        let name = location(&tensor.name, &tensor.external_data)?;
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        if names.len() > MAX_DATA_FILES {
            let reason = format!("its weights are in more than {MAX_DATA_FILES} files");
            return Err(EngineError::Malformed { reason });
        }
    }
    Ok(names)
}

/// Appends a data file to the bytes of its model. What comes out is a model for the import, and any other
/// reader skips what was appended.
pub fn attach(onnx: &mut Vec<u8>, name: &str, bytes: Vec<u8>) {
    let name = name.to_owned();
    let appended = ModelProto {
        data_files: vec![DataFile { name, bytes }],
        ..ModelProto::default()
    };
    // Encoding into a vector cannot fail: it grows.
    let _ = appended.encode(onnx);
}

/// The file that a tensor's data is in.
fn location<'a>(
    tensor: &str,
    entries: &'a [StringStringEntryProto],
) -> Result<&'a str, EngineError> {
    let entry = entries.iter().find(|entry| entry.key == "location");
    let name = entry.map_or("", |entry| entry.value.as_str());
    let name = name.strip_prefix("./").unwrap_or(name);
    let is_plain = !name.contains(['/', '\\', '\0']) && !matches!(name, "" | "." | "..");
    if is_plain {
        return Ok(name);
    }
    Err(bad(
        tensor,
        &format!(
            "its data is in {:?}, but only files beside the model are read",
            Foreign(name)
        ),
    ))
}

fn bad(tensor: &str, reason: &str) -> EngineError {
    EngineError::Malformed {
        reason: format!("tensor {:?}: {reason}", Foreign(tensor)),
    }
}

/// The attached data files of a model, and which of their bytes have an owner.
#[derive(Debug, Default)]
pub(crate) struct DataFiles<'a> {
    files: Vec<(&'a str, &'a [u8])>,
    /// For each file, ends of the taken ranges by their starts.
    taken: Vec<BTreeMap<usize, usize>>,
}

impl<'a> DataFiles<'a> {
    /// Those of a model.
    pub fn of(files: &'a [DataFile]) -> Self {
        Self {
            files: files.iter().map(|f| (&*f.name, &*f.bytes)).collect(),
            taken: vec![BTreeMap::new(); files.len()],
        }
    }

    /// The bytes of a tensor whose data is in one of the files. Nobody gets them a second time, so all
    /// weights together are no larger than the files.
    ///
    /// # Errors
    /// [`EngineError::Malformed`] where the file is not there, the place is not in it, the size is not that of
    /// the tensor, or another tensor has some of the bytes.
    pub fn take(&mut self, tensor: &TensorProto) -> Result<&'a [u8], EngineError> {
        let bad = |reason: String| Err(bad(&tensor.name, &reason));
        let name = location(&tensor.name, &tensor.external_data)?;
        let shown = Foreign(name);
        let Some(index) = self.files.iter().position(|(known, _)| *known == name) else {
            return bad(format!(
                "its data is in the file {shown:?}, which has to be beside the model"
            ));
        };
        let number = |key: &str| {
            let mut entries = tensor.external_data.iter();
            entries.find(|e| e.key == key).map(|e| e.value.parse())
        };
        let (Ok(offset), Ok(length)) = (
            number("offset").unwrap_or(Ok(0_usize)),
            number("length").transpose(),
        ) else {
            return bad("the offset or length of its data is no number".into());
        };
        let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&d| d.try_into().ok()).collect();
        let n_bytes = dims
            .as_deref()
            .and_then(n_elements)
            .zip(element_type::bytes(tensor.data_type))
            .and_then(|(n, size)| n.checked_mul(size));
        let Some(n_bytes) = n_bytes else {
            return bad(format!(
                "dimensions {:?} of {}",
                tensor.dims,
                element_type::name(tensor.data_type)
            ));
        };
        if length.is_some_and(|length| length != n_bytes) {
            return bad(format!(
                "its data has {} bytes, its dimensions {n_bytes}",
                length.unwrap_or(0)
            ));
        }
        let bytes = self.files[index].1;
        let end = offset
            .checked_add(n_bytes)
            .filter(|&end| end <= bytes.len());
        let Some(end) = end else {
            return bad(format!(
                "its data ends beyond the {} bytes of {shown:?}: copy both files again, they belong together",
                bytes.len()
            ));
        };
        if !self.claim(index, offset..end) {
            return bad(format!("another tensor has the same bytes of {shown:?}"));
        }
        Ok(&bytes[offset..end])
    }

    /// Takes a range of a file, if nobody has any of it.
    fn claim(&mut self, file: usize, range: std::ops::Range<usize>) -> bool {
        let taken = &mut self.taken[file];
        let before = taken.range(..range.end).next_back();
        let is_free = range.is_empty() || before.is_none_or(|(_, &end)| end <= range.start);
        if is_free && !range.is_empty() {
            taken.insert(range.start, range.end);
        }
        is_free
    }
}
