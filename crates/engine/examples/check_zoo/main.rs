//! Checks the files that `tools/export-zoo` makes: `check_zoo FOLDER`. Exits with 1 if one of them fails.
#![expect(clippy::print_stdout, reason = "a command for people")]

mod zoo;

use std::{env, path::PathBuf, process::ExitCode};

fn main() -> Result<ExitCode, String> {
    let folder = env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or("usage: check_zoo FOLDER")?;
    let findings = zoo::check(&folder)?;
    for zoo::Finding { file, outcome } in &findings {
        match outcome {
            Ok(said) => println!("{file:<40} {said}"),
            Err(wrong) => println!("{file:<40} WRONG: {wrong}"),
        }
    }
    let n_wrong = findings
        .iter()
        .filter(|finding| finding.outcome.is_err())
        .count();
    println!("{} files, {n_wrong} wrong", findings.len());
    Ok(if n_wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
