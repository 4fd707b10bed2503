/// The known word that `word` is most likely meant to be, if one is near enough: a third of its letters at most
/// inserted, removed, changed or swapped with their neighbour.
pub(super) fn closest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let word = word.to_ascii_lowercase();
    // A key that long is no slip of the pen, and the distance takes its square.
    if word.len() > 100 {
        return None;
    }
    let near = |candidate: &&str| {
        let candidate = candidate.to_ascii_lowercase();
        let letters = distance(&word, &candidate);
        // The beginning of a word is nearer to it than as many other letters.
        if word.len() > 3 && candidate.starts_with(&word) { letters.div_ceil(2) } else { letters }
    };
    known
        .into_iter()
        .map(|candidate| (near(&candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).clamp(1, 4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Damerau-Levenshtein, restricted to swaps of neighbours ("optimal string alignment").
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let change = last[j] + usize::from(a != b);
            let mut best = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["scrape_interval", "scrape_timeout", "job_name", "regex"];
        for (word, expected) in [
            ("scrape_intervall", Some("scrape_interval")),
            ("scrape_itnerval", Some("scrape_interval")),
            ("Job_Name", Some("job_name")),
            ("jobname", Some("job_name")),
            ("regexp", Some("regex")),
            ("scrape", Some("scrape_timeout")),
            ("rexeg", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known).as_deref(), expected, "{word:?}");
        }
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
