//! Configurations of the Go servers that came before: they load as they are.
//!
//! Such a file is recognised by a section that only those servers have. Keys that mean the same here under another
//! name are renamed in place. Those servers ignored keys that they did not know, so keys without a meaning here are
//! left out and named. Every other file stays strict.

use super::{
    schema::{NAME, Schema},
    tree::{Entry, Kind, Node},
};

/// Sections that only such files have, and which protocol the clients of their server speak.
const MARKS: [(&str, &str); 3] = [
    ("inference_server", "compositing"),
    ("gpus", "monolithic"),
    ("onnx", "multi_tenant"),
];
/// Keys that have another name here, by their path.
const RENAMED: [(&[&str], &str); 4] = [
    (&["server", "worker_count_per_gpu"], "worker_count"),
    (&["capacity", "idle_unload_minutes"], "idle_timeout_minutes"),
    (&["logging", "log_level"], "level"),
    (&["models", NAME, "preload_model"], "preload"),
];
/// Whether networks run on a GPU.
const ON_GPU: [[&str; 2]; 2] = [["gpus", "enabled"], ["onnx", "cuda_enabled"]];

/// Makes a file of such a server one of ours. What was done, a sentence each; nothing for any other file.
pub(super) fn adopt(tree: &mut Node, schema: &Schema) -> Vec<String> {
    let sections = tree.entries();
    let mark = MARKS.into_iter().find(|(mark, _)| {
        let mut keys = sections.iter().map(|section| section.key.as_str());
        keys.any(|key| key == *mark)
    });
    let Some((mark, protocol)) = mark else {
        return Vec::new();
    };
    let mut said = vec![format!(
        "the section {mark} shows a configuration of an earlier server. Its clients need legacy.{protocol}: true, which is off unless you set it"
    )];
    let mut renamed = Vec::new();
    for (path, name) in RENAMED {
        rename(tree, path, name, &mut renamed);
    }
    raw_as_rgb(tree, &mut renamed);
    cpu_only(tree, &mut renamed);
    if !renamed.is_empty() {
        said.push(format!("taken over: {}", listed(renamed)));
    }
    let mut left_out = Vec::new();
    leave_out(tree, schema, &mut Vec::new(), &mut left_out);
    if !left_out.is_empty() {
        said.push(format!("without a meaning here: {}", listed(left_out)));
    }
    said
}

/// Each once, in the order in which they came.
fn listed(sentences: Vec<String>) -> String {
    let mut once: Vec<String> = Vec::new();
    for sentence in sentences {
        if !once.contains(&sentence) {
            once.push(sentence);
        }
    }
    once.join(", ")
}

/// Gives the last key of a path another name, in every section that the path leads to, unless that has one already.
fn rename(node: &mut Node, path: &[&str], name: &str, done: &mut Vec<String>) {
    fn walk(node: &mut Node, path: &[&str], name: &str) -> bool {
        let (Some((&first, rest)), Node::Section(entries)) = (path.split_first(), node) else {
            return false;
        };
        if rest.is_empty() {
            let is_there = entries.iter().any(|entry| entry.key == name);
            let old = entries.iter_mut().find(|entry| entry.key == first);
            let old = old.filter(|_| !is_there);
            return old.map(|entry| name.clone_into(&mut entry.key)).is_some();
        }
        let below = entries
            .iter_mut()
            .filter(|entry| first == NAME || entry.key == first);
        // Every one of them, also behind the first that is found.
        let mut is_found = false;
        for entry in below {
            is_found |= walk(&mut entry.value, rest, name);
        }
        is_found
    }
    if walk(node, path, name) {
        let old = path.join(".");
        let section = path[..path.len() - 1].join(".");
        done.push(format!("{old} as {section}.{name}"));
    }
}

/// Their other format of frames.
fn raw_as_rgb(tree: &mut Node, done: &mut Vec<String>) {
    if let Some(Node::Scalar { text, .. }) = value_mut(tree, &["output", "format"])
        && text == "raw"
    {
        "rgb".clone_into(text);
        done.push("output.format: raw as rgb".into());
    }
}

/// A server that was told to leave GPUs alone still does.
fn cpu_only(tree: &mut Node, done: &mut Vec<String>) {
    for [section, key] in ON_GPU {
        let says_no = matches!(
            value_mut(tree, &[section, key]),
            Some(Node::Scalar { text, .. }) if text == "false"
        );
        if says_no
            && tree.path_of("engine").is_none()
            && let Some(sections) = tree.entries_mut()
        {
            let cpu = Node::Scalar {
                text: "cpu".into(),
                kind: Kind::Text,
            };
            let device = Entry::added("device", cpu);
            sections.push(Entry::added("engine", Node::Section(vec![device])));
            done.push(format!("{section}.{key}: false as engine.device: cpu"));
        }
    }
}

fn value_mut<'a>(node: &'a mut Node, path: &[&str]) -> Option<&'a mut Node> {
    let Some((first, rest)) = path.split_first() else {
        return Some(node);
    };
    let Node::Section(entries) = node else {
        return None;
    };
    let entry = entries.iter_mut().find(|entry| entry.key == *first)?;
    value_mut(&mut entry.value, rest)
}

/// Leaves out the keys that nobody here knows.
fn leave_out<'a>(
    node: &mut Node,
    schema: &'a Schema,
    path: &mut Vec<&'a str>,
    named: &mut Vec<String>,
) {
    let (Some(known), Node::Section(entries)) = (schema.keys_at(path), node) else {
        return;
    };
    for entry in entries {
        let key = known.iter().find(|key| **key == NAME || **key == entry.key);
        if let Some(&key) = key {
            path.push(key);
            leave_out(&mut entry.value, schema, path, named);
            path.pop();
        } else {
            entry.skipped = true;
            let above: String = path.iter().flat_map(|key| [key, "."]).collect();
            named.push(format!("{above}{}", lipsync_core::Foreign(&entry.key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    /// As the monolithic server's, with its paths.
    const MONOLITHIC: &str = r#"
server:
  port: ":50053"
  max_message_size_mb: 100
  worker_count_per_gpu: 8
  queue_size: 50
gpus:
  enabled: true
  count: 1
  memory_gb_per_gpu: 24
  assignment_strategy: "round-robin"
  allow_multi_gpu_models: false
capacity:
  max_models: 40
  max_memory_gb: 20
  background_cache_frames: 600
  eviction_policy: "lfu"
  idle_timeout_minutes: 60
onnx:
  library_path: "C:/onnxruntime/lib/onnxruntime.dll"
  cuda_streams_per_worker: 2
output:
  format: "jpeg"
  jpeg_quality: 75
logging:
  log_inference_times: true
  log_level: "warn"
  buffered_logging: true
  sample_rate: 0
models_root: "d:/Projects/models"
models:
  ann:
    model_path: "ann/checkpoint/model_best.onnx"
    background_dir: "ann/frames"
    source_video: "ann/full_body_video.mp4"
    crop_rects_path: "ann/crop_rects.json"
    num_frames: 523
    preload_backgrounds: true
    preload_model: true
    preferred_gpu: 0
  bob:
    model_path: "bob/checkpoint/model_best.onnx"
    background_dir: "bob/frames"
    crop_rects_path: "bob/crop_rects.json"
    num_frames: 2000
    preload_model: false
"#;

    fn parse(text: &str) -> Result<Config, String> {
        let read = Config::parse(text, Path::new("/etc/config.yaml"), []);
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_of_the_monolithic_server_loads_as_it_is() {
        let config = parse(MONOLITHIC).unwrap();
        assert_eq!(config.server.workers.max(), 8);
        assert_eq!(config.server.address.port(), 50053);
        assert_eq!(config.output.jpeg_quality, 75);
        assert_eq!(config.logging.level, "warn");
        let preload: Vec<bool> = config.registry.models.iter().map(|m| m.preload).collect();
        assert_eq!(preload, [true, false]);
        assert!(!config.server.legacy.monolithic, "off by default");
        let said = config.warnings.join("\n");
        for words in [
            "/etc/config.yaml: the section gpus shows",
            "legacy.monolithic: true",
            "server.worker_count_per_gpu as server.worker_count",
            "logging.log_level as logging.level",
            "models.<id>.preload_model as models.<id>.preload",
            "without a meaning here: gpus, onnx, logging.log_inference_times",
            "models.<id>.source_video, models.<id>.preload_backgrounds, models.<id>.preferred_gpu",
        ] {
            assert!(said.contains(words), "{words}\n{said}");
        }
        assert_eq!(said.matches("preload_model").count(), 1, "{said}");
    }

    #[test]
    fn a_file_of_the_multi_tenant_server_loads_as_it_is() {
        let text = r#"
server: {port: ":50053", max_message_size_mb: 200, worker_count: 4, queue_size: 100}
capacity: {max_models: 80, max_memory_gb: 75, eviction_policy: "lfu", idle_unload_minutes: 30}
onnx: {library_path: "C:\\onnxruntime.dll", cuda_enabled: false}
output: {format: raw}
models:
  ann: {model_path: a.onnx, background_dir: f, crop_rects_path: r.json, num_frames: 100, preload: true, memory_estimate_mb: 500}
logging: {level: "info", log_model_operations: true, stats_report_minutes: 5, log_file: ""}
"#;
        let config = parse(text).unwrap();
        let idle = config.registry.idle_timeout.unwrap();
        assert_eq!(idle.as_secs(), 30 * 60);
        assert_eq!(config.engine.device, crate::config::DeviceChoice::Cpu);
        assert_eq!(config.output.encoding, lipsync_compositor::Encoding::Rgb);
        let said = config.warnings.join("\n");
        assert!(said.contains("legacy.multi_tenant: true"), "{said}");
        assert!(
            said.contains("onnx.cuda_enabled: false as engine.device: cpu"),
            "{said}"
        );
    }

    #[test]
    fn a_file_of_the_compositing_server_loads_as_it_is() {
        let text = "inference_server: {url: 'localhost:50051', timeout_seconds: 10}\nserver: {port: ':50052'}\ncapacity: {max_models: 11000}\n";
        let config = parse(text).unwrap();
        assert_eq!(config.registry.max_models, 11_000);
        let said = config.warnings.join("\n");
        assert!(said.contains("legacy.compositing: true"), "{said}");
    }

    #[test]
    fn other_files_stay_strict() {
        let mistake = parse("logging: {log_level: info}\n").unwrap_err();
        assert!(mistake.contains("log_level"), "{mistake}");
        // What is wrong in such a file is refused as ever.
        let mistake = parse("onnx: {}\nserver: {queue_size: many}\n").unwrap_err();
        assert!(mistake.contains("/etc/config.yaml:2:22"), "{mistake}");
        // A key that is there under both names keeps ours.
        let config = parse("onnx: {}\nlogging: {level: warn, log_level: info}\n").unwrap();
        assert_eq!(config.logging.level, "warn");
    }
}
