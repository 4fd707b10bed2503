//! Where the demo is told: lines that stay, and one that is drawn anew each second.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Standard output. On a terminal the status line is drawn anew below the lines that stay, which are folded to the
/// terminal's width; elsewhere every line is simply printed. Every line begins with `DEMO`. Clones share everything.
#[derive(Clone)]
pub(super) struct Screen(Arc<Mutex<State>>);

/// How a line that stays is meant; a terminal shows it by colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// What begins now.
    Title,
    /// It went as it should.
    Good,
    /// It did not.
    Bad,
    /// What is said besides.
    Aside,
}

struct State {
    out: Box<dyn Write + Send>,
    /// Its columns, where it is a terminal.
    columns: Option<fn() -> usize>,
    has_colors: bool,
    /// What stands in the last line of a terminal.
    status: Option<String>,
    is_closed: bool,
}

const PREFIX: &str = "DEMO  ";
/// What folded lines go on with.
const FOLD: &str = "    ";
/// What is told is not folded to more: it would be hard to read.
const MAX_COLUMNS: usize = 120;
/// What is narrower is no terminal to read on, or does not know its width.
const MIN_COLUMNS: usize = 40;

/// Back to the line's beginning, and nothing in it.
const CLEAR: &str = "\r\x1b[2K";
const RESET: &str = "\x1b[0m";

impl Screen {
    /// The process's standard output.
    pub(super) fn stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let no_colors = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(Arc::new(Mutex::new(State {
            out: Box::new(io::stdout()),
            columns: is_terminal.then_some(columns),
            has_colors: is_terminal && !no_colors,
            status: None,
            is_closed: false,
        })))
    }

    /// A line that stays.
    pub(super) fn say(&self, tone: Tone, text: &str) {
        let mut state = self.lock();
        let lines = match state.columns {
            None => vec![text.to_owned()],
            Some(columns) => folded(text, columns().min(MAX_COLUMNS)),
        };
        let mut output = String::new();
        if state.columns.is_some() {
            output.push_str(CLEAR);
        }
        for line in lines {
            state.put(&mut output, tone, &line);
            output.push('\n');
        }
        if let Some(status) = state.status.clone() {
            state.put_status(&mut output, &status);
        }
        state.print(&output);
    }

    /// How things stand now.
    pub(super) fn status(&self, text: String) {
        let mut state = self.lock();
        let mut output = String::new();
        if state.columns.is_some() {
            output.push_str(CLEAR);
            state.put_status(&mut output, &text);
            state.status = Some(text);
        } else {
            state.put(&mut output, Tone::Plain, &text);
            output.push('\n');
        }
        state.print(&output);
    }

    /// The status as it was last stays in the terminal, and there is no other.
    pub(super) fn keep_status(&self) {
        let mut state = self.lock();
        if state.status.take().is_some() {
            state.print("\n");
        }
    }

    /// Whether nobody takes what is printed any more.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&self, output: &mut String, tone: Tone, text: &str) {
        let color = match tone {
            _ if !self.has_colors => "",
            Tone::Plain => "",
            Tone::Title => "\x1b[1;33m",
            Tone::Good => "\x1b[32m",
            Tone::Bad => "\x1b[1;31m",
            Tone::Aside => "\x1b[90m",
        };
        let (prefix_color, end) = if self.has_colors { ("\x1b[36m", RESET) } else { ("", "") };
        output.push_str(prefix_color);
        output.push_str(PREFIX);
        output.push_str(end);
        output.push_str(color);
        output.push_str(text);
        if !color.is_empty() {
            output.push_str(RESET);
        }
    }

    /// It takes one line, whatever does not fit: of more only the last would be drawn anew.
    fn put_status(&self, output: &mut String, text: &str) {
        let room = self.columns.map_or(usize::MAX, |columns| columns() - PREFIX.len());
        let fitting: String = text.chars().take(room).collect();
        self.put(output, Tone::Plain, &fitting);
    }

    fn print(&mut self, output: &str) {
        let printed = self.out.write_all(output.as_bytes()).and_then(|()| self.out.flush());
        self.is_closed |= printed.is_err();
    }
}

/// The terminal's width.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns < MIN_COLUMNS { MAX_COLUMNS } else { columns }
}

/// Folds a text between words to lines of so many columns, the prefix included.
fn folded(text: &str, columns: usize) -> Vec<String> {
    let room = columns.saturating_sub(PREFIX.len());
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_inclusive(' ') {
        let width = line.chars().count() + word.trim_end().chars().count();
        if !line.trim().is_empty() && width > room {
            lines.push(std::mem::replace(&mut line, FOLD.to_owned()).trim_end().to_owned());
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// The pipeline's log, as lines of the demo: what its operator would see.
impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine { screen: self.clone(), text: Vec::new() }
    }
}

/// One message of the log.
pub(super) struct LogLine {
    screen: Screen,
    text: Vec<u8>,
}

/// Characters of a message that are shown.
const SHOWN_CHARS: usize = 106;

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        // What it quotes has quotes in it.
        let text = text.replace('\\', "").split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            return;
        }
        let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        self.screen.say(Tone::Aside, &format!("  log: {shown}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_folded_between_words() {
        assert_eq!(folded("  one two three", 40), ["  one two three"]);
        assert_eq!(folded("  one two three four", 6 + 9), ["  one two", "    three", "    four"]);
        let aligned = "  run --config=a     (or so)";
        for columns in 20..40 {
            let lines = folded(aligned, columns);
            assert!(
                lines.iter().all(|line| line.trim_end().chars().count() + PREFIX.len() <= columns),
                "{columns}: {lines:?}"
            );
        }
        let long = "x".repeat(50);
        assert_eq!(
            folded(&format!("a {long} b"), 40),
            ["a ", &format!("    {long}")[..], "    b"].map(str::trim_end)
        );
    }
}
