//! The report for people and scripts.

use std::fmt;

use promferry_remote_write::EndpointStatus;
use promferry_scrape::{PoolStatus, TargetHealth};

use super::findings::{Finding, down_by_reason};
use super::format::{bytes, count, rate};
use super::survey::{Ended, Survey};

/// Displayed as lines: one a job, one an endpoint, those about the surroundings, and `wrong: N` with a line for each
/// thing that is.
pub(super) struct Report<'a> {
    pub(super) survey: &'a Survey<'a>,
    pub(super) findings: Vec<Finding>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { survey, findings } = self;
        writeln!(f, "dry run of {}: nothing was sent and nothing was stored", survey.source)?;
        match survey.ended {
            Ended::Complete => {}
            Ended::AtLimit(limit) => {
                writeln!(
                    f,
                    "ended after {}, before everything was known",
                    humantime::format_duration(limit)
                )?;
            }
            Ended::BySignal => writeln!(f, "ended by a signal, before everything was known")?,
        }
        writeln!(f)?;
        self.jobs(f)?;
        self.endpoints(f)?;
        self.surroundings(f)?;
        let notes: Vec<_> = survey
            .config
            .warnings
            .iter()
            .filter(|warning| !warning.is_fault())
            .map(ToString::to_string)
            .collect();
        if !notes.is_empty() || !survey.config.differences.is_empty() {
            writeln!(f, "\nto be known:")?;
            for note in &notes {
                writeln!(f, "    {note}")?;
            }
            for difference in &survey.config.differences {
                writeln!(f, "    other than from the OpenTelemetry Collector: {difference}")?;
            }
        }
        writeln!(f, "\nwrong: {}", findings.len())?;
        findings.iter().try_for_each(|finding| writeln!(f, "    {finding}"))
    }
}

impl Report<'_> {
    fn jobs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.survey.config.jobs.iter().map(|job| job.scrape.job_name.as_str());
        let rows: Vec<_> = names.map(|name| (name, self.survey.pools.get(name))).collect();
        let mut table = Table::default();
        for (name, pool) in &rows {
            let cells = match pool {
                None => vec!["can't be started".to_owned()],
                Some(pool) => job_cells(pool, self.survey.series.get(*name).copied().unwrap_or_default()),
            };
            table.add(format!("job {name}"), cells);
        }
        for (line, (_, pool)) in table.lines().into_iter().zip(&rows) {
            writeln!(f, "{line}")?;
            if let Some(pool) = pool {
                self.job_details(pool, f)?;
            }
        }
        Ok(())
    }

    fn job_details(&self, pool: &PoolStatus, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for by in &pool.dropped_by {
            let place = self.survey.config.places.target_rule(&pool.scrape_pool, by.rule);
            let place = place.map(|place| format!(", {place}")).unwrap_or_default();
            writeln!(f, "    dropped {}: {by}{place}", count(by.targets))?;
        }
        for invalid in &pool.invalid {
            writeln!(f, "    invalid {}: {}", count(invalid.targets), invalid.error)?;
        }
        if pool.duplicates > 0 {
            let duplicates = count(pool.duplicates);
            writeln!(
                f,
                "    alike {duplicates}: of the labels and the URL of others, scraped once with them"
            )?;
        }
        for down in down_by_reason(self.survey, pool) {
            writeln!(f, "    down {}: {down}", count(down.targets))?;
        }
        Ok(())
    }

    fn endpoints(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::default();
        let mut signing = Vec::new();
        for endpoint in &self.survey.config.remote_write {
            let key = endpoint.write.key();
            let name = if endpoint.write.name.is_empty() { endpoint.write.shown_url() } else { key.clone() };
            let cells = match self.survey.endpoints.get(&key) {
                Some(status) => self.endpoint_cells(status),
                None if self.survey.is_encoded => vec!["can't be started".to_owned()],
                None => vec!["nothing is known in time".to_owned()],
            };
            table.add(format!("remote_write {name}"), cells);
            signing.push(match self.survey.signing.get(&key) {
                Some(Ok(whom)) => Some(whom.clone()),
                Some(Err(_)) => Some("there is nothing to sign with".to_owned()),
                None => None,
            });
        }
        for (line, signing) in table.lines().into_iter().zip(signing) {
            writeln!(f, "{line}")?;
            if let Some(signing) = signing {
                writeln!(f, "    {signing}")?;
            }
        }
        Ok(())
    }

    fn endpoint_cells(&self, status: &EndpointStatus) -> Vec<String> {
        let series: usize = status.jobs.iter().map(|job| job.active_series).sum();
        let samples = self.survey.samples_per_second(status);
        let recorded = self.survey.recorded.get(&status.key);
        let largest = match recorded.and_then(|recorded| recorded.largest) {
            None => "no request".to_owned(),
            Some(size) => {
                format!("largest request {} ({} samples)", bytes(size.bytes as u64), count(size.values))
            }
        };
        vec![format!("{} series", count(series as u64)), format!("{} samples/s", rate(samples)), largest]
    }

    fn surroundings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let storage = &self.survey.storage;
        let path = storage.path.display();
        match &storage.free_bytes {
            Ok(free) => {
                let new = if storage.is_new { ", would be made" } else { "" };
                writeln!(f, "storage {path}: writable, {} free{new}", bytes(*free))?;
            }
            Err(reason) => writeln!(f, "storage {path}: {reason}")?,
        }
        for (address, bound) in &self.survey.addresses {
            match bound {
                Ok(()) => writeln!(f, "listen {address}: free")?,
                // Beside what runs already that is as it should be.
                Err(reason) => writeln!(f, "listen {address}: not now ({reason})")?,
            }
        }
        Ok(())
    }
}

fn job_cells(pool: &PoolStatus, series: u64) -> Vec<String> {
    let of = |health| count(pool.active.iter().filter(|target| target.health == health).count() as u64);
    let mut cells = vec![
        format!("discovered {}", count(pool.discovered)),
        format!("dropped {}", count(pool.dropped_count)),
        format!("kept {}", count(pool.active.len() as u64)),
        format!("up {}", of(TargetHealth::Up)),
        format!("down {}", of(TargetHealth::Down)),
    ];
    let unknown = of(TargetHealth::Unknown);
    if unknown != "0" {
        cells.push(format!("not scraped {unknown}"));
    }
    cells.push(format!("{} series", count(series)));
    cells
}

/// Rows whose cells stand below each other.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
}

/// A cell that is longer than this pushes its row's others aside and nobody else's.
const CELL_MAX: usize = 48;
const GAP: &str = "   ";

impl Table {
    fn add(&mut self, name: String, cells: Vec<String>) {
        self.rows.push(std::iter::once(name).chain(cells).collect());
    }

    fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            // The last cell of a row has room.
            let rows = self.rows.iter().filter(|row| column + 1 < row.len());
            let widths = rows.map(|row| row[column].chars().count());
            widths.filter(|width| *width <= CELL_MAX).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join(GAP).trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}
