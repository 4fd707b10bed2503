//! Log messages on standard error, as Prometheus writes them: one line an event, in logfmt or JSON.
//!
//! A line is at most [`LINE_MAX`] bytes with its end, and holds no control characters. What is too long is cut, which
//! `…` shows. That is what Kubernetes and what reads its logs take whole: the container runtime splits lines longer than
//! 16 KiB. The keys are Prometheus' (`time`, `level`, `msg`, and those of the event); its `source` is left out.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::{LogFormat, LogLevel};

/// The most bytes of a line, its end included.
pub const LINE_MAX: usize = 8 << 10;

/// Sends log messages to standard error. Calling it again has no effect.
pub fn start(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // Libraries speak of their own affairs, and at lower levels of headers: only ours, whose names all begin like this,
    // are shown below warn.
    let shown = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("promferry", level);
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines { format })
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // Only a second call fails.
    if tracing_subscriber::registry().with(lines.with_filter(shown)).try_init().is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let backtrace = Backtrace::capture();
            let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
            let what = panic.payload_as_str().unwrap_or_default();
            tracing::error!(place, backtrace, "this program panicked, which is a bug in it: {what}");
        }));
    }
}

/// Writes events as lines.
struct Lines {
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = Message {
            at: SystemTime::now(),
            level: event.metadata().level().as_str(),
            text: fields.message,
            fields: fields.others,
        };
        writer.write_str(&message.line(self.format))
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    /// A number or a truth value, which JSON writes without quotes.
    Plain(String),
}

impl Fields {
    fn add_plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.others.push((field.name(), Value::Plain(value.to_string())));
    }

    fn add_text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            name => self.others.push((name, Value::Text(text))),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add_text(field, value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add_plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add_plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add_plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for the others.
        if value.is_finite() {
            self.add_plain(field, value);
        } else {
            self.add_text(field, value.to_string());
        }
    }
}

/// One message with everything that a line tells of it.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    at: SystemTime,
    level: &'static str,
    text: String,
    fields: Vec<(&'static str, Value)>,
}

/// The most bytes of a message's text, so that its fields have room beside it.
const TEXT_MAX: usize = LINE_MAX * 3 / 4;
/// What stands for what was cut.
const CUT: char = '…';

impl Message {
    fn line(&self, format: LogFormat) -> String {
        let mut line = Line { text: String::with_capacity(256), format };
        let at = humantime::format_rfc3339_millis(self.at).to_string();
        line.begin();
        line.push("time", &Value::Text(at), LINE_MAX);
        line.push("level", &Value::Text(self.level.to_owned()), LINE_MAX);
        line.push("msg", &Value::Text(self.text.clone()), TEXT_MAX);
        for (key, value) in &self.fields {
            line.push(key, value, LINE_MAX);
        }
        line.end()
    }
}

struct Line {
    text: String,
    format: LogFormat,
}

impl Line {
    /// What the line's end takes at most: a quote, a brace and the newline.
    const END: usize = 3;

    fn begin(&mut self) {
        if self.format == LogFormat::Json {
            self.text.push('{');
        }
    }

    fn end(mut self) -> String {
        self.text.push_str(match self.format {
            LogFormat::Json => "}\n",
            LogFormat::Logfmt => "\n",
        });
        self.text
    }

    /// Adds a field, its value cut so that the line ends before `end`; what has no room for anything is left out.
    fn push(&mut self, key: &str, value: &Value, end: usize) {
        let end = end.min(LINE_MAX) - Self::END;
        let is_first = matches!(self.text.as_str(), "" | "{");
        let before = self.text.len();
        // Writing to a String cannot fail.
        let _ = match (self.format, is_first) {
            (LogFormat::Logfmt, true) => write!(self.text, "{key}="),
            (LogFormat::Logfmt, false) => write!(self.text, " {key}="),
            (LogFormat::Json, true) => write!(self.text, "\"{key}\":"),
            (LogFormat::Json, false) => write!(self.text, ",\"{key}\":"),
        };
        let has_room = match value {
            Value::Plain(plain) => {
                self.text.push_str(plain);
                self.text.len() <= end
            }
            Value::Text(text) if self.format == LogFormat::Logfmt && !needs_quotes(text) => {
                self.push_cut(text, end, |line, c| line.push(c))
            }
            Value::Text(text) => {
                self.text.push('"');
                let format = self.format;
                let has_room = self.push_cut(text, end, |line, c| escape(line, c, format));
                self.text.push('"');
                has_room
            }
        };
        if !has_room {
            self.text.truncate(before);
        }
    }

    /// Adds as much of `text` as fits; false when nothing does.
    fn push_cut(&mut self, text: &str, end: usize, push: impl Fn(&mut String, char)) -> bool {
        for c in text.chars() {
            let before = self.text.len();
            push(&mut self.text, c);
            if self.text.len() + CUT.len_utf8() > end {
                self.text.truncate(before);
                self.text.push(CUT);
                break;
            }
        }
        self.text.len() <= end
    }
}

/// Go's log/slog/text_handler.go `needsQuoting`.
fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.chars().any(|c| matches!(c, ' ' | '=' | '"') || !is_printable(c))
}

/// A character in quotes: as Go's `strconv.Quote` or as JSON has it, but with everything escaped that can't be seen.
fn escape(line: &mut String, c: char, format: LogFormat) {
    let simple = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        _ => "",
    };
    // Writing to a String cannot fail.
    let _ = match (u32::from(c), format) {
        _ if !simple.is_empty() => line.write_str(simple),
        _ if c == ' ' || is_printable(c) => line.write_char(c),
        (code @ ..0x80, LogFormat::Logfmt) => write!(line, "\\x{code:02x}"),
        (code @ ..=0xffff, _) => write!(line, "\\u{code:04x}"),
        (code, LogFormat::Logfmt) => write!(line, "\\U{code:08x}"),
        (_, LogFormat::Json) => {
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(line, "\\u{unit:04x}"))
        }
    };
}

/// Neither space nor control character, nor one that shows as nothing or as something else.
fn is_printable(c: char) -> bool {
    match c {
        '!'..='~' => true,
        _ if c.is_ascii() || c.is_whitespace() => false,
        // Those are escaped that are not printable or that only belong to the character before them.
        _ => c.escape_debug().len() == 1,
    }
}

#[cfg(test)]
mod tests;
