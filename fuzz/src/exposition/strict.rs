use promferry_exposition::{Event, Format, LabelBuffer, ParseError, ParseOptions, Parser, validate};

/// A page in OpenMetrics, as its specification has it: what that accepts Prometheus accepts, with as many samples, but for
/// NUL, which only the specification has in every text.
pub fn openmetrics_strict(page: &[u8]) {
    match validate(page) {
        Ok(_) if page.contains(&0) => {}
        Ok(validated) => match samples(page) {
            Ok(samples) => assert_eq!(samples, validated.samples),
            Err(error) => panic!("lenient mode refuses what strict mode accepts: {error}"),
        },
        Err(refused) => {
            let error = &refused.error;
            assert!(error.offset() <= page.len(), "{error:?} is outside of the page");
            assert!(error.line().is_some_and(|line| line >= 1), "{error:?}");
            assert!(!refused.to_string().is_empty() && !refused.rule.text().is_empty());
            let _ = error.excerpt();
        }
    }
}

fn samples(page: &[u8]) -> Result<usize, ParseError> {
    let mut parser = Parser::new(Format::OpenMetrics, page, ParseOptions::default());
    let (mut labels, mut exemplar_labels) = (LabelBuffer::new(), LabelBuffer::new());
    let mut samples = 0;
    while let Some(event) = parser.next()? {
        if let Event::Series(series) = event {
            series.labels(&mut labels)?;
            let mut exemplars = series.exemplars();
            while exemplars.next(&mut exemplar_labels).is_some() {}
            samples += 1;
        }
    }
    Ok(samples)
}
