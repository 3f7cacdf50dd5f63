//! Weights in a file beside the model.

use lipsync_engine::onnx::{
    external,
    proto::{AttributeProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto},
};
use prost::Message;

use crate::support::{face, plain, raw, refusal};

/// Moves all weights into a data file, as PyTorch does; the model and the file.
pub fn split(mut model: ModelProto) -> (ModelProto, Vec<u8>) {
    let mut data = Vec::new();
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        let bytes = raw(tensor);
        tensor.external_data = place("net.onnx.data", data.len(), bytes.len());
        tensor.data_location = 1;
        data.extend(bytes);
    }
    (model, data)
}

fn place(file: &str, offset: usize, length: usize) -> Vec<StringStringEntryProto> {
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: key.into(),
        value,
    };
    vec![
        entry("location", file.into()),
        entry("offset", offset.to_string()),
        entry("length", length.to_string()),
    ]
}

fn whole(model: &ModelProto, data: Vec<u8>) -> Vec<u8> {
    let mut onnx = model.encode_to_vec();
    external::attach(&mut onnx, "net.onnx.data", data);
    onnx
}

#[test]
fn weights_beside_the_model_are_those_inside_it() {
    let (model, data) = split(plain());
    let onnx = model.encode_to_vec();
    assert_eq!(external::data_files(&onnx).unwrap(), ["net.onnx.data"]);
    assert!(refusal(&onnx).contains("\"net.onnx.data\", which has to be beside the model"));
    assert_eq!(face(&whole(&model, data)), face(&plain().encode_to_vec()));
    assert!(
        external::data_files(&plain().encode_to_vec())
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_constant_node_may_keep_its_data_beside_the_model() {
    let mut model = plain();
    let graph = model.graph.as_mut().unwrap();
    let mut tensor = graph.initializer.remove(0);
    let data = raw(&mut tensor);
    let output = std::mem::take(&mut tensor.name);
    tensor.external_data = place("net.onnx.data", 0, data.len());
    tensor.data_location = 1;
    let constant = NodeProto {
        op_type: "Constant".into(),
        output: vec![output],
        attribute: vec![AttributeProto {
            name: "value".into(),
            t: Some(tensor),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    };
    graph.node.insert(0, constant);
    assert_eq!(face(&whole(&model, data)), face(&plain().encode_to_vec()));
}

#[test]
fn data_that_is_not_where_the_model_says_is_refused() {
    let refused = |change: fn(&mut TensorProto)| {
        let (mut model, data) = split(plain());
        change(&mut model.graph.as_mut().unwrap().initializer[1]);
        refusal(&whole(&model, data))
    };
    let beyond = refused(|tensor| {
        let length: usize = tensor.external_data[2].value.parse().unwrap();
        tensor.external_data = place("net.onnx.data", 1 << 40, length);
    });
    assert!(beyond.contains("ends beyond the"), "{beyond}");
    let wrapping = refused(|tensor| {
        tensor.external_data[1].value = usize::MAX.to_string();
    });
    assert!(wrapping.contains("ends beyond the"), "{wrapping}");
    let overlapping = refused(|tensor| tensor.external_data[1].value = "4".into());
    assert!(
        overlapping.contains("another tensor has the same bytes"),
        "{overlapping}"
    );
    let short = refused(|tensor| tensor.external_data[2].value = "4".into());
    assert!(short.contains("its data has 4 bytes"), "{short}");
    let no_number = refused(|tensor| tensor.external_data[1].value = "-1".into());
    assert!(no_number.contains("no number"), "{no_number}");
    let huge = refused(|tensor| {
        tensor.dims = vec![1 << 20, 1 << 10];
        tensor.external_data = place("net.onnx.data", 0, 1 << 32);
    });
    assert!(huge.contains("ends beyond the"), "{huge}");
}

#[test]
fn data_is_read_from_files_beside_the_model_only() {
    for location in ["/etc/passwd", "../x", "a/b", "a\\b", "", "..", "."] {
        let (mut model, _) = split(plain());
        model.graph.as_mut().unwrap().initializer[0].external_data = place(location, 0, 4);
        let error = external::data_files(&model.encode_to_vec()).unwrap_err();
        assert!(
            error.to_string().contains("only files beside the model"),
            "{error}"
        );
    }
    let (mut model, _) = split(plain());
    let graph = model.graph.as_mut().unwrap();
    let first = graph.initializer[0].clone();
    graph.initializer = (0..2000)
        .map(|i| TensorProto {
            name: i.to_string(),
            external_data: place(&format!("{i}.bin"), 0, 4),
            ..first.clone()
        })
        .collect();
    let error = external::data_files(&model.encode_to_vec()).unwrap_err();
    assert!(
        error.to_string().contains("more than 1024 files"),
        "{error}"
    );
}

#[test]
fn a_tensor_of_gigabytes_in_a_small_file_is_refused() {
    let mut model = plain();
    let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
    tensor.dims = vec![1 << 30];
    assert!(refusal(&model.encode_to_vec()).contains("elements"));
}
