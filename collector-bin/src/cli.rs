//! The command line: Prometheus' flags where Prometheus has one.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use promferry_config::Sources;
use promferry_model::PromDuration;
use promferry_remote_write::spool::FsyncPolicy;

/// Scrapes Prometheus targets and remote-writes what they expose, losing nothing on the way.
#[derive(Debug, Parser)]
#[command(name = "promferry", version, about, long_about = None)]
pub struct Cli {
    /// What to do; without a command the demo runs.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scrape and deliver as a configuration says.
    Run(RunArgs),
    /// Judge files without running anything.
    Check(CheckArgs),
    /// Look at the AWS side from where this runs.
    Aws {
        /// What to look at.
        #[command(subcommand)]
        what: Aws,
    },
    /// Look at what waits to be delivered, check it, deliver it or give it up.
    Spool {
        /// What to do with it.
        #[command(subcommand)]
        what: Spool,
    },
    /// Show the whole pipeline at work against exporters and a receiver inside this process.
    Demo(DemoArgs),
    /// Print the version.
    Version,
}

/// What `check` takes: a subcommand, or the OpenTelemetry Collector's flags.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct CheckArgs {
    /// What to judge.
    #[command(subcommand)]
    pub what: Option<Check>,
    /// The OpenTelemetry Collector's configuration.
    #[command(flatten)]
    pub opentelemetry: OpenTelemetryArgs,
}

/// The OpenTelemetry Collector's flags.
#[derive(Clone, Debug, Default, Args)]
pub struct OpenTelemetryArgs {
    /// A configuration of the OpenTelemetry Collector: a path, file:PATH, env:NAME or yaml:TEXT. May be given several
    /// times; a later one adds to those before it, and replaces what they have at the same keys.
    #[arg(long = "config", value_name = "URI")]
    pub configs: Vec<String>,
    /// A value of that configuration, as service.telemetry.logs.level=debug. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "configs")]
    pub sets: Vec<String>,
}

impl OpenTelemetryArgs {
    /// What the flags name, if they name anything.
    pub fn sources(&self) -> Option<Sources> {
        let named = !self.configs.is_empty();
        named.then(|| Sources::OpenTelemetry { uris: self.configs.clone(), sets: self.sets.clone() })
    }
}

/// What can be checked.
#[derive(Clone, Debug, Subcommand)]
pub enum Check {
    /// A configuration: says every error with file, line and column; exit status 1 if there is one.
    Config {
        /// The configuration file.
        file: PathBuf,
    },
}

/// What can be looked at of AWS.
#[derive(Debug, Subcommand)]
pub enum Aws {
    /// Say with whose credentials each signed endpoint is written to, where they come from, and whether they may write;
    /// where not, what is missing, with the policy to paste. Exit status 0 when all may, 1 when one may not, 2 when
    /// the configuration is wrong.
    Whoami(WhoamiArgs),
}

/// The flags of `aws whoami`.
#[derive(Clone, Debug, Default, Args)]
pub struct WhoamiArgs {
    /// Take endpoints from remote_write in this configuration: those with a sigv4 block.
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// The endpoints to ask for, by name; all that are signed when none is named.
    #[arg(long = "endpoint", value_name = "NAME", requires = "config_file")]
    pub endpoints: Vec<String>,
    /// The URL of remote write to ask for, without a configuration.
    #[arg(long, value_name = "URL", conflicts_with = "config_file")]
    pub url: Option<String>,
    /// The region, where neither the URL nor AWS_REGION tells it.
    #[arg(long, value_name = "REGION", conflicts_with = "config_file")]
    pub region: Option<String>,
    /// A role to assume with the credentials found.
    #[arg(long = "role-arn", value_name = "ARN", conflicts_with = "config_file")]
    pub role_arn: Option<String>,
    /// The external id that the role's trust policy asks for.
    #[arg(long = "external-id", value_name = "ID", conflicts_with = "config_file")]
    pub external_id: Option<String>,
    /// Do not ask the endpoints. Otherwise each gets a remote write of no series, which stores nothing.
    #[arg(long = "no-write")]
    pub no_write: bool,
    /// Print every policy that the whole way needs too, whether it is there or not.
    #[arg(long)]
    pub policies: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// What can be done with a spool.
#[derive(Debug, Subcommand)]
pub enum Spool {
    /// List its logs and endpoints, with what waits; changes nothing and works beside a running collector.
    Ls(SpoolDirectory),
    /// Read every record and compare its checksums; changes nothing. Exit status 1 when something is damaged.
    Verify(SpoolDirectory),
    /// Deliver what waits, in order, while no collector works in it. Exit status 1 when something still waits.
    Drain(DrainArgs),
    /// Give up an endpoint that left the configuration, with all that waits for it, while no collector works in it.
    Forget {
        /// Where the spool is.
        #[command(flatten)]
        directory: SpoolDirectory,
        /// The endpoint, as `spool ls` names it.
        endpoint: String,
    },
}

/// Where a spool is.
#[derive(Clone, Debug, Args)]
pub struct SpoolDirectory {
    /// Where the spool and what goes with it is kept.
    #[arg(long = "storage.agent.path", value_name = "DIR", default_value = "data-agent/")]
    pub storage_path: PathBuf,
}

/// The flags of `spool drain`.
#[derive(Clone, Debug, Args)]
pub struct DrainArgs {
    /// Where the spool is.
    #[command(flatten)]
    pub directory: SpoolDirectory,
    /// Where to deliver to, instead of where the configuration says.
    #[arg(long = "to", value_name = "URL", required_unless_present = "config_file")]
    pub to: Option<String>,
    /// Take authentication, signing, headers and queue_config from the endpoint's entry of remote_write in this
    /// configuration.
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// The endpoints to deliver for, as `spool ls` names them; all that wait when none is named.
    #[arg(long = "endpoint", value_name = "NAME")]
    pub endpoints: Vec<String>,
    /// Give up after this many seconds; what then waits stays. 0 means never.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub timeout: u64,
}

/// The flags of `run`: Prometheus' names.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The configuration file, Prometheus' [default: prometheus.yml].
    #[arg(long = "config.file", value_name = "FILE", conflicts_with = "configs")]
    pub config_file: Option<PathBuf>,
    /// The OpenTelemetry Collector's configuration instead.
    #[command(flatten)]
    pub opentelemetry: OpenTelemetryArgs,
    /// Where the status, metrics and health endpoints listen.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    pub listen_address: String,
    /// Where the spool and what goes with it is kept.
    #[arg(long = "storage.agent.path", value_name = "DIR", default_value = "data-agent/")]
    pub storage_path: PathBuf,
    /// When what is stored is made durable against the loss of the machine: `never` (when the system pleases), a
    /// duration such as `1s` (at least this often), or `always` (before a scrape counts as done). The end of the
    /// process, however it comes, loses nothing either way.
    #[arg(long = "storage.agent.fsync", value_name = "POLICY", default_value = "never", value_parser = fsync_policy)]
    pub fsync: FsyncPolicy,
    /// The most that may wait to be delivered, such as 512MB; then the oldest goes. Unset means half of the free
    /// disk, at most 4GB.
    #[arg(long = "storage.agent.max-bytes", value_name = "SIZE", value_parser = bytes)]
    pub max_bytes: Option<u64>,
    /// What is off by default, separated by commas: st-storage reads start timestamps (OpenMetrics' `_created`
    /// series then are no series of their own) and sends them in Remote-Write 2.0.
    #[arg(long = "enable-feature", value_name = "NAME", value_delimiter = ',')]
    pub features: Vec<String>,
    /// The least important messages that are logged [default: info, or what the OpenTelemetry Collector's
    /// configuration says].
    #[arg(long = "log.level", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How messages are written.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    pub log_format: LogFormat,
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
}

/// The flags of `demo`.
#[derive(Clone, Debug, Default, Args)]
pub struct DemoArgs {
    /// Stop by itself after this many seconds; 0 means at Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub seconds: u64,
}

/// Prometheus' log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What may need attention.
    Warn,
    /// What needs attention.
    Error,
}

impl From<promferry_config::LogLevel> for LogLevel {
    fn from(level: promferry_config::LogLevel) -> Self {
        match level {
            promferry_config::LogLevel::Debug => Self::Debug,
            promferry_config::LogLevel::Info => Self::Info,
            promferry_config::LogLevel::Warn => Self::Warn,
            promferry_config::LogLevel::Error => Self::Error,
        }
    }
}

/// Prometheus' log formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line a message, for people.
    Logfmt,
    /// One JSON object a message.
    Json,
}

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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

    #[test]
    fn whoami_takes_a_configuration_or_an_endpoint() {
        let whoami = |flags: &[&str]| {
            Cli::try_parse_from(["promferry", "aws", "whoami"].into_iter().chain(flags.iter().copied()))
                .is_ok()
        };
        assert!(whoami(&[]));
        assert!(whoami(&["--config.file=prometheus.yml", "--endpoint=amp", "--no-write", "--json"]));
        assert!(whoami(&[
            "--url=https://aps-workspaces.eu-west-1.amazonaws.com/",
            "--role-arn=arn",
            "--external-id=x"
        ]));
        assert!(!whoami(&["--endpoint=amp"]));
        assert!(!whoami(&["--config.file=prometheus.yml", "--role-arn=arn"]));
    }

    #[test]
    fn a_drain_needs_to_know_where_to() {
        let drain = |flags: &[&str]| {
            Cli::try_parse_from(["promferry", "spool", "drain"].into_iter().chain(flags.iter().copied()))
        };
        assert!(drain(&[]).is_err());
        assert!(drain(&["--to=http://127.0.0.1:9/"]).is_ok());
        assert!(drain(&["--config.file=prometheus.yml", "--endpoint=amp"]).is_ok());
    }
}
