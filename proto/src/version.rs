//! Compatibility of releases.

/// The release that this binary was built from.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Checks that both sides of a stream agree on major and minor version.
///
/// The error names both versions and the remedy; `peer` is the name of the other side, such as "executor".
pub fn check(peer: &str, theirs: &str) -> Result<(), String> {
    match (line(theirs), line(VERSION)) {
        (Some(a), Some(b)) if a == b => Ok(()),
        _ => Err(format!(
            "{peer} runs windlass {theirs} and this node runs windlass {VERSION}: major and minor version must agree, \
             install the same release on both"
        )),
    }
}

/// Major and minor version.
fn line(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_releases_of_one_line_agree_and_others_do_not() {
        let (major, minor) = line(VERSION).unwrap();
        assert_eq!(check("executor", VERSION), Ok(()));
        assert_eq!(check("executor", &format!("{major}.{minor}.99-rc1")), Ok(()));
        let error = check("executor", &format!("{major}.{}.0", minor + 1)).unwrap_err();
        assert!(error.contains(VERSION) && error.contains(&format!("{major}.{}.0", minor + 1)), "{error}");
        assert!(check("executor", "").is_err());
    }
}
