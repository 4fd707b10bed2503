//! What `promferry run` takes: Prometheus' names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args};
use promferry_config::Sources;
use promferry_model::PromDuration;
use promferry_remote_write::spool::FsyncPolicy;

use super::log::{LogFormat, LogLevel};
use super::prometheus::OtherFlags;
use super::{Features, OpenTelemetryArgs, WebArgs};

/// The flags of `run`: Prometheus' names.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The configuration file, Prometheus' [default: prometheus.yml].
    #[arg(long = "config.file", value_name = "FILE", conflicts_with = "configs")]
    pub config_file: Option<PathBuf>,
    /// Keep the configuration as it was read at start, until SIGHUP or /-/reload. Otherwise what changed in it, and in
    /// the files that it names, is taken up by itself.
    #[arg(long = "no-config.auto-reload", action = ArgAction::SetFalse)]
    pub auto_reload: bool,
    /// How often the files of the configuration are looked at.
    #[arg(long = "config.auto-reload-interval", value_name = "DURATION", default_value = "10s")]
    pub auto_reload_interval: PromDuration,
    /// The OpenTelemetry Collector's configuration instead.
    #[command(flatten)]
    pub opentelemetry: OpenTelemetryArgs,
    /// Do everything but send and store: say what is discovered, kept, up, and wrong, and end; at the latest after this
    /// long. Exit status 0 when nothing is wrong, 1 when something is, 2 when the configuration can't be read.
    #[arg(
        long = "dry-run",
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30s"
    )]
    pub dry_run: Option<PromDuration>,
    /// Where and how the pages are served.
    #[command(flatten)]
    pub web: WebArgs,
    /// Where the spool and what goes with it is kept [default: data-agent/].
    #[arg(long = "storage.agent.path", value_name = "DIR")]
    pub agent_path: Option<PathBuf>,
    /// The same where --storage.agent.path is not given. What Prometheus stored there is left as it is.
    #[arg(long = "storage.tsdb.path", value_name = "DIR")]
    pub tsdb_path: Option<PathBuf>,
    /// When what is stored is made durable against the loss of the machine: `never` (when the system pleases), a
    /// duration such as `1s` (at least this often), or `always` (before a scrape counts as done). The end of the
    /// process, however it comes, loses nothing either way.
    #[arg(long = "storage.agent.fsync", value_name = "POLICY", default_value = "never", value_parser = fsync_policy)]
    pub fsync: FsyncPolicy,
    /// The most that may wait to be delivered, such as 512MB; then the oldest goes. Unset means half of the free
    /// disk, at most 4GB.
    #[arg(long = "storage.agent.max-bytes", value_name = "SIZE", value_parser = bytes)]
    pub max_bytes: Option<u64>,
    /// How long a stop may take to send what waits; the rest is sent after the next start.
    #[arg(long = "storage.remote.flush-deadline", value_name = "DURATION", default_value = "20s")]
    pub flush_deadline: PromDuration,
    /// The share of the memory limit, above 0 and at most 1, that data may take [default: 0.8].
    #[arg(long = "auto-gomemlimit.ratio", value_name = "SHARE", value_parser = share)]
    pub budget_share: Option<f64>,
    /// How long changes of the discovered targets are gathered before they are taken up; 0s means 5s.
    #[arg(
        long = "scrape.discovery-reload-interval",
        value_name = "DURATION",
        default_value = "5s",
        hide = true
    )]
    pub discovery_reload_interval: PromDuration,
    /// What is off by default, separated by commas. st-storage reads start timestamps (OpenMetrics' `_created` series
    /// then are no series of their own) and sends them in Remote-Write 2.0; extra-scrape-metrics is extra_scrape_metrics
    /// of the configuration where that says nothing.
    #[arg(long = "enable-feature", value_name = "NAME", value_delimiter = ',')]
    pub features: Vec<String>,
    /// The least important messages that are logged [default: what the configuration says, else info].
    #[arg(long = "log.level", value_name = "LEVEL", ignore_case = true)]
    pub log_level: Option<LogLevel>,
    /// How messages are written.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt", ignore_case = true)]
    pub log_format: LogFormat,
    /// What Prometheus takes and this does not.
    #[command(flatten)]
    pub other: OtherFlags,
}

/// ADOT's variable that holds a whole configuration; it wins over `--config`.
pub const AOT_CONFIG_CONTENT: &str = "AOT_CONFIG_CONTENT";

impl RunArgs {
    /// Where the configuration comes from: `--config.file`, else ADOT's variable if it `is_set`, else `--config`, else
    /// `prometheus.yml`.
    pub fn sources(&self, is_set: impl Fn(&str) -> bool) -> Sources {
        if let Some(file) = &self.config_file {
            return Sources::Prometheus(file.clone());
        }
        if is_set(AOT_CONFIG_CONTENT) {
            let uris = vec![format!("env:{AOT_CONFIG_CONTENT}")];
            return Sources::OpenTelemetry { uris, sets: self.opentelemetry.sets.clone() };
        }
        self.opentelemetry.sources().unwrap_or_else(|| Sources::Prometheus(PathBuf::from("prometheus.yml")))
    }

    /// What `--enable-feature` enables.
    pub fn features(&self) -> Features {
        Features::named(self.features.iter().map(String::as_str))
    }

    /// What there is to say of flags that change nothing, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::from_iter(self.other.warning());
        warnings.extend(self.features().warnings);
        if !self.opentelemetry.feature_gates.is_empty() {
            let gates = self.opentelemetry.feature_gates.join(",");
            warnings.push(format!(
                "--feature-gates={gates} has no effect: the collector that they are about is not here"
            ));
        }
        warnings
    }

    /// How long changes of the discovered targets are gathered; as with Prometheus, zero means the default.
    pub fn discovery_debounce(&self) -> Duration {
        match self.discovery_reload_interval {
            zero if zero.is_zero() => DISCOVERY_DEBOUNCE,
            interval => interval.as_std(),
        }
    }

    /// Where the spool and what goes with it is kept: where the agent's flag says, else the server's.
    pub fn storage_path(&self) -> &Path {
        self.agent_path.as_deref().or(self.tsdb_path.as_deref()).unwrap_or_else(|| Path::new(STORAGE_PATH))
    }
}

/// Prometheus' default for `--scrape.discovery-reload-interval`.
const DISCOVERY_DEBOUNCE: Duration = Duration::from_secs(5);
/// Where an agent of Prometheus stores, unless told.
const STORAGE_PATH: &str = "data-agent/";

fn fsync_policy(text: &str) -> Result<FsyncPolicy, String> {
    match text {
        "never" => Ok(FsyncPolicy::Never),
        "always" => Ok(FsyncPolicy::Always),
        _ => match text.parse::<PromDuration>() {
            Ok(interval) if !interval.as_std().is_zero() => Ok(FsyncPolicy::Interval(interval.as_std())),
            Ok(_) => Err("an interval must not be zero; use always".to_owned()),
            Err(_) => Err("expected never, always or a duration such as 1s".to_owned()),
        },
    }
}

/// Powers of 1024 under all names, as in Prometheus' size flags.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "KB" | "KIB" => 10,
        "MB" | "MIB" => 20,
        "GB" | "GIB" => 30,
        "TB" | "TIB" => 40,
        _ => return Err("expected a size such as 512MB or 4GB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a size such as 512MB or 4GB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "the size is out of range".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "expected a share such as 0.8, above 0 and at most 1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn flags_of_the_spool_are_read() {
        let run = |flags: &[&str]| {
            let args = ["promferry", "run"].into_iter().chain(flags.iter().copied());
            Cli::try_parse_from(args).map(|cli| match cli.command {
                Some(Command::Run(args)) => (args.fsync, args.max_bytes),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(run(&[]).unwrap(), (FsyncPolicy::Never, None));
        let interval = FsyncPolicy::Interval(Duration::from_millis(1500));
        assert_eq!(run(&["--storage.agent.fsync=1s500ms"]).unwrap().0, interval);
        assert_eq!(run(&["--storage.agent.fsync=always"]).unwrap().0, FsyncPolicy::Always);
        assert_eq!(run(&["--storage.agent.max-bytes=2GB"]).unwrap().1, Some(2 << 30));
        assert_eq!(run(&["--storage.agent.max-bytes=512mib"]).unwrap().1, Some(512 << 20));
        for wrong in
            ["fsync=sometimes", "fsync=0s", "max-bytes=0", "max-bytes=4 apples", "max-bytes=99999999TB"]
        {
            assert!(run(&[&format!("--storage.agent.{wrong}")]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_configuration_is_of_one_dialect() {
        let sources = |flags: &[&str], variable: bool| {
            let args = ["promferry", "run"].into_iter().chain(flags.iter().copied());
            Cli::try_parse_from(args).map(|cli| match cli.command {
                Some(Command::Run(args)) => args.sources(|name| variable && name == "AOT_CONFIG_CONTENT"),
                other => panic!("{other:?}"),
            })
        };
        let prometheus = |file: &str| Sources::Prometheus(PathBuf::from(file));
        let collector = |uris: &[&str], sets: &[&str]| Sources::OpenTelemetry {
            uris: uris.iter().map(ToString::to_string).collect(),
            sets: sets.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(sources(&[], false).unwrap(), prometheus("prometheus.yml"));
        assert_eq!(sources(&["--config.file=a.yml"], true).unwrap(), prometheus("a.yml"));
        assert_eq!(
            sources(&["--config=a.yaml", "--config", "env:B", "--set=a.b=c"], false).unwrap(),
            collector(&["a.yaml", "env:B"], &["a.b=c"])
        );
        let of_variable = collector(&["env:AOT_CONFIG_CONTENT"], &[]);
        assert_eq!(sources(&["--config=/etc/otel-config.yaml"], true).unwrap(), of_variable);
        assert_eq!(sources(&[], true).unwrap(), of_variable);
        assert!(sources(&["--config=a.yaml", "--config.file=b.yml"], false).is_err());
        assert!(sources(&["--set=a=b"], false).is_err());
        for (flags, taken) in [
            (&["config", "a.yml"][..], true),
            (&["--config=a.yaml", "--set=a=b"], true),
            (&["--config=a.yaml", "config", "a.yml"], false),
            (&[], false),
        ] {
            let args = ["promferry", "check"].into_iter().chain(flags.iter().copied());
            assert_eq!(Cli::try_parse_from(args).is_ok(), taken, "{flags:?}");
        }
    }
}
