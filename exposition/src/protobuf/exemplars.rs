use promferry_model::Timestamp;

use super::metric::{self, Within};
use crate::LabelBuffer;
use crate::exemplars::ExemplarSample;
use crate::wire::Message;

/// Where the exemplars of one sample lie. Each is reached from the one before, so that a list of them is walked
/// in the time of its length. A message holds one exemplar, which may be written in several pieces; a native
/// histogram's list holds several of one piece each.
#[derive(Clone)]
pub(crate) enum ProtobufExemplars<'a> {
    /// The sample has none, or no more.
    None,
    /// A native histogram's own.
    Native(Within<'a>),
    /// Those of the classic buckets of a native histogram.
    Buckets(Within<'a>),
    /// That of one classic bucket.
    Bucket(Message<'a>),
    /// The pieces of a counter's.
    Counter(Within<'a>),
}

impl ProtobufExemplars<'_> {
    /// The next exemplar, its labels put into `buffer`.
    pub(crate) fn next(&mut self, buffer: &mut LabelBuffer) -> Option<ExemplarSample> {
        // A native histogram's exemplar without a time is passed over, as Prometheus does.
        match self {
            Self::None => None,
            Self::Native(list) => {
                list.find_map(|piece| read(std::iter::once(piece), buffer).filter(|e| e.timestamp.is_some()))
            }
            Self::Buckets(buckets) => {
                buckets.find_map(|bucket| read(pieces(bucket), buffer).filter(|e| e.timestamp.is_some()))
            }
            Self::Bucket(bucket) => {
                let exemplar = read(pieces(*bucket), buffer);
                *self = Self::None;
                exemplar
            }
            Self::Counter(counter) => {
                let exemplar = read(&mut *counter, buffer);
                *self = Self::None;
                exemplar
            }
        }
    }
}

/// The pieces of a bucket's exemplar.
fn pieces(mut bucket: Message<'_>) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || metric::next_of(&mut bucket, metric::BUCKET_EXEMPLAR, Message::skip))
}

fn read<'a>(pieces: impl Iterator<Item = Message<'a>>, buffer: &mut LabelBuffer) -> Option<ExemplarSample> {
    buffer.clear();
    let mut exemplar = None;
    for piece in pieces {
        let merged = exemplar.get_or_insert_with(metric::Exemplar::default);
        merged
            .read(piece, &mut |name, value| {
                buffer.push(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value));
            })
            .ok()?;
    }
    let exemplar: metric::Exemplar = exemplar?;
    Some(ExemplarSample {
        value: exemplar.value,
        timestamp: exemplar.time.map(|time| Timestamp::from_millis(time.as_millis())),
    })
}

#[cfg(test)]
mod tests {
    use crate::wire::fields_read;
    use crate::{Event, Format, LabelBuffer, ParseOptions, Parser};

    /// A length-delimited field.
    fn message(number: u64, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for mut varint in [number << 3 | 2, content.len() as u64] {
            while varint >= 0x80 {
                bytes.push(varint as u8 | 0x80);
                varint >>= 7;
            }
            bytes.push(varint as u8);
        }
        bytes.extend_from_slice(content);
        bytes
    }

    /// A page with one metric of one family.
    fn page(histogram: &[u8]) -> Vec<u8> {
        let family = [message(1, b"a"), vec![3 << 3, 4], message(4, &message(7, histogram))].concat();
        // Behind the tag of a field is what prefixes a family.
        message(1, &family)[1..].to_vec()
    }

    /// How many exemplars are given, and how many fields were looked at for each byte of the page.
    fn exemplars(page: &[u8], options: ParseOptions) -> (usize, f64) {
        let before = fields_read();
        let mut parser = Parser::new(Format::Protobuf, page, options);
        let (mut labels, mut count) = (LabelBuffer::new(), 0);
        while let Ok(Some(event)) = parser.next() {
            let mut exemplars = match event {
                Event::Series(series) => series.exemplars(),
                Event::Histogram(histogram) => histogram.exemplars(),
                _ => continue,
            };
            while exemplars.next(&mut labels).is_some() {
                count += 1;
            }
        }
        (count, (fields_read() - before) as f64 / page.len() as f64)
    }

    #[test]
    fn exemplars_of_many_buckets_take_time_linear_in_the_page() {
        let bucket = message(3, &message(3, &message(3, &[])));
        let page = page(&bucket.repeat(20_000));
        let (count, work) = exemplars(&page, ParseOptions::default());
        assert_eq!(count, 20_000);
        assert!(work < 8.0, "{work} fields a byte");
    }

    #[test]
    fn exemplars_of_a_native_histogram_take_time_linear_in_the_page() {
        let options = ParseOptions {
            native_histograms: true,
            always_classic_histograms: true,
            ..ParseOptions::default()
        };
        let span = message(12, &[]);
        let exemplar = message(16, &message(3, &[]));
        let timeless = message(16, &message(1, &message(1, b"a")));
        let bucket = message(3, &message(3, &message(3, &[])));
        for (list, expected) in [(exemplar, 20_000), (timeless, 0), (bucket, 40_000)] {
            let page = page(&[span.clone(), list.repeat(20_000)].concat());
            let (count, work) = exemplars(&page, options);
            assert_eq!(count, expected);
            assert!(work < 8.0, "{work} fields a byte");
        }
    }
}
