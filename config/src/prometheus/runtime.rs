//! `runtime`: how Prometheus' process behaves. Only its log level means something here.

use crate::LogLevel;
use crate::yaml::{Node, NodeError};

const LEVELS: [(&str, LogLevel); 4] = [
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
];

pub(super) fn read(node: &Node, warn: &mut dyn FnMut(NodeError)) -> Result<Option<LogLevel>, NodeError> {
    let mut mapping = node.mapping()?;
    if let Some(entry) = mapping.take("gogc").filter(|entry| !entry.value.is_null()) {
        entry.value.read::<i64>().map_err(|error| error.in_key("gogc"))?;
        warn(NodeError::unsupported("gogc has no effect: there is no garbage collector").at(entry.key_at));
    }
    let level = mapping.take("log_level").filter(|entry| !entry.value.is_null());
    mapping.refuse_unknown(&["gogc", "log_level"])?;
    let Some(entry) = level else { return Ok(None) };
    let text: String = entry.value.read().map_err(|error| error.in_key("log_level"))?;
    // In any case, as by Prometheus' flag.
    let named = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text));
    let unknown = || {
        let message = format!("unknown log level {text:?}: there are debug, info, warn and error");
        let known = LEVELS.iter().map(|(name, _)| *name);
        NodeError::unknown_name(message, &text, known).at(entry.value.at).in_key("log_level")
    };
    named.map(|(_, level)| Some(*level)).ok_or_else(unknown)
}
