//! Which releases may talk to each other.

/// The release that this binary was built from.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Both sides of a stream must agree on major and minor.
///
/// The error names both versions and says what to do; `peer` is what the other side calls itself, such as "executor".
pub fn check(peer: &str, theirs: &str) -> Result<(), String> {
    match (line(theirs), line(VERSION)) {
        (Some(a), Some(b)) if a == b => Ok(()),
        _ => Err(format!(
            "{peer} runs windlass {theirs} and this node runs windlass {VERSION}: major and minor version must agree, \
             install the same release on both"
        )),
    }
}

/// Major and minor.
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
