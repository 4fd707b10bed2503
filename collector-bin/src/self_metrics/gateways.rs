use promferry_scrape::GatewayStatus;

use super::{Family, Page, counter, gauge};
use crate::pipeline::Pipeline;

pub(super) fn write(page: &mut Page, pipeline: &Pipeline) {
    let gateways = pipeline.scraper().gateways();
    let subjects: Vec<_> =
        gateways.iter().map(|gateway| (vec![("address", gateway.address.as_str())], gateway)).collect();
    page.write(GATEWAYS, &subjects);
}

/// Of addresses that more than one target is reached through.
const GATEWAYS: &[Family<GatewayStatus>] = &[
    gauge("promferry_gateway_targets", "Targets that are reached through the address.", |gateway, points| {
        points.value(gateway.targets as f64);
    }),
    gauge("promferry_gateway_in_flight", "Scrapes under way.", |gateway, points| {
        points.value(gateway.in_flight as f64);
    }),
    gauge("promferry_gateway_waiting", "Scrapes that are due and wait in line.", |gateway, points| {
        points.value(gateway.waiting as f64);
    }),
    gauge("promferry_gateway_connections", "Connections that are lent, at rest.", |gateway, points| {
        points.value(gateway.connections as f64);
    }),
    counter(
        "promferry_gateway_throttled_total",
        "Answers with status 429 or 503 for which all of the address waited.",
        |gateway, points| points.value(gateway.throttled as f64),
    ),
    counter(
        "promferry_gateway_missed_total",
        "Moments at which a target still waited since the moment before.",
        |gateway, points| points.value(gateway.missed as f64),
    ),
];
