//! What tells of the command line: completions for shells and a manual page.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Command, CommandFactory as _, ValueEnum};
use clap_complete::aot;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Cli;

/// A shell that completions are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash, with the package bash-completion.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
    /// Elvish.
    Elvish,
}

/// `promferry completions`: prints the script that the shell is to read.
pub fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    let mut command = Cli::command();
    let shell = match shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
        Shell::Elvish => aot::Shell::Elvish,
    };
    aot::generate(shell, &mut command, "promferry", &mut script);
    print(&script)
}

/// `promferry man`: prints the manual page, for `man -l -` or a file `promferry.1`.
pub fn manual() -> ExitCode {
    let mut page = Vec::new();
    match write_manual(&mut page) {
        Ok(()) => print(&page),
        Err(_) => ExitCode::FAILURE,
    }
}

/// One page for all commands: each has a section with its flags.
fn write_manual(page: &mut dyn Write) -> io::Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let man = Man::new(command.clone()).title("PROMFERRY").manual("Promferry");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    for subcommand in command.get_subcommands() {
        write_command(page, "promferry", subcommand)?;
    }
    Ok(())
}

fn write_command(page: &mut dyn Write, parent: &str, command: &Command) -> io::Result<()> {
    let name = format!("{parent} {}", command.get_name());
    let mut heading = Roff::new();
    heading.control("SH", [name.to_uppercase().as_str()]);
    if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
        heading.text([bold(name.as_str()), roman(": "), roman(about.to_string())]);
    }
    heading.to_writer(page)?;
    // The heading of the flags repeats in every section of a command, one level below it.
    let mut flags = Vec::new();
    Man::new(command.clone()).render_options_section(&mut flags)?;
    page.write_all(String::from_utf8_lossy(&flags).replace(".SH OPTIONS", ".SS Flags").as_bytes())?;
    for subcommand in command.get_subcommands() {
        write_command(page, &name, subcommand)?;
    }
    Ok(())
}

/// To standard output. A reader that goes away, such as a pager, is no failure.
fn print(text: &[u8]) -> ExitCode {
    match io::stdout().lock().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
