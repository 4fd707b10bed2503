//! `promferry parse`: judges a page as a scrape or the OpenMetrics specification does, and prints what it says.

mod convert;
mod refusal;
mod source;
mod table;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use promferry_exposition::{Format, MetricFamily, ParseOptions, read_families, validate};

use self::refusal::Refusal;
use self::source::{Page, Reading};
use crate::cli::{PageFormat, ParseArgs, ParseOutput};

/// Exit status where there is no page to judge: a file that is not there, a URL that answers something else.
const CANNOT_READ: u8 = 2;
/// Exit status of a wrong command line (`EX_USAGE` of sysexits.h).
const EX_USAGE: u8 = 64;

/// `promferry parse`: exit status 0 when the page is accepted, 1 when it is refused, 2 when it cannot be read.
#[expect(clippy::print_stderr, reason = "the command's answer")]
pub fn run(args: &ParseArgs) -> ExitCode {
    if args.strict && args.format.is_some_and(|format| format != PageFormat::Openmetrics) {
        eprintln!("error: --strict judges OpenMetrics 1.0 and no other --format");
        return ExitCode::from(EX_USAGE);
    }
    let page = match source::read(args) {
        Ok(page) => page,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(CANNOT_READ);
        }
    };
    if page.reading == Reading::Guessed {
        eprintln!("{}: read as {}, which is a guess: --format says it", page.name, name_of(page.format));
    }
    let answer = match judge(args, &page) {
        Ok(answer) => answer,
        Err(refusal) => {
            eprintln!("{refusal}");
            return ExitCode::FAILURE;
        }
    };
    // A reader that goes away, such as a pager, is no failure.
    match answer.print(&mut BufWriter::new(io::stdout().lock())) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: standard output cannot be written: {error}");
            ExitCode::from(CANNOT_READ)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// What is to be printed of a page that is accepted.
enum Answer {
    Nothing,
    Page(Vec<u8>),
    Table(Vec<MetricFamily>),
    Json(Vec<MetricFamily>),
}

impl Answer {
    fn print(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Nothing => {}
            Self::Page(page) => to.write_all(page)?,
            Self::Table(families) => table::write(to, families, table::columns())?,
            Self::Json(families) => {
                serde_json::to_writer_pretty(&mut *to, families)?;
                writeln!(to)?;
            }
        }
        to.flush()
    }
}

fn judge(args: &ParseArgs, page: &Page) -> Result<Answer, Refusal> {
    if args.strict {
        validate(&page.bytes).map_err(|error| Refusal::strict(page, &error))?;
        if args.output == ParseOutput::None && args.to.is_none() {
            return Ok(Answer::Nothing);
        }
    }
    let families = read_families(page.format, &page.bytes, options(args))
        .map_err(|error| Refusal::lenient(page, &error, args.strict))?;
    match (args.to, args.output) {
        (Some(to), _) => convert::convert(&families, to.into(), args.escaping)
            .map(Answer::Page)
            .map_err(|error| Refusal::unwritable(page, name_of(to.into()), &error)),
        (None, ParseOutput::Table) => Ok(Answer::Table(families)),
        (None, ParseOutput::Json) => Ok(Answer::Json(families)),
        (None, ParseOutput::None) => Ok(Answer::Nothing),
    }
}

fn options(args: &ParseArgs) -> ParseOptions {
    let mut options = ParseOptions::default();
    // What is converted keeps all that the other format has room for.
    let everything = args.to.is_some();
    options.native_histograms = args.native_histograms || everything;
    options.always_classic_histograms = args.classic_histograms || everything;
    options.parse_start_timestamps = args.start_timestamps || everything;
    options.convert_classic_to_custom_buckets = args.custom_buckets;
    options
}

/// The name of the command line.
const fn name_of(format: Format) -> &'static str {
    match format {
        Format::OpenMetrics => "openmetrics",
        Format::OpenMetrics2 => "openmetrics2",
        Format::Protobuf => "protobuf",
        _ => "text",
    }
}
