//! What is refused, with which words, and where.

use super::*;

const FILE: &str = "/etc/lipsync/config.yaml";

/// A text, what stands behind the file's name, and words of the message.
pub(super) type Case = (&'static str, &'static str, &'static [&'static str]);

pub(super) fn refused_with(cases: &[Case]) {
    for (text, place, words) in cases {
        let message = parse(text).expect_err(text);
        assert!(
            message.starts_with(&format!("{FILE}{place}")),
            "{text:?}: {message}"
        );
        for word in *words {
            assert!(message.contains(word), "{text:?}: {message} lacks {word:?}");
        }
    }
}

const VALUES: &[Case] = &[
    (
        "server:\n  worker_count: \"4\"\n",
        ":2:17",
        &[
            "server.worker_count: expected a whole number, found the text \"4\": write 4 without quotes",
        ],
    ),
    (
        "server:\n  queue_size: 1e+06\n",
        ":2:15",
        &["found 1e+06: write 1000000"],
    ),
    (
        "server:\n  queue_size: '1e+06'\n",
        ":2:15",
        &["write 1000000"],
    ),
    ("server:\n  queue_size: 1_000\n", ":2:15", &["write 1000"]),
    (
        "server:\n  queue_size: 2.5\n",
        ":2:15",
        &["expected a whole number, found 2.5"],
    ),
    (
        "server:\n  queue_size: -1\n",
        ":2:15",
        &["not below 0, found -1"],
    ),
    (
        "server:\n  shutdown_grace_s: -0\n",
        ":2:21",
        &["found -0: write 0"],
    ),
    (
        "server:\n  queue_size: 5000000000\n",
        ":2:15",
        &["up to 4294967295"],
    ),
    (
        "server:\n  queue_size: true\n",
        ":2:15",
        &["whole number, found true"],
    ),
    (
        "server:\n  shutdown_grace_s: 30s\n",
        ":2:21",
        &["write 30, the key counts in seconds"],
    ),
    (
        "server:\n  shutdown_grace_s: 1m\n",
        ":2:21",
        &["write 60, "],
    ),
    (
        "server:\n  shutdown_grace_s: 500ms\n",
        ":2:21",
        &["counts in seconds, and takes"],
    ),
    (
        "server:\n  request_timeout_ms: 0.5 s\n",
        ":2:23",
        &["write 500, "],
    ),
    (
        "server:\n  max_message_size_mb: 2GiB\n",
        ":2:24",
        &["write 2048, the key counts in MiB"],
    ),
    (
        "capacity:\n  max_memory_gb: 8GB\n",
        ":2:18",
        &["write 8, the key counts in GiB"],
    ),
    (
        "capacity:\n  max_memory_gb: 512 MB\n",
        ":2:18",
        &["write 0.5, "],
    ),
    (
        "capacity:\n  max_memory_gb: \"8\"\n",
        ":2:18",
        &["expected a number, ", "without quotes"],
    ),
    (
        "capacity:\n  idle_timeout_minutes: 1h\n",
        ":2:25",
        &["write 60, "],
    ),
    (
        "adapt:\n  latency_percent: 20 %\n",
        ":2:20",
        &["found the text \"20 %\": write 20"],
    ),
    (
        "traces:\n  sample_ratio: 0,5\n",
        ":2:17",
        &["found the text \"0,5\": write 0.5"],
    ),
    (
        "server:\n  max_message_size_mb: 1,000\n",
        ":2:24",
        &["found the text \"1,000\": write 1000"],
    ),
    (
        "server:\n  queue_size: 1,0\n",
        ":2:15",
        &["expected a whole number, found the text \"1,0\""],
    ),
    (
        "engine:\n  visual_cache_mb: Auto\n",
        ":2:20",
        &["expected a number or auto, found the text \"Auto\": write auto"],
    ),
    (
        "engine:\n  visual_cache_mb: none\n",
        ":2:20",
        &["expected a number or auto, found the text \"none\""],
    ),
    (
        "server:\n  worker_count: AUTO\n",
        ":2:17",
        &["{min: 2, max: 8}, found the text \"AUTO\": write auto"],
    ),
    (
        "engine:\n  device: GPU\n",
        ":2:3",
        &["found \"GPU\": write cuda"],
    ),
    (
        "engine:\n  device: 1\n",
        ":2:3",
        &["found \"1\": write cuda:1"],
    ),
    (
        "server:\n  port: \u{201c}:50051\u{201d}\n",
        ":2:3",
        &["there is a typographic quote (U+201C): write"],
    ),
    (
        "server:\n  queue_size:\u{a0}5\n",
        ":2:3",
        &["there is a no-break space (U+00A0): write a space"],
    ),
    (
        "server\u{ff1a}\n  queue_size: 5\n",
        ":",
        &["there is a full-width colon (U+FF1A): write a colon"],
    ),
    (
        "capacity:\n  max_models: 8 parrots\n",
        ":2:15",
        &["found the text \"8 parrots\""],
    ),
    (
        "capacity:\n  bake: false\n",
        ":2:9",
        &["capacity.bake: expected auto or off, found false: write off"],
    ),
    (
        "capacity:\n  bake: no\n",
        ":2:9",
        &["found the text \"no\": write off"],
    ),
    ("capacity:\n  bake: on\n", ":2:9", &["write auto"]),
    ("capacity:\n  bake: Off\n", ":2:9", &["write off"]),
    (
        "capacity:\n  bake: [off]\n",
        ":2:9",
        &["expected auto or off, found a list"],
    ),
    (
        "operations:\n  enabled: yes\n",
        ":2:12",
        &["expected true or false, found the text \"yes\": write true"],
    ),
    (
        "operations:\n  enabled: 0\n",
        ":2:12",
        &["found 0: write false"],
    ),
    (
        "operations:\n  enabled: 'true'\n",
        ":2:12",
        &["write true without quotes"],
    ),
    ("output:\n  format: JPG\n", ":2:11", &["write jpeg"]),
    (
        "output:\n  jpeg_quality: 300\n",
        ":2:3",
        &["expected 1 to 100, found 300"],
    ),
    (
        "logging:\n  level: verbose\n",
        ":2:3",
        &[
            "logging.level: expected error, warn, info, debug, trace or off",
            "write debug",
        ],
    ),
    (
        "logging:\n  level: [info]\n",
        ":2:10",
        &["expected a text, found a list"],
    ),
    (
        "models:\n  a:\n    path: [x]\n",
        ":3:11",
        &["models.a.path: expected a text"],
    ),
    (
        "models:\n  a:\n    path: {{ .Values.path }}\n",
        ":3:11",
        &["a template was not rendered"],
    ),
];

#[test]
fn a_value_of_another_type_is_refused_with_what_to_write() {
    refused_with(VALUES);
}

const KEYS: &[Case] = &[
    (
        "server:\n  prot: 1\n",
        ":2:3",
        &["server.prot: there is no such key here; did you mean port?"],
    ),
    (
        "server:\n  workerCount: 1\n",
        ":2:3",
        &["did you mean worker_count?"],
    ),
    (
        "sever:\n  port: 1\n",
        ":1:1",
        &["sever: there is no such key here; did you mean server?"],
    ),
    ("worker_count: 1\n", ":1:1", &["it belongs below server:"]),
    (
        "engine:\n  worker_count: 1\n",
        ":2:3",
        &["engine.worker_count: ", "it belongs below server:"],
    ),
    (
        "port: 1\n",
        ":1:1",
        &["it belongs below server: or below operations:"],
    ),
    (
        "server:\n  cache_dir: /x\n",
        ":2:3",
        &["to the left, into no section"],
    ),
    (
        "server:\n  preload: true\n",
        ":2:3",
        &["below an id of models:"],
    ),
    ("server.port: 1\n", ":1:1", &["write server: and below it"]),
    (
        "server:\n  colour: 1\n",
        ":2:3",
        &["there are port, max_message_size_mb"],
    ),
    (
        "models:\n  a:\n    paht: /\n",
        ":3:5",
        &["models.a.paht: ", "did you mean path?"],
    ),
    (
        "models:\n  a.b:\n    fps: x\n",
        ":3:10",
        &["models.a.b.fps: expected a whole number"],
    ),
    (
        "models:\n  a.b:\n    path: /\n    fps: 0\n",
        ":4:5",
        &["models.a.b.fps: "],
    ),
    (
        "{\"server\": {\"port\": 1}, /* ours */}\n",
        ":1:25",
        &["there is no such key here; a comment begins with #"],
    ),
    ("<<: {server: {}}\n", ":1:1", &["there is no such key"]),
    (
        "models:\n  a: &a {path: /}\n  b: {<<: *a}\n",
        ":3:7",
        &["models.b.<<: ", "so write the keys out"],
    ),
];

#[test]
fn a_key_that_is_not_there_is_refused_with_the_one_that_is_meant() {
    refused_with(KEYS);
}

#[test]
fn an_id_that_is_no_text_to_yaml_is_refused() {
    for id in ["42", "1e3", "1.10", "true", "~", "null", "0x10"] {
        let text = format!("models:\n  {id}:\n    path: /\n");
        let message = parse(&text).expect_err(id);
        let shown = if id == "~" { "null" } else { id };
        assert!(message.starts_with(&format!("{FILE}:2:3: models.{shown}: an id is a text")));
        assert!(
            message.contains(&format!("write \"{shown}\" in quotes")),
            "{message}"
        );
    }
    let config =
        parse("models: {'42': {path: /}, '1e3': {path: /}, 007: {path: /}, no: {path: /}}");
    let ids: Vec<_> = config
        .unwrap()
        .registry
        .models
        .into_iter()
        .map(|model| model.id.to_string())
        .collect();
    assert_eq!(ids, ["007", "1e3", "42", "no"]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = "server:\n  prot: 1\n  worker_count: 0\n  queue_size: '9'\n\
                capacity: {bake: false}\n\
                models:\n  a: {path: /, fps: 500}\n  b: {path: [x]}\n  c: {path: /, fps: 0}\n\
                logging: {level: loud}\nlogging: {}\n";
    let variables = [
        ("LIPSYNC_ENGINE__MAX_BATCH", "65"),
        ("LIPSYNC_SESSION__MAX_SESSIONS", "x"),
    ];
    let message = parse_with(text, &variables).unwrap_err();
    for words in [
        ":2:3: server.prot: ",
        ":3:3: server.worker_count: ",
        ":4:15: server.queue_size: ",
        ":5:18: capacity.bake: ",
        ":7:16: models.a.fps: ",
        ":8:13: models.b.path: ",
        ":9:16: models.c.fps: ",
        ":10:11: logging.level: ",
        ":11:1: logging: this is a duplicate",
        "environment variable LIPSYNC_ENGINE__MAX_BATCH: engine.max_batch: ",
        "environment variable LIPSYNC_SESSION__MAX_SESSIONS: session.max_sessions: ",
    ] {
        assert!(message.contains(words), "{words} in {message}");
    }
    assert_eq!(message.lines().count(), 11, "{message}");

    let models: String = (0..1000)
        .map(|n| format!("  m{n}: {{path: /, fps: 0}}\n"))
        .collect();
    let message = parse(&format!("models:\n{models}")).unwrap_err();
    assert_eq!(message.lines().count(), 21, "{message}");
    assert!(message.ends_with("there may be more"), "{message}");
}

#[test]
fn foreign_text_is_cut() {
    let long = "x".repeat(1 << 20);
    for text in [
        format!("server: {{worker_count: '{long}'}}"),
        format!("server: {{'{long}': 1}}"),
        format!("server: {{port: '{long}'}}"),
        format!("engine: {{device: '{long}', cpu_isa: avx2}}"),
        format!("engine: {{cpu_isa: '{long}'}}"),
        format!("logging: {{level: '{long}'}}"),
        format!("models: {{'{long}': {{path: /}}}}"),
        format!("strict: true\nmodels: {{a: {{path: '{long}'}}}}"),
        format!("models: {{a: {{'{long}': 1}}}}"),
        format!("cache_dir: '~{long}'"),
    ] {
        let message = parse(&text).unwrap_err();
        assert!(
            message.len() < 2000,
            "{} bytes: {}",
            message.len(),
            &message[..300]
        );
    }
}

#[test]
fn a_configuration_without_models_is_warned_of() {
    let warnings = parse("").unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("there are no models"), "{warnings:?}");
    let warnings = parse("models: {a: {path: /}}").unwrap().warnings;
    assert_eq!(warnings, Vec::<String>::new());
    let error = Config::parse(
        "port: 1",
        Path::new("c"),
        [("LIPSYNC_X".into(), "1".into())],
    );
    let Err(ConfigError::Refused { mistakes, warnings }) = error else {
        panic!("{error:?}")
    };
    assert_eq!((mistakes.len(), warnings.len()), (1, 1));
}

#[test]
fn a_file_may_be_empty_or_begin_with_a_mark() {
    for text in [
        "",
        "\u{feff}",
        "---\n",
        "# only a comment\n",
        "~\n",
        "\u{feff}server:\r\n  worker_count: 4\r\n",
    ] {
        assert_eq!(parse(text).expect(text).server.workers.max(), 4);
    }
    let message = parse("\u{feff}server:\n  worker_count: 0\n").unwrap_err();
    assert!(message.contains(":2:3: "), "{message}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let refused = |file: &Path| Config::load_with(file, []).unwrap_err().to_string();
    let missing = refused(&file);
    assert!(
        missing.contains("config.yaml: there is no such file"),
        "{missing}"
    );
    assert!(refused(folder.path()).contains("this is a folder"));
    std::fs::write(&file, b"\xff\xfes\0e\0").unwrap();
    assert!(refused(&file).contains("save it as UTF-8"));
    std::fs::write(&file, b"server:\n  # caf\xe9\n").unwrap();
    assert!(refused(&file).contains("line 2 is not UTF-8"));
}
