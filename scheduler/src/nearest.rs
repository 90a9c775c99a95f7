//! Finds the known name nearest to a mistyped one.

/// Returns the name of `known` that `wanted` most likely meant, or `None` if none is close. Case does not count. Ties go to the first
/// in the alphabet.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let limit = (wanted.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (distance(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Counts the insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substitution = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substitution.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_recognised() {
        let tables = ["airlines", "airports", "flights", "planes", "weather"];
        assert_eq!(nearest("fligths", tables), Some("flights"));
        assert_eq!(nearest("airport", tables), Some("airports"));
        assert_eq!(nearest("PLANES", tables), Some("planes"));
        assert_eq!(nearest("wether", tables), Some("weather"));
    }

    #[test]
    fn what_is_not_close_is_not_suggested() {
        assert_eq!(nearest("customers", ["flights", "planes"]), None);
        assert_eq!(nearest("a", ["flights"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
