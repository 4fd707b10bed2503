use std::time::Duration;

/// A duration as Go's `time.ParseDuration` reads it, not negative: `1m30s`, `1.5h`, `300ms`, `0`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration (write it like 30s, 500ms or 1m30s)");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, behind) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let length = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(length);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        seconds += number * unit;
        rest = behind;
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, expected_ms) in [
            ("0", Some(0)),
            ("5s", Some(5_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            (".5s", Some(500)),
            ("300ms", Some(300)),
            ("1500us", Some(1)),
            ("+1s", Some(1_000)),
            ("5", None),
            ("", None),
            ("-1s", None),
            ("1d", None),
            ("s", None),
            (".s", None),
            ("1..5s", None),
            ("1 s", None),
            ("99999999999999999999999h", None),
        ] {
            assert_eq!(parse(text).ok().map(|duration| duration.as_millis()), expected_ms, "{text:?}");
        }
    }
}
