//! What `promferry parse` takes.

use clap::{Args, ValueEnum};
use promferry_exposition::Format;

/// The flags of `parse`.
#[derive(Clone, Debug, Args)]
pub struct ParseArgs {
    /// The page: a file, an http:// or https:// URL, or - for standard input. It may be compressed with gzip.
    #[arg(value_name = "FILE | URL | -", default_value = "-")]
    pub page: String,
    /// What the page is written in. Otherwise a URL's answer says so; for files and standard input it is guessed.
    #[arg(long, value_enum)]
    pub format: Option<PageFormat>,
    /// Judge by the OpenMetrics 1.0 specification, which refuses much that Prometheus accepts.
    #[arg(long)]
    pub strict: bool,
    /// What to print of a page that is accepted.
    #[arg(long, value_enum, default_value = "table", conflicts_with = "to")]
    pub output: ParseOutput,
    /// Print the page in another format, with all that this has room for.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub to: Option<PageFormat>,
    /// How names that are not letters, digits, underscores and colons are written with --to: allow-utf-8,
    /// underscores, dots or values.
    #[arg(long, value_name = "SCHEME", requires = "to")]
    pub escaping: Option<promferry_model::EscapingScheme>,
    /// Read native histograms (scrape_native_histograms).
    #[arg(long)]
    pub native_histograms: bool,
    /// Give the classic series beside native histograms too (always_scrape_classic_histograms).
    #[arg(long)]
    pub classic_histograms: bool,
    /// Give classic histograms as native ones with custom buckets (convert_classic_histograms_to_nhcb).
    #[arg(long)]
    pub custom_buckets: bool,
    /// Read since when values have been counted; series _created are then none of their own.
    #[arg(long)]
    pub start_timestamps: bool,
    /// The longest page that is read, uncompressed.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub max_bytes: usize,
}

/// How a page is written, by the names of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PageFormat {
    /// The Prometheus text format.
    Text,
    /// OpenMetrics 1.0.
    Openmetrics,
    /// OpenMetrics 2.0, the release candidate.
    Openmetrics2,
    /// Delimited protobuf.
    Protobuf,
}

impl From<PageFormat> for Format {
    fn from(format: PageFormat) -> Self {
        match format {
            PageFormat::Text => Self::Text,
            PageFormat::Openmetrics => Self::OpenMetrics,
            PageFormat::Openmetrics2 => Self::OpenMetrics2,
            PageFormat::Protobuf => Self::Protobuf,
        }
    }
}

/// What is printed of a page that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ParseOutput {
    /// A line for each metric family.
    Table,
    /// The families with all that the page says of them.
    Json,
    /// Nothing: the exit status is the answer.
    None,
}
