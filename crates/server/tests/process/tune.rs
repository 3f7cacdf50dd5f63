//! `tune`: what it says where there is nothing to measure. What it measures takes minutes.

use std::{fs, process::Command};

use anyhow::Result;

use crate::server::BINARY;

fn run(folder: &std::path::Path, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let command = Command::new(BINARY)
        .current_dir(folder)
        .arg("tune")
        .args(arguments)
        .output()?;
    Ok((command.status.code(), String::from_utf8(command.stderr)?))
}

#[test]
fn without_a_model_that_works_it_says_so_and_writes_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.yaml");
    fs::write(&config, "models: {}\n")?;
    let (code, said) = run(folder.path(), &["--write", "out.yaml"])?;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("there are no models"), "{said}");

    fs::create_dir(folder.path().join("a"))?;
    fs::write(&config, "models: {a: {path: a}, b: {path: nowhere}}\n")?;
    let (code, said) = run(folder.path(), &["--write", "out.yaml"])?;
    assert_eq!(code, Some(1), "{said}");
    for words in ["no model can be loaded", "a: ", "b: "] {
        assert!(said.contains(words), "{words} in {said}");
    }
    assert!(!folder.path().join("out.yaml").exists());

    fs::write(folder.path().join("out.yaml"), "precious")?;
    let (code, said) = run(folder.path(), &["--write", "out.yaml"])?;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("out.yaml") && said.contains("not overwritten"),
        "{said}"
    );
    assert_eq!(
        fs::read_to_string(folder.path().join("out.yaml"))?,
        "precious"
    );
    let (code, said) = run(folder.path(), &["--write", "none/out.yaml"])?;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("there is no folder none"), "{said}");
    for minutes in ["0", "121", "soon"] {
        let (code, said) = run(folder.path(), &["--minutes", minutes])?;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("expected 1 to 120"), "{said}");
    }
    Ok(())
}
