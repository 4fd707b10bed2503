//! Durations on command lines.

use std::time::Duration;

/// Reads a duration as Prometheus writes it, of one unit: 500ms, 15s, 5m, 1h.
///
/// # Errors
///
/// What is wrong with it, in words for who typed it.
pub fn parse(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|character: char| character.is_ascii_digit());
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a number with ms, s, m or h, such as 15s".to_owned()),
    };
    let number: u64 = text[..text.len() - unit.len()]
        .parse()
        .map_err(|_| "the number is missing or too large".to_owned())?;
    Ok(Duration::from_millis(number * factor))
}
