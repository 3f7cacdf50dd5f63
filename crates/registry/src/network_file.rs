//! The file of a network, with the files beside it that hold its weights.

use std::{
    io,
    path::{Path, PathBuf},
};

use lipsync_core::Foreign;
use lipsync_engine::onnx::external;

use crate::{
    RegistryError,
    fence::Fence,
    files::{self, MAX_ONNX_BYTES},
};

/// Largest file of a network that is read only to learn which files lie beside it. One whose weights are
/// elsewhere is far smaller.
const MAX_GLANCE_BYTES: u64 = 8 << 20;

/// Reads a network and attaches its data files: one vector stands for all of them.
pub(crate) fn read(
    fence: &Fence,
    path: &Path,
    what: &'static str,
) -> Result<Vec<u8>, RegistryError> {
    let onnx = files::read(fence, path, what, MAX_ONNX_BYTES)?;
    attach(fence, path, what, onnx)
}

/// Attaches its data files to a network that was read from `path` by somebody whom the operator told to. They
/// may be links to anywhere, as the file itself may be.
///
/// # Errors
/// [`RegistryError::Network`] for names that are not those of files beside it, and [`RegistryError::DataFile`].
pub fn attach_data_files(path: &Path, onnx: Vec<u8>) -> Result<Vec<u8>, RegistryError> {
    attach(&Fence::everywhere(), path, "network", onnx)
}

/// Bytes of a network and its data files, before any is read whole.
pub(crate) fn size(fence: &Fence, path: &Path, what: &'static str) -> Result<u64, RegistryError> {
    let mut n_bytes = fence.look(&fence.resolve(path, what)?, what)?.len();
    if n_bytes <= MAX_GLANCE_BYTES {
        let onnx = files::read(fence, path, what, MAX_GLANCE_BYTES)?;
        for name in names(path, what, &onnx)? {
            let data = beside(path, what, &name);
            let found = fence
                .look_beside(path, &data.path)
                .map_err(|e| data.error(&e))?;
            n_bytes = n_bytes.saturating_add(found.len());
        }
    }
    Ok(n_bytes)
}

fn attach(
    fence: &Fence,
    path: &Path,
    what: &'static str,
    mut onnx: Vec<u8>,
) -> Result<Vec<u8>, RegistryError> {
    for name in names(path, what, &onnx)? {
        let room = MAX_ONNX_BYTES.saturating_sub(onnx.len() as u64);
        let bytes = data_file(fence, path, (what, &name), room)?;
        external::attach(&mut onnx, &name, bytes);
    }
    Ok(onnx)
}

/// Reads a data file of at most `limit_bytes`.
fn data_file(
    fence: &Fence,
    path: &Path,
    (what, name): (&'static str, &str),
    limit_bytes: u64,
) -> Result<Vec<u8>, RegistryError> {
    let data = beside(path, what, name);
    let open = fence.open_beside(path, &data.path);
    files::read_open(
        open.map_err(|e| data.error(&e))?,
        &data.path,
        what,
        limit_bytes,
    )
}

/// The files of a network, each as it is.
#[derive(Debug)]
pub(crate) struct NetworkParts {
    /// The network's own.
    pub onnx: Vec<u8>,
    /// Those beside it that hold its weights, by their names.
    pub data: Vec<(String, Vec<u8>)>,
}

/// Reads a network and its data files, for a copy of each.
pub(crate) fn parts(
    fence: &Fence,
    path: &Path,
    what: &'static str,
) -> Result<NetworkParts, RegistryError> {
    let onnx = files::read(fence, path, what, MAX_ONNX_BYTES)?;
    let mut room = MAX_ONNX_BYTES.saturating_sub(onnx.len() as u64);
    let mut data = Vec::new();
    for name in names(path, what, &onnx)? {
        let bytes = data_file(fence, path, (what, &name), room)?;
        room = room.saturating_sub(bytes.len() as u64);
        data.push((name, bytes));
    }
    Ok(NetworkParts { onnx, data })
}

/// The names of the data files, none of them the network's own.
fn names(path: &Path, what: &'static str, onnx: &[u8]) -> Result<Vec<String>, RegistryError> {
    let names = external::data_files(onnx).map_err(|error| RegistryError::Network {
        what,
        source: error.into(),
    })?;
    match names
        .iter()
        .find(|name| path.file_name() == Some(name.as_ref()))
    {
        None => Ok(names),
        Some(name) => Err(beside(path, what, name).error(&io::ErrorKind::InvalidInput.into())),
    }
}

/// A data file, for reading it and for saying why not.
struct DataFile {
    what: &'static str,
    name: String,
    path: PathBuf,
}

fn beside(path: &Path, what: &'static str, name: &str) -> DataFile {
    DataFile {
        what,
        name: Foreign(name).to_string(),
        path: path.with_file_name(name),
    }
}

impl DataFile {
    fn error(&self, error: &io::Error) -> RegistryError {
        RegistryError::DataFile {
            what: self.what,
            name: self.name.clone(),
            kind: error.kind(),
            path: self.path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use lipsync_engine::onnx::proto::{
        GraphProto, ModelProto, StringStringEntryProto, TensorProto,
    };
    use prost::Message as _;

    use super::*;
    use crate::{ModelConfig, ModelSource, testing};

    /// A model whose only weights are in the file `location`.
    fn model(location: &str) -> Vec<u8> {
        let entry = StringStringEntryProto {
            key: "location".into(),
            value: location.into(),
        };
        let tensor = TensorProto {
            dims: vec![1],
            data_type: 1,
            external_data: vec![entry],
            data_location: 1,
            ..TensorProto::default()
        };
        let graph = GraphProto {
            initializer: vec![tensor],
            ..GraphProto::default()
        };
        let model = ModelProto {
            graph: Some(graph),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }

    struct Case {
        folder: tempfile::TempDir,
        fence: Fence,
        path: PathBuf,
    }

    /// A folder with a model, named as a folder or part by part.
    fn case(location: &str, in_parts: bool) -> Case {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("avatar");
        fs::create_dir(&inside).expect("created");
        fs::create_dir(folder.path().join("frames")).expect("created");
        fs::write(folder.path().join("rects.json"), "[]").expect("written");
        fs::write(folder.path().join("secret"), "abcd").expect("written");
        let path = inside.join("unet.onnx");
        fs::write(&path, model(location)).expect("written");
        let source = if in_parts {
            ModelSource::Parts {
                model_path: path.clone(),
                background_dir: folder.path().join("frames"),
                crop_rects_path: folder.path().join("rects.json"),
                n_frames: None,
            }
        } else {
            ModelSource::Folder(inside)
        };
        let config = ModelConfig {
            source,
            ..testing::folder("a", folder.path())
        };
        let fence = Fence::around(&config).expect("a fence");
        Case {
            folder,
            fence,
            path,
        }
    }

    fn read_case(case: &Case) -> Result<Vec<u8>, RegistryError> {
        let counted = size(&case.fence, &case.path, "generator");
        let bytes = read(&case.fence, &case.path, "generator");
        assert_eq!(counted.is_ok(), bytes.is_ok(), "{counted:?}");
        bytes
    }

    #[test]
    fn data_beside_the_model_is_read_and_counted_and_hashed() {
        for in_parts in [false, true] {
            let case = case("unet.onnx.data", in_parts);
            let missing = read_case(&case).expect_err("it is not there").to_string();
            assert!(missing.contains("unet.onnx.data"), "{missing}");
            fs::write(case.path.with_file_name("unet.onnx.data"), "abcd").expect("written");
            let first = read_case(&case).expect("read");
            let n_bytes = model("unet.onnx.data").len() as u64 + 4;
            assert_eq!(
                size(&case.fence, &case.path, "generator").ok(),
                Some(n_bytes)
            );
            fs::write(case.path.with_file_name("unet.onnx.data"), "abce").expect("written");
            let second = read_case(&case).expect("read");
            assert_ne!(crate::Verdict::hash(&first), crate::Verdict::hash(&second));
        }
    }

    #[test]
    fn data_elsewhere_is_not_read() {
        for location in ["/etc/passwd", "../secret", "unet.onnx"] {
            let case = case(location, false);
            read_case(&case).expect_err("it is not beside the model");
        }
        for in_parts in [false, true] {
            let case = case("data", in_parts);
            let data = case.path.with_file_name("data");
            symlink(case.folder.path().join("secret"), &data).expect("linked");
            let error = read_case(&case).expect_err("a link leads out").to_string();
            assert!(!error.contains("secret"), "{error}");
            fs::remove_file(&data).expect("removed");
            symlink("/dev/zero", &data).expect("linked");
            read_case(&case).expect_err("no file");
            fs::remove_file(&data).expect("removed");
            fs::create_dir(&data).expect("created");
            read_case(&case).expect_err("no file");
        }
    }
}
