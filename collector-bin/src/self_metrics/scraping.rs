use std::collections::BTreeMap;

use promferry_scrape::JobStats;

use super::{Family, Page, Points, counter, gauge};
use crate::pipeline::Pipeline;

pub(super) fn write(page: &mut Page, pipeline: &Pipeline) {
    let jobs = pipeline.scraper().stats();
    let subjects: Vec<_> = jobs.iter().map(|(job, stats)| (vec![("job", job.as_str())], stats)).collect();
    page.write(JOBS, &subjects);
}

const JOBS: &[Family<JobStats>] = &[
    counter(
        "promferry_scrapes_scheduled_total",
        "Moments at which a target was to be scraped.",
        |job, points| points.value(job.ledger.scheduled as f64),
    ),
    counter("promferry_scrapes_scraped_total", "Scrapes whose page was taken.", |job, points| {
        points.value(job.ledger.scraped as f64);
    }),
    counter("promferry_scrapes_failed_total", "Scrapes that failed.", |job, points| {
        by_reason(&job.ledger.failed, points);
    }),
    counter("promferry_scrapes_missed_total", "Moments at which no scrape was tried.", |job, points| {
        by_reason(&job.ledger.missed, points);
    }),
    gauge("promferry_scrapes_running", "Scrapes under way.", |job, points| {
        points.value(job.ledger.running as f64);
    }),
    gauge("promferry_targets", "Targets scraped now.", |job, points| points.value(job.targets as f64)),
    gauge("promferry_target_series", "Series known of the targets scraped now.", |job, points| {
        points.value(job.series as f64);
    }),
    counter(
        "promferry_target_errors_total",
        "Targets that could not be made of what discovery said.",
        |job, points| {
            points.value(job.target_errors as f64);
        },
    ),
    counter("promferry_samples_scraped_total", "Samples on pages.", |job, points| {
        points.value(job.samples_scraped as f64);
    }),
    counter(
        "promferry_samples_post_metric_relabeling_total",
        "Samples left after metric relabelling.",
        |job, points| points.value(job.samples_post_metric_relabeling as f64),
    ),
    counter(
        "promferry_series_added_total",
        "Lines that were not known from the page before.",
        |job, points| {
            points.value(job.series_added as f64);
        },
    ),
    counter("promferry_stale_markers_total", "Stale markers written.", |job, points| {
        points.value(job.stale_markers as f64);
    }),
    counter(
        "prometheus_target_scrapes_sample_duplicate_timestamp_total",
        "Samples left out: the page had the series before.",
        |job, points| points.value(job.samples_duplicate as f64),
    ),
    counter(
        "prometheus_target_scrapes_sample_out_of_bounds_total",
        "Samples left out: too far in the future.",
        |job, points| points.value(job.samples_out_of_bounds as f64),
    ),
    counter(
        "prometheus_target_scrapes_sample_out_of_order_total",
        "Samples left out: not later than the last.",
        |job, points| points.value(job.samples_out_of_order as f64),
    ),
    counter("promferry_exemplars_left_out_total", "Exemplars left out.", |job, points| {
        points.value(job.exemplars_left_out as f64);
    }),
    counter(
        "prometheus_target_scrapes_exceeded_sample_limit_total",
        "Scrapes failed by sample_limit.",
        |job, points| points.value(job.exceeded_sample_limit as f64),
    ),
    counter(
        "prometheus_target_scrapes_exceeded_body_size_limit_total",
        "Scrapes failed by body_size_limit.",
        |job, points| points.value(job.exceeded_body_size_limit as f64),
    ),
    counter(
        "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total",
        "Scrapes failed by native_histogram_bucket_limit.",
        |job, points| points.value(job.exceeded_bucket_limit as f64),
    ),
    counter(
        "prometheus_target_scrape_pool_exceeded_label_limits_total",
        "Scrapes failed by a label limit.",
        |job, points| points.value(job.exceeded_label_limits as f64),
    ),
    counter(
        "prometheus_target_scrape_pool_exceeded_target_limit_total",
        "Updates with more targets than target_limit.",
        |job, points| points.value(job.exceeded_target_limit as f64),
    ),
    counter(
        "promferry_samples_refused_total",
        "Samples of new series that were not taken.",
        |job, points| {
            for (reason, samples) in [
                ("over_budget", job.refused_over_budget),
                ("owned_by_other_target", job.refused_owned_elsewhere),
                ("too_many", job.refused_too_many),
            ] {
                points.value_of(&[("reason", reason)], samples as f64);
            }
        },
    ),
    counter("promferry_commits_failed_total", "Scrapes that could not be stored.", |job, points| {
        points.value(job.commits_failed as f64);
    }),
    counter("promferry_scrape_panics_total", "Pages whose reading panicked.", |job, points| {
        points.value(job.panics as f64);
    }),
    counter(
        "promferry_scrape_loop_restarts_total",
        "Loops that panicked and were started again.",
        |job, points| points.value(job.loop_restarts as f64),
    ),
    counter("promferry_scrape_bytes_received_total", "Bytes of pages as received.", |job, points| {
        points.value(job.bytes_received as f64);
    }),
    counter("promferry_scrape_bytes_inflated_total", "Bytes of pages once inflated.", |job, points| {
        points.value(job.bytes_inflated as f64);
    }),
];

fn by_reason(reasons: &BTreeMap<&'static str, u64>, points: &mut Points<'_, '_>) {
    for (reason, &scrapes) in reasons {
        points.value_of(&[("reason", reason)], scrapes as f64);
    }
}
