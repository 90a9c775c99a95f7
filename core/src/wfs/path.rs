//! Absolute paths of files and folders.

use super::FsError;
use std::fmt;

/// `/` or `/name/name`: names are any text without `/` and control characters, and neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FsPath(String);

/// Bytes in a name, as file systems have it.
const NAME_BYTES: usize = 255;
/// Bytes in a path.
const PATH_BYTES: usize = 8_000;

impl FsPath {
    pub fn root() -> FsPath {
        FsPath("/".into())
    }

    /// Slashes at the end and several in a row count as one; a missing one at the beginning is added.
    ///
    /// # Errors
    /// `FsError::InvalidPath` says what is wrong with which name.
    pub fn parse(text: &str) -> Result<FsPath, FsError> {
        let invalid = |reason: String| FsError::InvalidPath { path: text.chars().take(200).collect(), reason };
        let mut path = String::with_capacity(text.len() + 1);
        for name in text.split('/').filter(|name| !name.is_empty()) {
            if name == "." || name == ".." {
                return Err(invalid(format!("a path has no \"{name}\"")));
            }
            if name.len() > NAME_BYTES {
                return Err(invalid(format!("a name has at most {NAME_BYTES} bytes, this one {}", name.len())));
            }
            if let Some(control) = name.chars().find(|c| c.is_control()) {
                return Err(invalid(format!("a name has no control characters such as {control:?}")));
            }
            path.push('/');
            path.push_str(name);
        }
        match path.len() {
            0 => Ok(FsPath::root()),
            length if length > PATH_BYTES => {
                Err(invalid(format!("a path has at most {PATH_BYTES} bytes, this one {length}")))
            }
            _ => Ok(FsPath(path)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// The last name; `None` for the root.
    pub fn name(&self) -> Option<&str> {
        self.names().next_back()
    }

    /// `None` for the root.
    pub fn parent(&self) -> Option<FsPath> {
        let (parent, name) = self.0.rsplit_once('/')?;
        match (parent, name) {
            (_, "") => None,
            ("", _) => Some(FsPath::root()),
            (parent, _) => Some(FsPath(parent.into())),
        }
    }

    /// `name` in this folder. The name is one of the tree's, so it is valid.
    pub(super) fn join(&self, name: &str) -> FsPath {
        match self.is_root() {
            true => FsPath(format!("/{name}")),
            false => FsPath(format!("{}/{name}", self.0)),
        }
    }

    /// Whether it is `folder` or lies in it.
    pub fn is_in(&self, folder: &FsPath) -> bool {
        let rest = self.0.strip_prefix(folder.0.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FsPath {
        FsPath::parse(text).unwrap()
    }

    #[test]
    fn slashes_are_what_people_mean_by_them() {
        assert_eq!(path("a//b/").as_str(), "/a/b");
        assert_eq!(path("").as_str(), "/");
        assert_eq!(path("/ü n/ 名").names().collect::<Vec<_>>(), ["ü n", " 名"]);
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a").parent(), Some(FsPath::root()));
        assert_eq!(FsPath::root().parent(), None);
        assert_eq!(FsPath::root().join("a").join("b"), path("/a/b"));
    }

    #[test]
    fn a_folder_holds_its_own_and_not_its_neighbour_s() {
        assert!(path("/a/b").is_in(&path("/a")) && path("/a").is_in(&path("/a")) && path("/a").is_in(&FsPath::root()));
        assert!(!path("/ab").is_in(&path("/a")) && !path("/").is_in(&path("/a")));
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for bad in ["/a/../b", "/./a", "/a\nb", "/a\0", &"x".repeat(256), &"/abc".repeat(2_001)] {
            assert!(FsPath::parse(bad).is_err(), "{bad:?}");
        }
        assert!(FsPath::parse(&"x".repeat(255)).is_ok());
    }
}
