//! The name that a user probably meant.

/// Returns the candidate most similar to `name`, if any is similar at all.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let limit = (name.chars().count() / 3).max(1) + 1;
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let names = ["memory", "slots", "rack"];
        assert_eq!(nearest("memroy", names), Some("memory"));
        assert_eq!(nearest("Slot", names), Some("slots"));
        assert_eq!(nearest("listen", names), None);
    }
}
