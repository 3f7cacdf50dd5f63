//! Checks the files that `tools/speech-goldens` makes: `check_speech FOLDER`. Exits with 1 if one of them fails.
#![expect(clippy::print_stdout, reason = "a command for people")]

mod speech;

use std::{env, path::PathBuf, process::ExitCode};

fn main() -> Result<ExitCode, String> {
    let folder = env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or("usage: check_speech FOLDER")?;
    let mut n_wrong = 0;
    for speech::Finding { file, outcome } in speech::check(&folder)? {
        match outcome {
            Ok(found) => println!(
                "{file:<40} relative L2 {:.1e}, largest difference {:.1e}, {:.2} ms a patch",
                found.relative_l2,
                found.largest,
                found.patch_time.as_secs_f64() * 1000.0
            ),
            Err(wrong) => {
                n_wrong += 1;
                println!("{file:<40} WRONG: {wrong}");
            }
        }
    }
    Ok(if n_wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
