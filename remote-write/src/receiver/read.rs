use promferry_model::{
    BucketCounts, Exemplar, Histogram, Labels, METRIC_NAME, Metadata, MetricType, ResetHint, Sample, Span,
    Timestamp,
};

use super::{HistogramSample, ReadError, TimeSeries, WriteRequest};
use crate::Protocol;
use crate::wire::v1::histogram::{Count, ResetHint as WireResetHint, ZeroCount};
use crate::wire::{v1, v2};

/// A 1.0 message in the model.
pub(super) fn v1(message: v1::WriteRequest) -> Result<WriteRequest, ReadError> {
    let series = message.timeseries.into_iter().enumerate().map(|(at, series)| {
        let labels = series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
        v1_series(labels.collect(), &series).map_err(|problem| in_series(at, problem))
    });
    let series = series.collect::<Result<_, _>>()?;
    let metadata = message.metadata.into_iter().map(|known| Metadata {
        metric_type: metric_type(known.r#type),
        family: known.metric_family_name.into(),
        unit: known.unit.into(),
        help: known.help.into(),
    });
    Ok(WriteRequest { protocol: Protocol::V1, series, metadata: metadata.collect() })
}

/// A 2.0 message in the model.
pub(super) fn v2(message: v2::Request) -> Result<WriteRequest, ReadError> {
    // An empty request needs no symbols.
    if message.symbols.first().is_some_and(|first| !first.is_empty()) {
        return Err(ReadError::FirstSymbol);
    }
    let series = message.timeseries.iter().enumerate();
    let series =
        series.map(|(at, series)| v2_series(&message, series).map_err(|problem| in_series(at, problem)));
    Ok(WriteRequest {
        protocol: Protocol::V2,
        series: series.collect::<Result<_, _>>()?,
        metadata: Vec::new(),
    })
}

fn in_series(at: usize, problem: String) -> ReadError {
    ReadError::Series { number: at + 1, problem }
}

fn v1_series(labels: Vec<(&str, &str)>, series: &v1::TimeSeries) -> Result<TimeSeries, String> {
    let exemplars = series.exemplars.iter().map(|exemplar| {
        let labels = exemplar.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
        exemplar_of(labels.collect(), exemplar.value, exemplar.timestamp)
    });
    let histograms = series.histograms.iter().map(|histogram| histogram_sample(histogram, 0));
    Ok(TimeSeries {
        labels: checked(&labels)?,
        samples: series
            .samples
            .iter()
            .map(|sample| Sample::new(Timestamp::from_millis(sample.timestamp), sample.value))
            .collect(),
        histograms: histograms.collect::<Result<_, _>>()?,
        exemplars: exemplars.collect(),
        metadata: None,
    })
}

fn v2_series(message: &v2::Request, series: &v2::TimeSeries) -> Result<TimeSeries, String> {
    let labels_of = |refs: &[u32]| {
        message.labels(refs).ok_or_else(|| "refers to symbols that are not there, or half a label".to_owned())
    };
    let symbol = |reference: u32| {
        message.symbol(reference).ok_or_else(|| "refers to symbols that are not there".to_owned())
    };
    let labels = checked(&labels_of(&series.labels_refs)?)?;
    match (series.samples.is_empty(), series.histograms.is_empty()) {
        (true, true) => return Err(format!("{labels} has neither samples nor histograms")),
        (false, false) => return Err(format!("{labels} has both samples and histograms")),
        _ => {}
    }
    let samples = series.samples.iter().map(|sample| Sample {
        timestamp: Timestamp::from_millis(sample.timestamp),
        value: sample.value,
        start: start(sample.start_timestamp),
    });
    let histograms = series
        .histograms
        .iter()
        .map(|histogram| histogram_sample(&without_start(histogram), histogram.start_timestamp));
    let exemplars = series.exemplars.iter().map(|exemplar| {
        Ok::<_, String>(exemplar_of(labels_of(&exemplar.labels_refs)?, exemplar.value, exemplar.timestamp))
    });
    let metadata = series.metadata.map(|known| {
        Ok::<_, String>(Metadata {
            family: labels.get(METRIC_NAME).into(),
            metric_type: metric_type(known.r#type),
            unit: symbol(known.unit_ref)?.into(),
            help: symbol(known.help_ref)?.into(),
        })
    });
    Ok(TimeSeries {
        samples: samples.collect(),
        histograms: histograms.collect::<Result<_, _>>()?,
        exemplars: exemplars.collect::<Result<_, _>>()?,
        metadata: metadata.transpose()?,
        labels,
    })
}

/// The labels, if they are as both specifications want them.
fn checked(labels: &[(&str, &str)]) -> Result<Labels, String> {
    let shown = || Labels::from_pairs(labels.iter().copied());
    if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        let problem =
            if pair[0].0 == pair[1].0 { "has a label twice" } else { "has labels that are not sorted" };
        return Err(format!("{} {problem}: {:?}", shown(), pair[1].0));
    }
    if let Some((name, _)) = labels.iter().find(|(name, value)| name.is_empty() || value.is_empty()) {
        return Err(format!("{} has an empty label name or value: {name:?}", shown()));
    }
    Ok(shown())
}

fn exemplar_of(labels: Vec<(&str, &str)>, value: f64, timestamp: i64) -> Exemplar {
    Exemplar { labels: Labels::from_pairs(labels), value, timestamp: Timestamp::from_millis(timestamp) }
}

/// 0 means that none is known.
fn start(millis: i64) -> Option<Timestamp> {
    (millis != 0).then(|| Timestamp::from_millis(millis))
}

fn histogram_sample(wire: &v1::Histogram, start_millis: i64) -> Result<HistogramSample, String> {
    let spans = |spans: &[v1::BucketSpan]| {
        spans.iter().map(|span| Span { offset: span.offset, length: span.length }).collect()
    };
    let counts = match wire.count {
        Some(Count::CountFloat(count)) => BucketCounts::Float {
            count,
            zero_count: match wire.zero_count {
                Some(ZeroCount::ZeroCountFloat(zero_count)) => zero_count,
                Some(ZeroCount::ZeroCountInt(_)) => return Err("mixes integer and float counts".to_owned()),
                None => 0.0,
            },
            positive: wire.positive_counts.clone(),
            negative: wire.negative_counts.clone(),
        },
        Some(Count::CountInt(_)) | None => BucketCounts::Integer {
            count: if let Some(Count::CountInt(count)) = wire.count { count } else { 0 },
            zero_count: match wire.zero_count {
                Some(ZeroCount::ZeroCountInt(zero_count)) => zero_count,
                Some(ZeroCount::ZeroCountFloat(_)) => return Err("mixes integer and float counts".to_owned()),
                None => 0,
            },
            positive: wire.positive_deltas.clone(),
            negative: wire.negative_deltas.clone(),
        },
    };
    let histogram = Histogram {
        schema: wire.schema,
        zero_threshold: wire.zero_threshold,
        sum: wire.sum,
        counts,
        positive_spans: spans(&wire.positive_spans),
        negative_spans: spans(&wire.negative_spans),
        custom_values: wire.custom_values.clone(),
        reset_hint: match wire.reset_hint() {
            WireResetHint::Unknown => ResetHint::Unknown,
            WireResetHint::Yes => ResetHint::Yes,
            WireResetHint::No => ResetHint::No,
            WireResetHint::Gauge => ResetHint::Gauge,
        },
    };
    histogram.check_spans().map_err(|error| format!("has a histogram that contradicts itself: {error}"))?;
    let timestamp = Timestamp::from_millis(wire.timestamp);
    Ok(HistogramSample { timestamp, start: start(start_millis), histogram })
}

fn without_start(histogram: &v2::Histogram) -> v1::Histogram {
    v1::Histogram {
        count: histogram.count,
        sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count: histogram.zero_count,
        negative_spans: histogram.negative_spans.clone(),
        negative_deltas: histogram.negative_deltas.clone(),
        negative_counts: histogram.negative_counts.clone(),
        positive_spans: histogram.positive_spans.clone(),
        positive_deltas: histogram.positive_deltas.clone(),
        positive_counts: histogram.positive_counts.clone(),
        reset_hint: histogram.reset_hint,
        timestamp: histogram.timestamp,
        custom_values: histogram.custom_values.clone(),
    }
}

fn metric_type(number: i32) -> MetricType {
    match v1::MetricType::try_from(number) {
        Ok(v1::MetricType::Counter) => MetricType::Counter,
        Ok(v1::MetricType::Gauge) => MetricType::Gauge,
        Ok(v1::MetricType::Histogram) => MetricType::Histogram,
        Ok(v1::MetricType::Gaugehistogram) => MetricType::GaugeHistogram,
        Ok(v1::MetricType::Summary) => MetricType::Summary,
        Ok(v1::MetricType::Info) => MetricType::Info,
        Ok(v1::MetricType::Stateset) => MetricType::StateSet,
        Ok(v1::MetricType::Unknown) | Err(_) => MetricType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> v2::Sample {
        v2::Sample { value: 1.0, timestamp: 5, start_timestamp: 3 }
    }

    #[test]
    fn rules_of_the_specifications_are_kept() {
        let symbols = ["", "a", "b", "c"].map(String::from).to_vec();
        let series =
            v2::TimeSeries { labels_refs: vec![1, 2, 2, 3], samples: vec![sample()], ..Default::default() };
        let request =
            |series: v2::TimeSeries| v2::Request { symbols: symbols.clone(), timeseries: vec![series] };
        let good = v2(request(series.clone())).unwrap();
        assert_eq!(good.series[0].labels, Labels::from_pairs([("a", "b"), ("b", "c")]));
        assert_eq!(good.series[0].samples[0].start, Some(Timestamp::from_millis(3)));

        let histogram = v2::Histogram {
            positive_spans: vec![v1::BucketSpan { offset: 0, length: 2 }],
            positive_deltas: vec![1],
            ..Default::default()
        };
        for (broken, problem) in [
            (v2::TimeSeries { labels_refs: vec![1, 9], ..series.clone() }, "not there"),
            (v2::TimeSeries { labels_refs: vec![1], ..series.clone() }, "half a label"),
            (v2::TimeSeries { labels_refs: vec![2, 3, 1, 2], ..series.clone() }, "not sorted: \"a\""),
            (v2::TimeSeries { labels_refs: vec![1, 2, 1, 3], ..series.clone() }, "twice"),
            (v2::TimeSeries { labels_refs: vec![1, 0], ..series.clone() }, "empty label"),
            (v2::TimeSeries { samples: vec![], ..series.clone() }, "neither"),
            (v2::TimeSeries { histograms: vec![histogram.clone()], ..series.clone() }, "both"),
            (v2::TimeSeries { samples: vec![], histograms: vec![histogram], ..series }, "contradicts itself"),
        ] {
            let error = v2(request(broken)).unwrap_err();
            assert_eq!(error.status(), 400);
            let text = error.to_string();
            assert!(text.starts_with("series number 1 of the request: ") && text.contains(problem), "{text}");
        }
        let first = v2::Request { symbols: vec!["a".into()], timeseries: Vec::new() };
        assert!(matches!(v2(first), Err(ReadError::FirstSymbol)));
    }
}
