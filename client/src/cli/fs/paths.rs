//! Paths as people write them: with or without wfs://, and with patterns for names.

use super::{Failure, Wfs, join, walk};
use windlass_core::wfs::FsPath;
use windlass_proto::v1;
use windlass_proto::v1::file_error::Kind;

/// An existing file or folder.
#[derive(Clone, Debug)]
pub struct Found {
    pub entry: v1::FileEntry,
}

impl Found {
    pub fn file(&self) -> Result<&v1::FileEntry, Failure> {
        match self.entry.file_bytes() {
            Some(_) => Ok(&self.entry),
            None => Err(Failure::Failed(format!("{} is a folder", self.entry.path))),
        }
    }
}

pub fn parse(text: &str) -> Result<FsPath, Failure> {
    let path = match text.split_once("://") {
        None => text,
        Some(("wfs", path)) if path.starts_with('/') || path.is_empty() => path,
        Some(("wfs", path)) => {
            return Err(Failure::Usage(format!("{text}: wfs:// names no host; write wfs:///{path}")));
        }
        Some((scheme, _)) => {
            return Err(Failure::Usage(format!("{text}: {scheme}:// is not wfs://, the files of the cluster")));
        }
    };
    FsPath::parse(path).map_err(|error| Failure::Usage(error.to_string()))
}

/// Expands a pattern, in the order of names, to at least one match. A name that equals the pattern takes precedence.
pub async fn expand(files: &Wfs, text: &str) -> Result<Vec<Found>, Failure> {
    let path = parse(text)?;
    let is_pattern = path.as_str().contains(['*', '?', '[', '{']);
    match files.stat(path.as_str()).await {
        Ok(entry) => return Ok(vec![Found { entry }]),
        Err(error) if is_pattern && matches!(error.kind(), Some(Kind::NotFound | Kind::NotFolder)) => {}
        Err(error) => return Err(error.into()),
    }
    let mut found = Vec::new();
    for alternative in alternatives(path.as_str()) {
        found.extend(matching(files, &alternative).await?);
    }
    match found.is_empty() {
        true => Err(Failure::Failed(format!("nothing matches {path}"))),
        false => Ok(found),
    }
}

async fn matching(files: &Wfs, pattern: &str) -> Result<Vec<Found>, Failure> {
    let names: Vec<&str> = pattern.split('/').filter(|name| !name.is_empty()).collect();
    let mut folders = vec!["/".to_owned()];
    let mut found = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let last = at + 1 == names.len();
        let mut next = Vec::new();
        if !name.contains(['*', '?', '[']) && !last {
            folders.iter_mut().for_each(|folder| *folder = join(folder, name));
            continue;
        }
        let pattern = glob::Pattern::new(name).map_err(|e| Failure::Usage(format!("{name} is not a pattern: {e}")))?;
        for folder in &folders {
            let entries = match walk(files, folder, false).await.map_err(Failure::from) {
                Err(Failure::Failed(_)) => continue,
                entries => entries?,
            };
            for entry in entries.into_iter().filter(|entry| pattern.matches(super::name_of(&entry.path))) {
                match last {
                    true => found.push(Found { entry }),
                    false if entry.folder().is_some() => next.push(entry.path),
                    false => {}
                }
            }
        }
        folders = next;
    }
    Ok(found)
}

/// Expands alternatives: `a{b,c}d` is `abd` and `acd`.
fn alternatives(pattern: &str) -> Vec<String> {
    let Some(open) = pattern.find('{') else { return vec![pattern.to_owned()] };
    let Some(close) = pattern[open..].find('}').map(|at| open + at) else { return vec![pattern.to_owned()] };
    let (before, after) = (&pattern[..open], &pattern[close + 1..]);
    let choices = pattern[open + 1..close].split(',');
    choices.flat_map(|choice| alternatives(&format!("{before}{choice}{after}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_a_scheme_or_none() {
        assert_eq!(parse("wfs:///a/b").unwrap().as_str(), "/a/b");
        assert_eq!(parse("a b").unwrap().as_str(), "/a b");
        assert_eq!(parse("wfs://").unwrap().as_str(), "/");
        assert!(parse("wfs://a/b").is_err() && parse("s3://a").is_err() && parse("/a/../b").is_err());
    }

    #[test]
    fn braces_are_alternatives() {
        assert_eq!(alternatives("/a/{b,c}*/{1,2}"), ["/a/b*/1", "/a/b*/2", "/a/c*/1", "/a/c*/2"]);
        assert_eq!(alternatives("/a{"), ["/a{"]);
    }
}
