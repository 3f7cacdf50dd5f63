//! Texts that are no configuration as a whole: sections that are none, and what is no YAML.

use super::{
    mistakes::{Case, refused_with},
    *,
};

const SECTIONS: &[Case] = &[
    (
        "server: 5\n",
        ":1:9",
        &["server: expected keys below it, indented, found 5"],
    ),
    (
        "server: port:50051\n",
        ":1:9",
        &["a space after each colon"],
    ),
    (
        "server:\n  port:50051\n",
        ":2:3",
        &["a space after each colon"],
    ),
    (
        "server:\n  port = 1\n",
        ":2:3",
        &["found the text \"port = 1\": write key: value instead"],
    ),
    (
        "server:\n  - port: 1\n",
        ":2:3",
        &["expected keys", "found a list: write them without dashes"],
    ),
    (
        "models:\n  - id: a\n    path: /\n",
        ":2:3",
        &["names below it", "without dashes"],
    ),
    (
        "models: {a: /x}\n",
        ":1:13",
        &["models.a: expected keys below it"],
    ),
    (
        "models:\n  a:\n",
        ":2:3",
        &["models.a: expected either path"],
    ),
    (
        "just words\n",
        "",
        &["expected keys such as server: and models:"],
    ),
    ("- server\n", "", &["found a list"]),
    (
        "server:\n  port:\n    number: 1\n",
        ":3:5",
        &["server.port: expected a text, found keys of its own"],
    ),
    (
        "server:\n  queue_size: {n: 1}\n",
        ":2:15",
        &["expected a whole number, found keys of its own"],
    ),
    (
        "server:\n  worker_count: {maxx: 1}\n",
        ":2:18",
        &["server.worker_count.maxx: ", "did you mean max?"],
    ),
    (
        "server:\n  worker_count: {min: 5, max: 4}\n",
        ":2:",
        &["server.worker_count.max: expected 5 to 256, found 4"],
    ),
    (
        "server:\n  worker_count: [4]\n",
        ":2:17",
        &["expected a whole number, auto, or {min: 2, max: 8}, found a list"],
    ),
    (
        "server:\n  worker_count: !!int 4\n  queue_size: !x 4\n",
        ":3:15",
        &["a tag"],
    ),
    ("? [a]\n: 1\n", ":1:1", &["a key is a list"]),
];

#[test]
fn a_section_that_is_none_is_refused() {
    refused_with(SECTIONS);
}

const SYNTAX: &[Case] = &[
    (
        "server:\n\tworker_count: 4\n",
        ":2:1",
        &["line 2 is indented with a tab: YAML wants spaces"],
    ),
    (
        "server:\n  port: 1\n\tworker_count: 4\n",
        "",
        &["line 3 is indented with a tab"],
    ),
    (
        "server:\n  port: *:50051\n",
        ":2:",
        &["begins with * in quotes"],
    ),
    (
        "server:\n  port: @50051\n",
        ":2:9",
        &["begins with @ in quotes"],
    ),
    (
        "models:\n  a:\n    path: a: b\n",
        ":3:12",
        &["a colon and a space in it goes in quotes"],
    ),
    ("server: [\n", ":2:1", &["did not find"]),
    ("server: {}\n---\nserver: {}\n", "", &["several documents"]),
    ("{server: {}} more\n", "", &["expected the end of the text"]),
    (
        "models:\n  a:\n    path: \"C:\\models\"\n",
        ":3:",
        &["a backslash begins an escape: use single quotes"],
    ),
    ("server: [[[[\n", ":", &["; 4 brackets are not closed"]),
    ("server: {port: 1\n", ":", &["; one bracket is not closed"]),
    ("server: {port: [::]:50051}\n", ":1:", &["in quotes"]),
    ("server:\n  port: \"\u{7}\"\n", ":2:10", &["control"]),
];

#[test]
fn what_is_no_yaml_is_refused_with_what_may_help() {
    refused_with(SYNTAX);
    let endless = parse("a: &a [*a]\n").unwrap_err();
    assert!(endless.ends_with("limit exceeded"), "{endless}");
    let deep = format!("server: {}", "[".repeat(5_000));
    assert!(parse(&deep).unwrap_err().len() < 1000);
}

/// Two files as people have them: written by Helm, and with an address of IPv6 out of another program's manual.
#[test]
fn files_of_other_programs() {
    let helm = "server:\n  worker_count: \"4\"\n  queue_size: 1e+06\n";
    let message = parse(helm).unwrap_err();
    let lines: Vec<_> = message.lines().collect();
    let [first, second] = lines.as_slice() else {
        panic!("{message}")
    };
    assert!(first.contains(":2:17: server.worker_count: ") && first.contains("write 4 without"));
    assert!(second.contains(":3:15: server.queue_size: ") && second.contains("write 1000000"));
    for port in [
        "[::]:50051",
        "\"[::]:50051\"",
        "'[::]:50051'",
        "[::]:50051 # both",
    ] {
        let config = parse(&format!("server:\r\n  port: {port}\r\n")).unwrap();
        assert_eq!(config.server.address, "[::]:50051".parse().unwrap());
    }
    let missing = parse("server:\n  port: [::]\n").unwrap_err();
    assert!(missing.contains("begins with [ in quotes"), "{missing}");
}

/// A text, and words of the message.
const OTHER_FORMATS: &[(&str, &str)] = &[
    ("[server]\nport = 50051\n", "TOML or INI"),
    (
        "# ours\n\n[server] # here\nport = \":50051\"\n",
        "TOML or INI",
    ),
    ("[server]\n", "TOML or INI"),
    ("[[models]]\nid = \"mira\"\n", "TOML or INI"),
    ("; ours\n[server]\nport: 50051\n", "TOML or INI"),
    (
        "models_root = \"avatars\"\n[server]\nport = 1\n",
        "TOML or INI",
    ),
    ("port = 1\nworkers = 2\n", "TOML or INI"),
    ("{\n  // ours\n  server: {port: 1},\n}\n", "JSON5"),
    ("// ours\n{\"server\": {\"port\": 1}}\n", "JSON5"),
    ("/* ours */\n{server: {port: 1}}\n", "JSON5"),
    ("<?xml version=\"1.0\"?>\n<server/>\n", "XML"),
];

#[test]
fn other_formats_are_named() {
    for (text, name) in OTHER_FORMATS {
        let message = parse(text).expect_err(text);
        assert!(
            message.contains(&format!("looks like {name}")),
            "{text:?}: {message}"
        );
        assert!(message.contains("YAML is expected"), "{message}");
        assert!(
            message.starts_with("/etc/lipsync/config.yaml:"),
            "{message}"
        );
    }
}

#[test]
fn json_is_yaml() {
    let models: Vec<_> = (0..200)
        .map(|n| format!("\"m{n}\":{{\"path\":\"/\"}}"))
        .collect();
    let text = format!(
        "{{\"server\":{{\"port\":\":7\",\"worker_count\":8}},\"operations\":{{\"allowed_origins\":[\"http://a\"]}},\
         \"cache_dir\":null,\"strict\":false,\"models\":{{{}}}}}",
        models.join(",")
    );
    for text in [
        text.clone(),
        text.replace(',', ",\n").replace(':', ": "),
        text.replace("{\"", "{\n\t\""),
        text.replace('/', "\\/").replace("path", "p\\u0061th"),
    ] {
        let text = text.replace("\": 7\"", "\":7\"").replace("http: ", "http:");
        let config = parse(&text).expect(&text);
        assert_eq!(
            (config.server.workers.max(), config.server.address.port()),
            (8, 7)
        );
        assert_eq!(config.registry.models.len(), 200);
    }
}

#[test]
fn templates_that_were_not_rendered_are_named() {
    for (text, place) in [
        ("models:\n  a:\n    path: {{ .Values.path }}\n", ":3:11"),
        ("server:\n  # {{ here }}\n  port: {{ port }}\n", ":3:9"),
        ("{{- if .Values.server }}\nserver: {}\n{{- end }}\n", ":1:1"),
        ("{% if a %}\nserver: {}\n{% endif %}\n", ":1:1"),
        ("server:\n{% for a in b %}\n  port: 1\n", ":2:1"),
    ] {
        let message = parse(text).expect_err(text);
        let expected = format!("/etc/lipsync/config.yaml{place}: a template was not rendered");
        assert!(message.starts_with(&expected), "{text:?}: {message}");
        assert!(!message.contains("quotes"), "{message}");
    }
    for text in [
        "server: {worker_count: '{{ n }}'}\n",
        "server: {worker_count: '${WORKERS}'}\n",
        "server: {port: '{{ port }}'}\n",
        "server: {port: '${PORT}'}\n",
        "capacity: {bake: '{{ bake }}'}\n",
        "operations: {enabled: '<%= on %>'}\n",
        "server: '{{ server }}'\n",
    ] {
        let message = parse(text).expect_err(text);
        assert!(message.contains("template"), "{text}: {message}");
        assert!(message.contains("not rendered"), "{text}: {message}");
    }
}
