//! How large a configuration may be, and how deep.

use super::*;

#[test]
fn a_file_without_an_end_is_not_read_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let load = || Config::load_with(&file, []);
    let comment = |n_bytes: usize| format!("#{}\n", "x".repeat(n_bytes - 2));
    std::fs::write(&file, comment(4 << 20)).unwrap();
    assert!(load().is_ok());
    std::fs::write(&file, comment((4 << 20) + 1)).unwrap();
    let message = load().unwrap_err().to_string();
    assert!(
        message.ends_with("config.yaml: expected at most 4 MiB, found more"),
        "{message}"
    );
    #[cfg(unix)]
    {
        let message = Config::load_with(Path::new("/dev/zero"), []).unwrap_err();
        assert!(message.to_string().contains("at most 4 MiB"), "{message}");
    }
}

#[test]
fn a_text_that_is_nested_deeply_is_refused_with_its_place() {
    let brackets = |n: usize| {
        format!(
            "server: {{}}\nlogging: {}{}\n",
            "[".repeat(n),
            "]".repeat(n)
        )
    };
    let refused = |text: &str| parse(text).unwrap_err();
    assert!(!refused(&brackets(100)).contains("in each other"));
    let message = refused(&brackets(101));
    assert!(
        message.contains(":2:1: expected at most 100 brackets in each other"),
        "{message}"
    );
    let message = refused(&format!("a: 1\n{}b: 1\n", " ".repeat(201)));
    assert!(
        message.contains(":2:1: expected at most 200 columns of indent"),
        "{message}"
    );
    let dashes = format!("a:\n{}x\n", "- ".repeat(101));
    assert!(refused(&dashes).contains(":2:1: expected at most 200 columns"));
    let message = refused(&"{}\n".repeat(20_001));
    assert!(
        message.contains(":20001:1: expected at most 20000 brackets"),
        "{message}"
    );
}

#[test]
fn thousands_of_models_are_no_mistake() {
    let models: String = (0..5000)
        .map(|n| format!("  m{n}: {{path: /}}\n"))
        .collect();
    let config = parse(&format!("models:\n{models}")).unwrap();
    assert_eq!(config.registry.models.len(), 5000);
}
