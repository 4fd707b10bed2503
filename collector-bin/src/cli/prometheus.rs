//! Every flag of Prometheus 3.16, those of both modes and the hidden ones, and what becomes of it here.

use clap::builder::OsStringValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// A flag of Prometheus.
#[derive(Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name, without the dashes.
    pub name: &'static str,
    /// What follows it.
    pub takes: Takes,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: the flag is a switch, which this other name turns off.
    Nothing {
        /// `no-` and the flag's name.
        negated: &'static str,
    },
    /// A value.
    Value,
    /// A value, and the flag may be given several times.
    Values,
}

/// What becomes of a flag of Prometheus, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does what it does in Prometheus; what differs is said.
    Honoured(&'static str),
    /// It decides something else, which serves the same purpose.
    Mapped(&'static str),
    /// It is taken without a word: nothing is other than the user expects.
    Silent(&'static str),
    /// It is taken, and a warning says that it changes nothing, and why.
    NoEffect(&'static str),
    /// It is refused.
    Refused(&'static str),
}

use Verdict::{Honoured, Mapped, NoEffect, Refused, Silent};

const NO_LOG: &str = "there is no write-ahead log of that kind: the spool frees what was delivered at once";
const NO_DATABASE: &str = "nothing is stored but what waits to be delivered";
const NO_QUERIES: &str = "nothing is queried here";
const NO_RULES: &str = "there are no rules and no alerts";
const NO_CONSOLE: &str = "there is no console, only a status page";
const NO_RECEIVER: &str =
    "nothing is received: what is sent to /api/v1/write or /api/v1/otlp is answered with 404";
const WITH_CGROUP: &str = "the limits of the container are always followed";
const ON_TIME: &str = "a sample's time is the scheduled one unless the scrape began late";

/// A switch, which has a negated form.
macro_rules! switch {
    ($name:literal, $verdict:expr) => {
        Flag { name: $name, takes: Takes::Nothing { negated: concat!("no-", $name) }, verdict: $verdict }
    };
}

const fn value(name: &'static str, verdict: Verdict) -> Flag {
    Flag { name, takes: Takes::Value, verdict }
}

const fn values(name: &'static str, verdict: Verdict) -> Flag {
    Flag { name, takes: Takes::Values, verdict }
}

/// The flags of Prometheus 3.16 (`cmd/prometheus/main.go`) in alphabetical order.
pub const FLAGS: &[Flag] = &[
    switch!("agent", Silent("an agent is all there is")),
    switch!("alertmanager.drain-notification-queue-on-shutdown", NoEffect(NO_RULES)),
    value("alertmanager.notification-batch-size", NoEffect(NO_RULES)),
    value("alertmanager.notification-queue-capacity", NoEffect(NO_RULES)),
    switch!("auto-gomaxprocs", Silent(WITH_CGROUP)),
    switch!("auto-gomemlimit", Silent(WITH_CGROUP)),
    value(
        "auto-gomemlimit.ratio",
        Mapped("the share of the container's memory limit that data may take; 0.8 unless it is given"),
    ),
    value(
        "auto-gomemlimit.refresh-interval",
        Silent("the limit is that of the start, as it is by default there"),
    ),
    switch!("config.auto-reload", Honoured("on by default; `--no-config.auto-reload` turns it off")),
    value("config.auto-reload-interval", Honoured("10s by default, there 30s")),
    value("config.file", Honoured("")),
    values("enable-feature", Honoured("feature by feature, see below")),
    switch!("help", Honoured("")),
    value("log.format", Honoured("")),
    value(
        "log.level",
        Honoured("wins over `runtime.log_level` of the configuration, which there wins over the flag"),
    ),
    value("query.lookback-delta", NoEffect(NO_QUERIES)),
    value("query.max-concurrency", NoEffect(NO_QUERIES)),
    value("query.max-samples", NoEffect(NO_QUERIES)),
    value("query.timeout", NoEffect(NO_QUERIES)),
    value("rules.alert.for-grace-period", NoEffect(NO_RULES)),
    value("rules.alert.for-outage-tolerance", NoEffect(NO_RULES)),
    value("rules.alert.resend-delay", NoEffect(NO_RULES)),
    value("rules.max-concurrent-evals", NoEffect(NO_RULES)),
    switch!("scrape.adjust-timestamps", NoEffect(ON_TIME)),
    value("scrape.discovery-reload-interval", Honoured("")),
    value("scrape.timestamp-tolerance", NoEffect(ON_TIME)),
    value("storage.agent.checkpoint-batch-size", NoEffect(NO_LOG)),
    switch!("storage.agent.checkpoint-from-in-memory-series", NoEffect(NO_LOG)),
    switch!("storage.agent.no-lockfile", NoEffect("the spool is always locked, in a folder of its own")),
    value("storage.agent.path", Honoured("a write-ahead log of Prometheus that lies there is left as it is")),
    value(
        "storage.agent.retention.max-time",
        NoEffect("what waits is bounded by --storage.agent.max-bytes and sample_age_limit, and else kept"),
    ),
    value("storage.agent.retention.min-time", NoEffect(NO_LOG)),
    switch!("storage.agent.wal-compression", NoEffect(NO_LOG)),
    value("storage.agent.wal-compression-type", NoEffect(NO_LOG)),
    value("storage.agent.wal-segment-size", NoEffect(NO_LOG)),
    value("storage.agent.wal-truncate-frequency", NoEffect(NO_LOG)),
    value(
        "storage.remote.flush-deadline",
        Mapped(
            "how long a stop sends what waits; 20s by default, for Kubernetes kills after 30s. The rest stays in the spool",
        ),
    ),
    value("storage.remote.read-concurrent-limit", NoEffect(NO_QUERIES)),
    value("storage.remote.read-max-bytes-in-frame", NoEffect(NO_QUERIES)),
    value("storage.remote.read-sample-limit", NoEffect(NO_QUERIES)),
    switch!("storage.tsdb.allow-overlapping-compaction", NoEffect(NO_DATABASE)),
    value("storage.tsdb.block-reload-interval", NoEffect(NO_DATABASE)),
    value("storage.tsdb.delay-compact-file.path", NoEffect(NO_DATABASE)),
    value("storage.tsdb.delayed-compaction.max-percent", NoEffect(NO_DATABASE)),
    value("storage.tsdb.head-chunks-write-queue-size", NoEffect(NO_DATABASE)),
    value("storage.tsdb.max-block-chunk-segment-size", NoEffect(NO_DATABASE)),
    value("storage.tsdb.max-block-duration", NoEffect(NO_DATABASE)),
    value("storage.tsdb.min-block-duration", NoEffect(NO_DATABASE)),
    switch!("storage.tsdb.no-lockfile", NoEffect("the spool is always locked, in a folder of its own")),
    value(
        "storage.tsdb.path",
        Mapped(
            "where the spool lies, unless `--storage.agent.path` is given; a database that lies there is left as it is",
        ),
    ),
    value("storage.tsdb.retention.size", NoEffect(NO_DATABASE)),
    value("storage.tsdb.retention.time", NoEffect(NO_DATABASE)),
    value("storage.tsdb.samples-per-chunk", NoEffect(NO_DATABASE)),
    switch!("storage.tsdb.wal-compression", NoEffect(NO_DATABASE)),
    value("storage.tsdb.wal-compression-type", NoEffect(NO_DATABASE)),
    value("storage.tsdb.wal-segment-size", NoEffect(NO_DATABASE)),
    switch!("version", Honoured("prints the version of Promferry")),
    value("web.config.file", Honoured("")),
    value("web.console.libraries", NoEffect(NO_CONSOLE)),
    value("web.console.templates", NoEffect(NO_CONSOLE)),
    value("web.cors.origin", NoEffect(NO_CONSOLE)),
    switch!("web.enable-admin-api", NoEffect(NO_DATABASE)),
    switch!("web.enable-lifecycle", Honoured("")),
    switch!("web.enable-otlp-receiver", NoEffect(NO_RECEIVER)),
    switch!("web.enable-remote-write-receiver", NoEffect(NO_RECEIVER)),
    value("web.external-url", Honoured("")),
    values("web.listen-address", Honoured("")),
    value("web.max-connections", Honoured("")),
    value("web.max-notifications-subscribers", NoEffect(NO_CONSOLE)),
    value("web.page-title", Honoured("`Promferry` by default")),
    value("web.read-timeout", Honoured("")),
    values("web.remote-write-receiver.accepted-protobuf-messages", NoEffect(NO_RECEIVER)),
    value("web.route-prefix", Honoured("")),
    value("web.search.max-limit", NoEffect(NO_QUERIES)),
    value("web.user-assets", NoEffect(NO_CONSOLE)),
    switch!("write-documentation", Refused("it is for those who build Prometheus")),
];

/// Flags of Prometheus that no other part of the arguments takes. As an [`Args`] it comes last: it adds, hidden from
/// the help, what the arguments before it lack of [`FLAGS`], and the negated form of every switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherFlags {
    without_effect: Vec<(&'static str, &'static str)>,
}

impl OtherFlags {
    /// One sentence about all that were given and have no effect; nothing if there were none.
    pub fn warning(&self) -> Option<String> {
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for (name, reason) in &self.without_effect {
            let name = format!("--{name}");
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, names)) => names.push(name),
                None => reasons.push((reason, vec![name])),
            }
        }
        let reasons = reasons.iter().map(|(reason, names)| format!("{} ({reason})", names.join(", ")));
        let reasons = reasons.collect::<Vec<_>>().join("; ");
        (!reasons.is_empty()).then(|| format!("flags of Prometheus without effect here: {reasons}"))
    }
}

impl Args for OtherFlags {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, with_flag)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for OtherFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let is_given = |name: &str| {
            matches.try_contains_id(name).is_ok_and(|is_there| is_there)
                && matches.value_source(name) == Some(ValueSource::CommandLine)
        };
        let mut without_effect = Vec::new();
        for flag in FLAGS {
            let names = match flag.takes {
                Takes::Nothing { negated } => [Some(flag.name), Some(negated)],
                Takes::Value | Takes::Values => [Some(flag.name), None],
            };
            for name in names.into_iter().flatten().filter(|name| is_given(name)) {
                match flag.verdict {
                    NoEffect(reason) => without_effect.push((name, reason)),
                    Refused(reason) => {
                        let said = format!("--{name} is refused: {reason}\n");
                        return Err(Error::raw(ErrorKind::UnknownArgument, said));
                    }
                    Honoured(_) | Mapped(_) | Silent(_) => {}
                }
            }
        }
        Ok(Self { without_effect })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Adds what `command` lacks of a flag.
fn with_flag(command: Command, flag: &'static Flag) -> Command {
    let id_of = |command: &Command, long: &str| {
        command.get_arguments().find(|arg| arg.get_long() == Some(long)).map(|arg| arg.get_id().clone())
    };
    let hidden = |name: &'static str| Arg::new(name).long(name).hide(true);
    match flag.takes {
        Takes::Value | Takes::Values if id_of(&command, flag.name).is_some() => command,
        Takes::Value => command.arg(hidden(flag.name).value_parser(OsStringValueParser::new())),
        Takes::Values => {
            let flag = hidden(flag.name).action(ArgAction::Append);
            command.arg(flag.value_parser(OsStringValueParser::new()))
        }
        // clap brings the two themselves.
        Takes::Nothing { negated } if flag.name == "help" => {
            command.arg(hidden(negated).action(ArgAction::Help))
        }
        Takes::Nothing { negated } if flag.name == "version" => {
            command.arg(hidden(negated).action(ArgAction::Version))
        }
        Takes::Nothing { negated } => {
            let (on, off) = (id_of(&command, flag.name), id_of(&command, negated));
            let mut command = command;
            if on.is_none() {
                command = command.arg(hidden(flag.name).action(ArgAction::SetTrue));
            }
            // As in Prometheus, a switch is given once, in either form.
            let on = on.unwrap_or_else(|| flag.name.into());
            match off {
                Some(off) => command.mut_arg(off, |off| off.conflicts_with(on)),
                None => command.arg(hidden(negated).action(ArgAction::SetTrue).conflicts_with(on)),
            }
        }
    }
}
