//! `service`: which components run, and how pipelines join them.

use super::component::{Section, kind};
use super::extension::read_health_check;
use crate::yaml::{Entry, Mapping, Node, NodeError};
use crate::{HealthCheck, LogLevel};

/// What a configuration runs.
pub(super) struct Service<'a> {
    pub(super) graph: Graph<'a>,
    pub(super) health_check: Option<HealthCheck>,
    pub(super) log_level: Option<LogLevel>,
}

/// What the pipelines join: everything that is received goes to every exporter.
pub(super) struct Graph<'a> {
    pub(super) receivers: Vec<&'a Entry>,
    pub(super) exporters: Vec<&'a Entry>,
    /// The extensions that run.
    extensions: Vec<&'a Entry>,
    /// Those that are declared and do not.
    idle: Vec<&'a Entry>,
}

/// Processors that decide only how and when data moves.
const PROCESSORS_WITHOUT_EFFECT: [(&str, &str); 4] = [
    ("batch", "requests are filled as far as the endpoint takes them"),
    ("memory_limiter", "memory is kept within the process' own limit"),
    ("resourcedetection", "resource attributes are not sent"),
    ("k8sattributes", "resource attributes are not sent"),
];

/// Extensions that show or store what is shown or stored elsewhere here.
const EXTENSIONS_WITHOUT_EFFECT: [(&str, &str); 4] = [
    ("pprof", "there is no Go runtime to look into"),
    ("zpages", "the status page is at --web.listen-address"),
    ("file_storage", "what waits is below --storage.agent.path"),
    ("memory_ballast", "there is no garbage collector to steer"),
];

const LOG_EXPORTERS: [&str; 2] = ["debug", "logging"];

const KEYS: [&str; 6] = ["receivers", "processors", "exporters", "extensions", "connectors", "service"];

impl<'a> Service<'a> {
    pub(super) fn read(root: &'a Node, warn: &mut dyn FnMut(NodeError)) -> Result<Self, NodeError> {
        let mut top = root.mapping()?;
        if let Some(entry) = super::PROMETHEUS_KEYS.iter().find_map(|key| top.get(key)) {
            let message = format!(
                "{} belongs to Prometheus' configuration, which --config.file takes; in the collector's it stands \
                 below receivers.prometheus.config",
                entry.key
            );
            return Err(NodeError::unsupported(message).at(entry.key_at));
        }
        let mut receivers = Section::take(&mut top, "receivers")?;
        let mut processors = Section::take(&mut top, "processors")?;
        let mut exporters = Section::take(&mut top, "exporters")?;
        let mut extensions = Section::take(&mut top, "extensions")?;
        if let Some(connector) = Section::take(&mut top, "connectors")?.first() {
            let message = "not supported: connectors; each pipeline stands for itself";
            return Err(NodeError::unsupported(message).at(connector.key_at).in_key("connectors"));
        }
        let service = top.take("service");
        top.refuse_unknown(&KEYS)?;
        let Some(service) = service.filter(|entry| !entry.value.is_null()) else {
            let message = "service is missing: its pipelines say what runs";
            return Err(NodeError::invalid(message).at(service.map_or(root.at, |entry| entry.key_at)));
        };
        let in_service = |error: NodeError| error.in_key("service");
        let mut mapping = service.value.mapping().map_err(in_service)?;
        let started = mapping.take("extensions");
        let pipelines = mapping.take("pipelines");
        let telemetry = mapping.take("telemetry");
        mapping.refuse_unknown(&["extensions", "pipelines", "telemetry"]).map_err(in_service)?;

        let started = match started {
            None => Vec::new(),
            Some(list) => listed(list, &mut extensions).map_err(in_service)?,
        };
        let mut health_check = None;
        for extension in &started {
            let in_extension = |error: NodeError| error.in_key(&extension.key).in_key("extensions");
            match kind(&extension.key) {
                "sigv4auth" => {}
                "health_check" => {
                    let mut warn = |error: NodeError| warn(in_extension(error));
                    health_check = Some(read_health_check(extension, &mut warn).map_err(in_extension)?);
                }
                kind => {
                    let why = reason(&EXTENSIONS_WITHOUT_EFFECT, kind).unwrap_or("nothing here needs it");
                    let message = format!("{} has no effect: {why}", extension.key);
                    warn(NodeError::unsupported(message).at(extension.key_at).in_key("extensions"));
                }
            }
        }
        let missing = || {
            NodeError::invalid("pipelines is missing: it says what is scraped and where it goes")
                .at(service.key_at)
                .in_key("service")
        };
        let pipelines = pipelines.filter(|entry| !entry.value.is_null()).ok_or_else(missing)?;
        let (received, exported) =
            read_pipelines(pipelines, &mut receivers, &mut processors, &mut exporters, warn)
                .map_err(|error| error.in_key("pipelines").in_key("service"))?;
        for section in [&receivers, &processors, &exporters, &extensions] {
            for unused in section.unused() {
                let message = format!("{} is not used: service names it nowhere", unused.key);
                warn(NodeError::unsupported(message).at(unused.key_at).in_key(section.name));
            }
        }
        let mut warn = |error: NodeError| warn(error.in_key("telemetry").in_key("service"));
        let log_level = match telemetry {
            None => None,
            Some(telemetry) => read_telemetry(&telemetry.value, &mut warn)
                .map_err(|error| error.in_key("telemetry").in_key("service"))?,
        };
        let idle = extensions.unused().collect();
        let graph = Graph { receivers: received, exporters: exported, extensions: started, idle };
        Ok(Self { graph, health_check, log_level })
    }
}

impl<'a> Graph<'a> {
    /// The extension that an exporter signs with.
    pub(super) fn authenticator(&self, reference: &Node) -> Result<&'a Entry, NodeError> {
        let id: String = reference.read()?;
        let Some(entry) = self.extensions.iter().find(|entry| entry.key == id) else {
            let message = match self.idle.iter().any(|entry| entry.key == id) {
                true => format!("{id} does not run: add it to service.extensions"),
                false => format!("{id:?} is not declared in extensions"),
            };
            let known = self.extensions.iter().map(|entry| entry.key.as_str());
            return Err(NodeError::unknown_name(message, &id, known).at(reference.at));
        };
        if kind(&id) != "sigv4auth" {
            let message = format!("not supported: signing in with {id}; there is sigv4auth");
            return Err(NodeError::unsupported(message).at(reference.at));
        }
        Ok(entry)
    }
}

/// The components that a list names.
fn listed<'a>(list: &Entry, section: &mut Section<'a>) -> Result<Vec<&'a Entry>, NodeError> {
    let in_list = |error: NodeError| error.in_key(&list.key);
    let items = list.value.list().map_err(in_list)?;
    let components = items.iter().enumerate();
    components
        .map(|(index, item)| section.component(item).map_err(|error| in_list(error.in_item(index))))
        .collect()
}

type Joined<'a> = (Vec<&'a Entry>, Vec<&'a Entry>);

fn read_pipelines<'a>(
    pipelines: &Entry,
    receivers: &mut Section<'a>,
    processors: &mut Section<'a>,
    exporters: &mut Section<'a>,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Joined<'a>, NodeError> {
    let mut joined: Vec<(&Entry, Joined<'a>)> = Vec::new();
    for pipeline in pipelines.value.mapping()?.entries() {
        if kind(&pipeline.key) != "metrics" {
            let message =
                format!("not supported: the pipeline {}; there are pipelines of metrics", pipeline.key);
            return Err(NodeError::unsupported(message).at(pipeline.key_at));
        }
        let mut warn = |error: NodeError| {
            warn(error.in_key(&pipeline.key).in_key("pipelines").in_key("service"));
        };
        let read = pipeline.value.mapping().and_then(|mapping| {
            read_pipeline(mapping, pipeline, receivers, processors, exporters, &mut warn)
        });
        joined.push((*pipeline, read.map_err(|error| error.in_key(&pipeline.key))?));
    }
    let Some((_, first)) = joined.first() else {
        return Err(NodeError::invalid("there is no pipeline: nothing would run").at(pipelines.key_at));
    };
    let keys = |entries: &[&Entry]| {
        let mut keys: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        keys.sort();
        keys
    };
    let mut all = first.clone();
    for (pipeline, (receivers, exporters)) in &joined[1..] {
        // What is received in one pipeline must not go where only another one leads.
        if keys(exporters) != keys(&all.1) && keys(receivers) != keys(&all.0) {
            let message = format!(
                "not supported: {} joins other receivers with other exporters than the pipelines before it; run a \
                 collector for each",
                pipeline.key
            );
            return Err(NodeError::unsupported(message).at(pipeline.key_at));
        }
        for (into, from) in [(&mut all.0, receivers), (&mut all.1, exporters)] {
            for entry in from {
                if !into.iter().any(|known| known.key == entry.key) {
                    into.push(entry);
                }
            }
        }
    }
    Ok(all)
}

fn read_pipeline<'a>(
    mut mapping: Mapping<'_>,
    pipeline: &Entry,
    receivers: &mut Section<'a>,
    processors: &mut Section<'a>,
    exporters: &mut Section<'a>,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Joined<'a>, NodeError> {
    let from = mapping.take("receivers");
    let through = mapping.take("processors");
    let to = mapping.take("exporters");
    mapping.refuse_unknown(&["receivers", "processors", "exporters"])?;

    let nothing = |key: &str| NodeError::invalid(format!("{key} is empty")).at(pipeline.key_at).in_key(key);
    let from = from.ok_or_else(|| nothing("receivers"))?;
    let received = listed(from, receivers)?;
    if received.is_empty() {
        return Err(nothing("receivers"));
    }
    for (index, receiver) in received.iter().enumerate() {
        let other = kind(&receiver.key);
        if other != "prometheus" {
            let message = format!("not supported: the receiver {other}; there is prometheus, which scrapes");
            return Err(refused(from, index, message, other, &["prometheus"]));
        }
    }
    if let Some(through) = through {
        for (index, processor) in listed(through, processors)?.iter().enumerate() {
            let kind = kind(&processor.key);
            let Some(why) = reason(&PROCESSORS_WITHOUT_EFFECT, kind) else {
                let message = format!(
                    "not supported: the processor {kind}, which changes what is sent; relabel_configs and \
                     metric_relabel_configs of the receiver's jobs can rename and drop"
                );
                let known: Vec<&str> = PROCESSORS_WITHOUT_EFFECT.iter().map(|(known, _)| *known).collect();
                return Err(refused(through, index, message, kind, &known));
            };
            let message = format!("{} has no effect: {why}", processor.key);
            let at = through.value.list()?.get(index).map_or(through.key_at, |item| item.at);
            warn(NodeError::unsupported(message).at(at).in_item(index).in_key("processors"));
        }
    }
    let to = to.ok_or_else(|| nothing("exporters"))?;
    let mut exported = Vec::new();
    for (index, exporter) in listed(to, exporters)?.into_iter().enumerate() {
        let kind = kind(&exporter.key);
        let at = to.value.list()?.get(index).map_or(to.key_at, |item| item.at);
        match kind {
            "prometheusremotewrite" | "prometheus_remote_write" => exported.push(exporter),
            kind if LOG_EXPORTERS.contains(&kind) => {
                let message = format!(
                    "{} has no effect: samples are not written to the log; the status page shows what is scraped \
                     and delivered",
                    exporter.key
                );
                warn(NodeError::unsupported(message).at(at).in_item(index).in_key("exporters"));
            }
            other => {
                let message = format!("not supported: the exporter {other}; there is prometheusremotewrite");
                let known = ["prometheusremotewrite", "prometheus_remote_write"];
                return Err(refused(to, index, message, other, &known));
            }
        }
    }
    if exported.is_empty() {
        let message = "there is no prometheusremotewrite: samples would go nowhere";
        return Err(NodeError::invalid(message).at(to.key_at).in_key("exporters"));
    }
    Ok((received, exported))
}

/// An item of a list that names something that is not there.
fn refused(list: &Entry, index: usize, message: String, name: &str, known: &[&str]) -> NodeError {
    let at = list.value.list().ok().and_then(|items| items.get(index)).map_or(list.key_at, |item| item.at);
    let error = NodeError::unknown_name(message, name, known.iter().copied()).at(at);
    let error = NodeError { kind: crate::ErrorKind::Unsupported, ..error };
    error.in_item(index).in_key(&list.key)
}

fn reason(reasons: &[(&str, &'static str)], kind: &str) -> Option<&'static str> {
    reasons.iter().find(|(known, _)| *known == kind).map(|(_, why)| *why)
}

/// The level of the log; the collector's own metrics and traces have nothing to say here.
fn read_telemetry(node: &Node, warn: &mut dyn FnMut(NodeError)) -> Result<Option<LogLevel>, NodeError> {
    let mut mapping = node.mapping()?;
    for (key, why) in [
        ("metrics", "this program's own metrics are at --web.listen-address under /metrics"),
        ("traces", "no traces are sent"),
        ("resource", "this program's own metrics have no resource"),
    ] {
        if let Some(entry) = mapping.take(key).filter(|entry| !entry.value.is_null()) {
            warn(NodeError::unsupported(format!("{key} has no effect: {why}")).at(entry.key_at));
        }
    }
    let logs = mapping.take("logs");
    mapping.refuse_unknown(&["logs", "metrics", "traces", "resource"])?;
    let Some(logs) = logs else { return Ok(None) };
    let in_logs = |error: NodeError| error.in_key("logs");
    let mut logs = logs.value.mapping().map_err(in_logs)?;
    let level = logs.take("level").filter(|entry| !entry.value.is_null());
    if let Some(entry) = logs.entries().first() {
        let message = format!("{} has no effect: --log.format says how the log is written", entry.key);
        warn(in_logs(NodeError::unsupported(message).at(entry.key_at)));
    }
    let Some(level) = level else { return Ok(None) };
    let text: String = level.value.read().map_err(|error| in_logs(error.in_key("level")))?;
    // zap's levels; the last three end the process there.
    match text.to_ascii_lowercase().as_str() {
        "debug" => Ok(Some(LogLevel::Debug)),
        "info" | "" => Ok(Some(LogLevel::Info)),
        "warn" | "warning" => Ok(Some(LogLevel::Warn)),
        "error" | "dpanic" | "panic" | "fatal" => Ok(Some(LogLevel::Error)),
        _ => {
            let message = format!("{text:?} is no level; there are debug, info, warn and error");
            Err(in_logs(NodeError::invalid(message).at(level.value.at).in_key("level")))
        }
    }
}
