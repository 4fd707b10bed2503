//! Completions, the manual page, and the page of documentation.

use std::io::Write as _;
use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use promferry_collector::cli::Cli;
use promferry_collector::cli::features::{SILENT, WARNED};
use promferry_collector::cli::prometheus::{FLAGS, Verdict};

use crate::collector::output;

#[test]
fn completions_are_read_by_their_shell() {
    for (shell, only_check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "-n"), ("elvish", "-compileonly")] {
        let (code, script, said) = output(&["completions", shell]);
        assert_eq!((code, &*said), (0, ""), "{shell}");
        for completed in ["config.file", "storage.agent.path", "whoami", "completions"] {
            assert!(script.contains(completed), "{shell} does not complete {completed}");
        }
        match checked_by(shell, &[only_check, "/dev/stdin"], &script) {
            Some(said) => assert_eq!(said, "", "{shell}"),
            None => eprintln!("SKIPPED the syntax of the completions for {shell}: it is not here"),
        }
    }
}

/// What a program that reads `text` complains of, if it is here. It must end with status 0.
fn checked_by(program: &str, arguments: &[&str], text: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{program}: {said}");
    Some(said)
}

/// The flags of a command and of those below it that the help shows.
fn visible_flags(command: &clap::Command, flags: &mut Vec<String>) {
    let visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
    flags.extend(visible.filter_map(|arg| arg.get_long()).map(str::to_owned));
    for subcommand in command.get_subcommands() {
        visible_flags(subcommand, flags);
    }
}

#[test]
fn the_manual_page_has_every_flag() {
    let (code, page, said) = output(&["man"]);
    assert_eq!((code, &*said), (0, ""));
    assert!(page.contains(".TH PROMFERRY 1"), "{page}");
    let mut flags = Vec::new();
    visible_flags(&Cli::command(), &mut flags);
    assert!(flags.len() > 30, "{flags:?}");
    for flag in flags {
        let written = format!("\\-\\-{}", flag.replace('-', "\\-"));
        assert!(page.contains(&written), "{flag} is not in the page");
    }
    for command in ["RUN", "CHECK CONFIG", "AWS WHOAMI", "SPOOL DRAIN", "DEMO"] {
        assert!(page.contains(&format!(".SH \"PROMFERRY {command}\"")), "{command}");
    }
    let Some(said) = checked_by("man", &["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", "-"], &page)
    else {
        return eprintln!("SKIPPED the syntax of the manual page: man is not here");
    };
    assert_eq!(said, "");
}

/// The table of flags as docs/command-line.md has it.
fn table() -> String {
    let rows = FLAGS.iter().map(|flag| {
        let (verdict, why) = match flag.verdict {
            Verdict::Honoured(why) => ("honoured", why),
            Verdict::Mapped(why) => ("mapped", why),
            Verdict::Silent(why) => ("taken in silence", why),
            Verdict::NoEffect(why) => ("no effect", why),
            Verdict::Refused(why) => ("refused", why),
        };
        format!("| `--{}` | {verdict} | {why} |\n", flag.name)
    });
    format!("| flag | here | |\n|---|---|---|\n{}", rows.collect::<String>())
}

fn features() -> String {
    let silent = SILENT.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let warned = WARNED.iter().map(|(name, why)| format!("| `{name}` | {why} |\n")).collect::<String>();
    format!("{silent}.\n\n| feature | what to know |\n|---|---|\n{warned}")
}

#[test]
fn the_page_of_documentation_is_what_the_program_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/command-line.md");
    let page = std::fs::read_to_string(path).unwrap();
    for (name, expected) in [("flags", table()), ("features", features())] {
        let part = page.split(&format!("<!-- {name} -->\n")).nth(1).unwrap();
        let part = part.split(&format!("<!-- end of {name} -->")).next().unwrap();
        assert!(part == expected, "docs/command-line.md: between the marks of {name} belongs\n{expected}");
    }
}
