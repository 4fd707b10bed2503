use std::time::UNIX_EPOCH;

use super::{Family, Page, gauge};
use crate::pipeline::Pipeline;
use crate::reload::ReloadStatus;

pub(super) fn write(page: &mut Page, pipeline: &Pipeline) {
    page.write(FAMILIES, &[(Vec::new(), &pipeline.reload_status())]);
}

const FAMILIES: &[Family<ReloadStatus>] = &[
    gauge(
        "prometheus_config_last_reload_successful",
        "Whether the last configuration reload attempt was successful.",
        |status, points| points.value(f64::from(status.is_successful())),
    ),
    gauge(
        "prometheus_config_last_reload_success_timestamp_seconds",
        "Timestamp of the last successful configuration reload.",
        |status, points| {
            let since_epoch = status.last_success.duration_since(UNIX_EPOCH).unwrap_or_default();
            points.value(since_epoch.as_secs_f64());
        },
    ),
];
