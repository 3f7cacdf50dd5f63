//! `lipsync-server completions` and `man-page`: what packages install beside the program.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::command_line::{CommandLine, say};

const NAME: &str = "lipsync-server";

/// Prints the completions of a shell.
pub fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), NAME, &mut text);
    print(text)
}

/// Prints the manual page, as troff.
pub fn man_page() -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    let command = CommandLine::command().name(NAME);
    clap_mangen::Man::new(command)
        .render(&mut text)
        .context("cannot make the manual page")?;
    print(text)
}

fn print(text: Vec<u8>) -> anyhow::Result<ExitCode> {
    let text = String::from_utf8(text)?;
    say(&text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
