//! Paths that name nothing, or that a shell would have changed.

use super::*;

/// Every key that takes a path, with the rest of a file around it.
fn with_path(path: &str) -> Vec<(&'static str, String)> {
    let parts = ["model_path", "background_dir", "crop_rects_path"];
    let model = |key: &str| {
        let value = |part: &str| if part == key { path } else { "/" };
        let parts = parts.map(|part| format!("{part}: {}", value(part)));
        format!("models: {{a: {{{}}}}}\n", parts.join(", "))
    };
    vec![
        ("models_root", format!("models_root: {path}\n")),
        ("cache_dir", format!("cache_dir: {path}\n")),
        (
            "models.a.path",
            format!("models: {{a: {{path: {path}}}}}\n"),
        ),
        ("models.a.model_path", model("model_path")),
        ("models.a.background_dir", model("background_dir")),
        ("models.a.crop_rects_path", model("crop_rects_path")),
        (
            "models.a.audio_encoder_path",
            format!("models: {{a: {{path: /, audio_encoder_path: {path}}}}}\n"),
        ),
    ]
}

#[test]
fn a_path_that_is_none_is_refused_with_what_to_write() {
    for (path, words) in [
        ("''", "expected a path, found \"\""),
        ("' '", "expected a path, found \" \""),
        (
            "~/avatars",
            "found \"~/avatars\": only a shell expands ~: write the home folder in full",
        ),
        ("$HOME/avatars", "only a shell expands variables"),
        ("file:///avatars", "it is a URL"),
        ("\"a\\0b\"", r#"found "a\0b": it has a control character"#),
        ("\"C:\\new\"", "so use single quotes"),
        ("'{{ .Values.path }}'", "a template was not rendered"),
    ] {
        for (key, text) in with_path(path) {
            let message = parse(&text).expect_err(&text);
            assert!(message.contains(&format!(": {key}: ")), "{message}");
            assert!(message.contains(words), "{message}");
        }
    }
    for (key, variable) in [
        ("cache_dir", "LIPSYNC_CACHE_DIR"),
        ("models_root", "LIPSYNC_MODELS_ROOT"),
        ("models.a.path", "LIPSYNC_MODELS__A__PATH"),
    ] {
        let message = parse_with("", &[(variable, "~/packs")]).unwrap_err();
        let start = format!("environment variable {variable}: {key}: expected a path, found \"~/");
        assert!(message.starts_with(&start), "{message}");
    }
}

#[test]
fn a_path_of_another_system_is_taken_as_it_is() {
    let config = parse("models: {a: {path: 'C:\\avatars\\%20'}}\n").unwrap();
    assert!(config.missing[0].contains("C:\\avatars\\%20 does not exist"));
}
