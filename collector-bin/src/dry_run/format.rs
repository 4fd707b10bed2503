//! Numbers and addresses as the report writes them.

use crate::counts::{Grouped, plural};

/// `1,234,567`.
pub(super) fn count(number: u64) -> String {
    Grouped(number).to_string()
}

/// One decimal below ten, none from there on.
pub(super) fn rate(number: f64) -> String {
    if number < 9.95 { format!("{number:.1}") } else { count(number.round() as u64) }
}

/// `312 B`, `31 KiB`, `1.4 GiB`.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", rate(value), UNITS[unit])
}

/// A target's URL without its query, which may hold a token.
pub(super) fn url(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// `1 target`, `2 targets`.
pub(super) fn targets(number: u64) -> String {
    plural(number, "target", "targets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let table = [
            (count(0), "0"),
            (count(999), "999"),
            (count(1_234_567), "1,234,567"),
            (rate(0.26), "0.3"),
            (rate(9.96), "10"),
            (rate(1203.7), "1,204"),
            (bytes(1023), "1023 B"),
            (bytes(31 * 1024), "31 KiB"),
            (bytes(1_500_000), "1.4 MiB"),
            (bytes(41 << 30), "41 GiB"),
            (targets(1), "1 target"),
            (url("http://a:1/probe?token=x").to_owned(), "http://a:1/probe"),
        ];
        for (written, expected) in table {
            assert_eq!(written, expected);
        }
    }
}
