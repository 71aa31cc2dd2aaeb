//! Suggest the known name nearest to a mistyped one.

use strsim::osa_distance;

/// Returns the name in `known` with the smallest edit distance, if it is near enough.
///
/// The limit is a third of the length in edits (insert, delete, replace, swap of neighbours), at least one and at
/// most three: beyond that, a suggestion would be a guess.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).clamp(1, 3);
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (osa_distance(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KNOWN: [&str; 4] = ["node_id", "mtu", "channel_capacity", "channel_backpressure"];

    #[test]
    fn a_mistyped_name_finds_the_nearest_one() {
        assert_eq!(nearest("chanel_capacity", KNOWN), Some("channel_capacity"));
        assert_eq!(nearest("noed_id", KNOWN), Some("node_id"));
        assert_eq!(nearest("MTU", KNOWN), Some("mtu"));
    }

    #[test]
    fn a_different_name_finds_none() {
        assert_eq!(nearest("scheduler_type", KNOWN), None);
        assert_eq!(nearest("x", KNOWN), None);
    }
}
