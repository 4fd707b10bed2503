//! What is refused, in words for the log.

use std::time::Duration;

use crate::Counts;

/// `3 samples and 1 histogram`.
pub(super) fn in_words(counts: Counts) -> String {
    let kinds =
        [(counts.samples, "sample"), (counts.histograms, "histogram"), (counts.exemplars, "exemplar")];
    let named = kinds.iter().filter(|(count, _)| *count > 0);
    let named: Vec<_> =
        named.map(|(count, kind)| format!("{count} {kind}{}", if *count == 1 { "" } else { "s" })).collect();
    named.join(" and ")
}

/// A series as it is printed, its long label values cut: whose it is often comes behind them.
pub(super) fn with_short_values(series: &str) -> String {
    const SHOWN_VALUE_CHARS: usize = 60;
    let (mut short, mut in_value, mut is_escaped, mut length) = (String::new(), false, false, 0_usize);
    for c in series.chars() {
        let is_quote = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        if is_quote {
            in_value = !in_value;
            length = 0;
        } else if in_value {
            length += 1;
        }
        match length {
            0..=SHOWN_VALUE_CHARS => short.push(c),
            length if length == SHOWN_VALUE_CHARS + 1 => short.push('…'),
            _ => {}
        }
    }
    short
}

/// `14 s`, `1 m 58 s`, `2 h 5 m`.
pub(super) fn in_minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} m"),
        (0, minutes, seconds) => format!("{minutes} m {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_is_told() {
        let counts = |samples, histograms, exemplars| Counts { samples, histograms, exemplars };
        assert_eq!(in_words(counts(1, 0, 0)), "1 sample");
        assert_eq!(in_words(counts(3, 1, 0)), "3 samples and 1 histogram");
        assert_eq!(in_words(counts(0, 0, 2)), "2 exemplars");
    }

    #[test]
    fn a_time_is_told_in_minutes() {
        let told = [14, 60, 118, 7500].map(|seconds| in_minutes(Duration::from_secs(seconds)));
        assert_eq!(told, ["14 s", "1 m", "1 m 58 s", "2 h 5 m"]);
    }

    #[test]
    fn long_values_are_cut_and_what_is_behind_them_is_seen() {
        let long = "b\\\"".repeat(1000);
        let short = with_short_values(&format!("orders{{basket=\"{long}\", job=\"orders\"}}"));
        assert!(short.starts_with("orders{basket=\"b") && short.ends_with("…\", job=\"orders\"}"), "{short}");
        assert!(short.chars().count() < 100, "{short}");
        let series = "up{instance=\"a:1\", job=\"x\"}";
        assert_eq!(with_short_values(series), series);
    }
}
