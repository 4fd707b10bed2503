use std::collections::HashMap;

use promferry_exposition::{Event, Format, LabelBuffer, ParseOptions, Parser, SeriesKey};

use super::pages::option_sets;
use crate::input::take_byte;

const FORMATS: [Format; 4] = [Format::Text, Format::OpenMetrics, Format::OpenMetrics2, Format::Protobuf];

type Known = HashMap<SeriesKey, Vec<(String, String)>>;
/// Labels, value bits and time of each sample; `None` for a refused page.
type Samples = Option<Vec<(Vec<(String, String)>, u64, Option<i64>)>>;

/// A scraper that asks for labels only of keys that pages before have taught it judges a page as one that always asks.
/// The input: a byte that chooses format and options, then a page, a byte 0xFF and the next page; without that byte,
/// the same page again.
pub fn known_page(mut data: &[u8]) {
    let chosen = usize::from(take_byte(&mut data));
    let format = FORMATS[chosen % FORMATS.len()];
    let sets = option_sets();
    let options = sets[chosen / FORMATS.len() % sets.len()];
    let (first, second) = match data.iter().position(|&byte| byte == 0xff) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, data),
    };
    let mut known = Known::new();
    for page in [first, second, first] {
        assert_eq!(
            walk(format, options, page, Some(&mut known)),
            walk(format, options, page, None),
            "{format:?}"
        );
    }
}

/// Walks a page, asking for the labels of unknown keys only; with nobody known before, of every series.
fn walk(format: Format, options: ParseOptions, page: &[u8], mut known: Option<&mut Known>) -> Samples {
    let mut parser = Parser::new(format, page, options);
    let mut samples = Vec::new();
    let mut buffer = LabelBuffer::new();
    while let Some(event) = parser.next().ok()? {
        let Event::Series(series) = event else { continue };
        let key = series.key(7);
        let labels = match known.as_ref().and_then(|known| known.get(&key)) {
            Some(labels) => labels.clone(),
            None => {
                series.labels(&mut buffer).ok()?;
                let labels: Vec<_> =
                    buffer.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                if let Some(known) = &mut known {
                    known.insert(key, labels.clone());
                }
                labels
            }
        };
        samples.push((labels, series.value().to_bits(), series.timestamp().map(|time| time.as_millis())));
    }
    Some(samples)
}
