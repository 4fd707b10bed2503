//! All that a page says, to hold one way of reading it against another.

use promferry_exposition::{Event, Exemplars, LabelBuffer, LabelSpans, ParseError, Parser, SplitLabels};

/// A text for each event, and at the end where the page was refused.
pub(crate) fn told(mut parser: Parser<'_>) -> Vec<String> {
    let mut told = Vec::new();
    if let Err(error) = tell(&mut parser, &mut told) {
        // Within a line one way may stop sooner than the other.
        told.push(match error.line() {
            Some(line) => format!("refused on line {line}"),
            None => format!("refused: {error}"),
        });
    }
    told
}

fn tell(parser: &mut Parser<'_>, told: &mut Vec<String>) -> Result<(), ParseError> {
    let (mut buffer, mut spans) = (LabelBuffer::new(), LabelSpans::new());
    while let Some(event) = parser.next()? {
        told.push(match event {
            Event::Series(series) => {
                let copied = series.labels(&mut buffer).map(|()| &buffer);
                let labels = labels(copied, series.split(&mut spans))?;
                let (times, key) = ((series.timestamp(), series.start()), series.key(7));
                let (bytes, value) = (series.series_bytes(), series.value().to_bits());
                let bytes = bytes.map(String::from_utf8_lossy);
                format!("{bytes:?} {value:x} {times:?} {key:?} {labels} {}", exemplars(series.exemplars()))
            }
            Event::Histogram(event) => {
                let copied = event.labels(&mut buffer).map(|()| &buffer);
                let labels = labels(copied, event.split(&mut spans))?;
                let (times, key) = ((event.timestamp(), event.start()), event.key(7));
                let histogram = event.histogram();
                format!("{histogram:?} {times:?} {key:?} {labels} {}", exemplars(event.exemplars()))
            }
            event => format!("{event:?}"),
        });
    }
    Ok(())
}

/// The labels, which are the same copied and split.
fn labels(
    copied: Result<&LabelBuffer, ParseError>,
    split: Result<SplitLabels<'_>, ParseError>,
) -> Result<String, ParseError> {
    match (copied, split) {
        (Ok(copied), Ok(split)) => {
            // An empty name is none.
            let is_there = |label: &(&str, &str)| *label != ("__name__", "");
            let mut copied: Vec<_> = copied.iter().filter(is_there).collect();
            // A name in quotes may stand behind labels.
            if let Some(name) = copied.iter().position(|(name, _)| *name == "__name__") {
                copied[..=name].rotate_right(1);
            }
            assert_eq!(copied, split.iter().filter(is_there).collect::<Vec<_>>());
            Ok(format!("{split:?}"))
        }
        (Err(error), Err(same)) => {
            assert_eq!(error, same);
            Err(error)
        }
        (copied, split) => panic!("labels gives {copied:?}, split {split:?}"),
    }
}

fn exemplars(mut exemplars: Exemplars<'_>) -> String {
    let (mut told, mut labels) = (String::new(), LabelBuffer::new());
    while let Some(exemplar) = exemplars.next(&mut labels) {
        told += &format!("{exemplar:?} {labels:?} ");
    }
    told
}
