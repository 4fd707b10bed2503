//! What a target of the farm shows: realistic series whose values carry the number of the scrape that read them.

/// Values of scrape `n` lie in `n · STEP .. (n + 1) · STEP`.
const STEP: u64 = 1024;
/// The part of a step that moves at random from scrape to scrape; the rest tells a family's series apart.
const NOISE: u64 = 512;

const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const CODES: [&str; 5] = ["200", "201", "400", "404", "503"];
const ZONES: [&str; 3] = ["euw1-az1", "euw1-az2", "euw1-az3"];
const BOUNDS: [&str; 10] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf"];

/// The page of one target: its text with a place for each value.
///
/// Counters, gauges and histograms are mixed (40, 36 and 24 of each hundred series), each series has six or seven labels,
/// and label values name the target, so that two targets share no series and few strings.
#[derive(Debug)]
pub struct Page {
    text: String,
    values: Vec<Place>,
}

/// Where a value goes and how it is made.
#[derive(Debug)]
struct Place {
    /// The value stands before this byte of the text.
    at: usize,
    /// Series with the same group move together, so that a histogram's buckets stay in order.
    group: u64,
    /// Place of the series in its group, 0..STEP − NOISE.
    offset: u64,
    /// Written with decimals.
    decimal: bool,
}

impl Page {
    /// A page with exactly `series` sample lines. `target` makes its label values its own.
    pub fn new(target: usize, series: usize) -> Self {
        let mut page = Self { text: String::with_capacity(series * 130), values: Vec::with_capacity(series) };
        let mut family = 0;
        while page.values.len() < series {
            page.counters(target, family, series);
            page.gauges(target, family, series);
            page.histogram(target, family, series);
            family += 1;
        }
        page
    }

    /// Sample lines of the page.
    pub fn series(&self) -> usize {
        self.values.len()
    }

    /// Appends the page as scrape number `sequence` shows it.
    pub fn render(&self, sequence: u64, out: &mut Vec<u8>) {
        use std::io::Write;
        let mut from = 0;
        for place in &self.values {
            out.extend_from_slice(&self.text.as_bytes()[from..place.at]);
            from = place.at;
            let noise = mix(place.group, sequence);
            let whole = sequence * STEP + place.offset + noise % NOISE;
            // Writing into a Vec cannot fail.
            let _ = if place.decimal {
                write!(out, "{whole}.{:03}", (noise >> 32) % 1000)
            } else {
                write!(out, "{whole}")
            };
        }
        out.extend_from_slice(&self.text.as_bytes()[from..]);
    }

    fn counters(&mut self, target: usize, family: usize, limit: usize) {
        let name = format!("http_server_{family:02}_requests_total");
        self.head(&name, "Requests answered, by route and status code.", "counter", limit);
        for index in 0..20 {
            let labels = format!(
                "code=\"{}\",method=\"{}\",pod=\"cart-5d9f-{target:05}\",route=\"/v1/{target}/orders/{index}\",shard=\"{}\",zone=\"{}\"",
                CODES[index % 5],
                METHODS[index % 4],
                index % 8,
                ZONES[target % 3]
            );
            self.line(&name, &labels, family * 100 + index, 0, false, limit);
        }
    }

    fn gauges(&mut self, target: usize, family: usize, limit: usize) {
        let name = format!("worker_{family:02}_queue_seconds");
        self.head(&name, "Age of the oldest entry in the queue.", "gauge", limit);
        for index in 0..18 {
            let labels = format!(
                "kind=\"batch\",node=\"ip-10-0-{}-{}\",pod=\"cart-5d9f-{target:05}\",queue=\"q{target}-{index}\",tier=\"{}\",zone=\"{}\"",
                target / 256,
                target % 256,
                index % 4,
                ZONES[target % 3]
            );
            self.line(&name, &labels, family * 100 + 20 + index, 0, index % 2 == 0, limit);
        }
    }

    fn histogram(&mut self, target: usize, family: usize, limit: usize) {
        let name = format!("rpc_{family:02}_duration_seconds");
        self.head(&name, "Time to answer a call.", "histogram", limit);
        let labels = format!(
            "grpc_service=\"orders{target}\",grpc_type=\"unary\",pod=\"cart-5d9f-{target:05}\",shard=\"{}\",zone=\"{}\"",
            family % 8,
            ZONES[target % 3]
        );
        let group = family * 100 + 50;
        for (index, bound) in BOUNDS.iter().enumerate() {
            let with_bound = format!("{labels},le=\"{bound}\"");
            self.line(&format!("{name}_bucket"), &with_bound, group, index * 40, false, limit);
        }
        self.line(&format!("{name}_sum"), &labels, group, 0, true, limit);
        self.line(&format!("{name}_count"), &labels, group, (BOUNDS.len() - 1) * 40, false, limit);
    }

    fn head(&mut self, name: &str, help: &str, kind: &str, limit: usize) {
        if self.values.len() < limit {
            self.text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
    }

    fn line(&mut self, name: &str, labels: &str, group: usize, offset: usize, decimal: bool, limit: usize) {
        if self.values.len() < limit {
            self.text.push_str(&format!("{name}{{{labels}}} "));
            let place = Place { at: self.text.len(), group: group as u64, offset: offset as u64, decimal };
            self.values.push(place);
            self.text.push('\n');
        }
    }
}

/// The number of the scrape that read `value`; nothing for a value that no page shows (NaN, infinite, negative).
pub fn sequence_of(value: f64) -> Option<u64> {
    (value.is_finite() && value >= STEP as f64).then(|| (value / STEP as f64) as u64)
}

/// A number that looks random and is the same for the same arguments (the finaliser of SplitMix64).
fn mix(group: u64, sequence: u64) -> u64 {
    let mut z = (group << 32 | sequence).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn lines(page: &Page, sequence: u64) -> Vec<(String, f64)> {
        let mut bytes = Vec::new();
        page.render(sequence, &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').unwrap();
                (series.to_owned(), value.parse().unwrap())
            })
            .collect()
    }

    #[test]
    fn a_page_has_the_series_asked_for_and_every_value_names_its_scrape() {
        for series in [1, 49, 50, 51, 1000] {
            let page = Page::new(3, series);
            assert_eq!(page.series(), series);
            for sequence in [1, 2, 1_000_000] {
                let lines = lines(&page, sequence);
                assert_eq!(lines.len(), series);
                assert!(lines.iter().all(|(_, value)| sequence_of(*value) == Some(sequence)));
            }
        }
        assert_eq!([f64::NAN, f64::INFINITY, -1.0, 3.0].map(sequence_of), [None; 4]);
    }

    #[test]
    fn series_are_distinct_in_and_between_targets_and_values_move() {
        let (one, other) = (Page::new(1, 1000), Page::new(2, 1000));
        let names: BTreeSet<_> =
            lines(&one, 1).into_iter().chain(lines(&other, 1)).map(|(name, _)| name).collect();
        assert_eq!(names.len(), 2000);
        let moves: Vec<_> = lines(&one, 1)
            .iter()
            .zip(lines(&one, 2))
            .map(|((_, before), (_, after))| after - before)
            .collect();
        assert!(moves.iter().all(|step| *step > 0.0));
        assert!(moves.iter().map(|step| *step as i64).collect::<BTreeSet<_>>().len() > 100);
    }

    #[test]
    fn buckets_are_cumulative_and_lines_are_of_a_realistic_size() {
        let page = Page::new(7, 1000);
        let lines = lines(&page, 9);
        let buckets: Vec<_> =
            lines.iter().filter(|(name, _)| name.starts_with("rpc_03_duration_seconds_bucket")).collect();
        assert_eq!(buckets.len(), BOUNDS.len());
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        let bytes: usize = lines.iter().map(|(name, value)| name.len() + value.to_string().len() + 2).sum();
        assert!((90..150).contains(&(bytes / lines.len())), "{} bytes a line", bytes / lines.len());
    }
}
