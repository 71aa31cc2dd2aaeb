//! The known name nearest to a mistyped one.

/// Returns the name in `known` that a slip of the keyboard most likely meant, if one is near enough.
///
/// Near enough is a third of the length in edits (insert, delete, replace, swap of neighbours), at least one
/// and at most three: with more, the suggestion would be a guess.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance, case folded. Three rows are enough because a swap looks back two.
fn edits(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (last[j] + usize::from(a != b))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KNOWN: [&str; 4] = ["node_id", "mtu", "channel_capacity", "channel_backpressure"];

    #[test]
    fn a_slip_finds_its_name() {
        assert_eq!(nearest("chanel_capacity", KNOWN), Some("channel_capacity"));
        assert_eq!(nearest("noed_id", KNOWN), Some("node_id"));
        assert_eq!(nearest("MTU", KNOWN), Some("mtu"));
    }

    #[test]
    fn a_different_word_finds_nothing() {
        assert_eq!(nearest("scheduler_type", KNOWN), None);
        assert_eq!(nearest("x", KNOWN), None);
    }
}
