//! Places that statements read and write: a file or a folder of an object store.
//!
//! Text from a user becomes a [`Place`] once, where it enters, and nothing works on the text of a path after that. What leaves this process, to DataFusion,
//! an executor or the metadata store, is [`Place::url`]; [`Place::from_url`] reads it back to the same place.
//!
//! | text | meaning |
//! | --- | --- |
//! | `/a/b`, `a/b` | a local path, the second one from the folder that the process runs in |
//! | `file:///a/b` | a local path |
//! | `wfs:///a/b` | a path among the files of the cluster |
//! | `s3://bucket/a/b` | a key of the bucket |
//! | `http://host/a%20b`, `https://…` | a URL |
//!
//! In all but the last form, names are taken literally: `#`, `?`, `%`, `[` and `*` are ordinary characters, as in Hadoop, DuckDB and the AWS command line. A
//! `/` at the end marks a folder. Local paths may have `.` and `..`, which are resolved in the text.

use crate::stores::{settings_of, with_settings, without_settings};
use datafusion::common::{DataFusionError, Result, plan_datafusion_err, plan_err};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::path::Path;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt::{self, Write};
use std::path::PathBuf;
use url::{Position, Url};

/// A file or a folder of an object store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    store: ObjectStoreUrl,
    /// The names of the folders and of the file, as the store spells them.
    path: Path,
    is_folder: bool,
}

impl Place {
    /// Parses text from a user.
    ///
    /// # Errors
    /// The text cannot be a path. The only look-up is whether a local path is a folder.
    pub fn parse(text: &str) -> Result<Self> {
        match split_scheme(text) {
            None => Self::local(text),
            Some((scheme, rest)) if matches!(scheme.as_str(), "http" | "https") => {
                Self::web(text, &format!("{scheme}:{rest}"))
            }
            Some((scheme, rest)) => {
                // Hadoop's file:/a is file:///a.
                let rest = rest.strip_prefix("//").unwrap_or(rest);
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                match (scheme.as_str(), authority) {
                    ("file", "" | "localhost") => Self::local(if path.is_empty() { "/" } else { path }),
                    ("file" | "wfs", authority) if !authority.is_empty() => {
                        plan_err!("{text}: {scheme}:// names no host: write {scheme}:///{authority}{path}")
                    }
                    (scheme, authority) => Self::of_store(text, scheme, authority, path),
                }
            }
        }
    }

    /// Parses the text of [`Place::url`].
    ///
    /// # Errors
    /// A URL with a query or a fragment: [`Place::url`] never writes one, so the place that it names is unknown.
    pub fn from_url(url: &str) -> Result<Self> {
        let parsed = Url::parse(url).map_err(|error| plan_datafusion_err!("{url} is not a URL: {error}"))?;
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return plan_err!("{url}: what stands behind a ? or a # of a URL is no part of a path");
        }
        let store = ObjectStoreUrl::parse(&parsed[Position::BeforeScheme..Position::BeforePath])?;
        let path = Path::from_url_path(parsed.path()).map_err(|error| plan_datafusion_err!("{url}: {error}"))?;
        let is_folder = path.is_root() || parsed.path().ends_with('/');
        Ok(Self { store, path, is_folder })
    }

    /// The place as a URL, with special characters percent-encoded, for DataFusion and everything else that reads URLs.
    pub fn url(&self) -> String {
        let mut url = self.store.as_str().to_string();
        for byte in self.path.as_ref().bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' => url.push(byte.into()),
                b'-' | b'.' | b'_' | b'~' | b'=' | b'+' | b',' | b'@' | b':' | b'!' | b'$' | b'&' | b'(' | b')' => {
                    url.push(byte.into());
                }
                // Writing to a string does not fail.
                _ => _ = write!(url, "%{byte:02X}"),
            }
        }
        if self.is_folder && !self.path.is_root() {
            url.push('/');
        }
        url
    }

    /// The URL that DataFusion lists.
    pub fn listed(&self) -> Result<ListingTableUrl> {
        ListingTableUrl::parse(self.url())
    }

    pub fn store(&self) -> &ObjectStoreUrl {
        &self.store
    }

    /// This place in the store that has the settings of this name: see [`with_settings`].
    pub fn with_settings(&self, name: &str) -> Result<Self> {
        Self::from_url(&with_settings(&self.url(), name))
    }

    /// The name of the settings of its store, if they are a table's own.
    pub fn settings(&self) -> Option<&str> {
        settings_of(self.store.as_str())
    }

    /// The path in the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a folder rather than a file.
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// This place as a folder, where its name may be that of a file.
    pub fn as_folder(&self) -> Self {
        Self { is_folder: true, ..self.clone() }
    }

    /// This place as a file, where its name may be that of a folder.
    pub fn as_file(&self) -> Self {
        Self { is_folder: self.path.is_root(), ..self.clone() }
    }

    /// A file below this folder. `path` spells its names as [`Place::path`] does.
    pub fn file(&self, path: &str) -> Result<Self> {
        Ok(Self { path: self.below(path)?, is_folder: false, ..self.clone() })
    }

    /// A folder below this one.
    pub fn folder(&self, path: &str) -> Result<Self> {
        Ok(Self { path: self.below(path)?, is_folder: true, ..self.clone() })
    }

    fn below(&self, path: &str) -> Result<Path> {
        let path = Path::parse(path).map_err(|error| plan_datafusion_err!("\"{path}\" is not a path: {error}"))?;
        Ok(self.path.parts().chain(path.parts()).collect())
    }

    /// The path relative to this folder, if it lies in the folder.
    pub fn relative<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let rest = path.as_ref().strip_prefix(self.path.as_ref())?;
        match self.path.is_root() {
            true => Some(rest),
            false => rest.strip_prefix('/'),
        }
    }

    /// Whether `other` is this place or lies below it.
    pub fn holds(&self, other: &Place) -> bool {
        self.store == other.store && other.path.prefix_matches(&self.path)
    }

    /// The path on a disk of this machine, if the place is local.
    pub fn local_path(&self) -> Option<PathBuf> {
        (self.store.as_str() == "file:///").then(|| PathBuf::from(format!("/{}", self.path)))
    }

    fn local(text: &str) -> Result<Self> {
        let absolute = match text.starts_with('/') {
            true => text.to_string(),
            false => {
                let here = std::env::current_dir()?;
                let here = here.to_str().ok_or_else(|| plan_datafusion_err!("{text}: write an absolute path"))?;
                format!("{here}/{text}")
            }
        };
        let mut names: Vec<&str> = Vec::new();
        for name in absolute.split('/') {
            match name {
                "" | "." => {}
                ".." => _ = names.pop(),
                name => names.push(name),
            }
        }
        let ends_in_folder = absolute.ends_with('/') || absolute.ends_with("/.") || absolute.ends_with("/..");
        let mut place = Self::of_names(text, ObjectStoreUrl::local_filesystem(), &names, ends_in_folder)?;
        place.is_folder |= place.local_path().is_some_and(|path| path.is_dir());
        Ok(place)
    }

    fn of_store(text: &str, scheme: &str, authority: &str, path: &str) -> Result<Self> {
        if authority.contains('@') {
            return plan_err!(
                "a location of {scheme}:// has no user and no password, because locations are shown: credentials are options of the table, or a secret"
            );
        }
        let store = ObjectStoreUrl::parse(format!("{scheme}://{authority}"))
            .map_err(|_| plan_datafusion_err!("{text}: there is no store {scheme}://{authority}"))?;
        let inside = path.strip_prefix('/').unwrap_or(path);
        let inside = inside.strip_suffix('/').unwrap_or(inside);
        let mut names: Vec<&str> = if inside.is_empty() { Vec::new() } else { inside.split('/').collect() };
        match scheme {
            // Several slashes in a row count as one, as in a file system.
            "wfs" => names.retain(|name| !name.is_empty()),
            _ if names.contains(&"") => {
                return plan_err!("{text}: names without a character (//) are not supported in {scheme}://");
            }
            _ => {}
        }
        if let Some(name) = names.iter().find(|name| matches!(**name, "." | "..")) {
            return plan_err!("{text}: a path in {scheme}:// has no \"{name}\"");
        }
        Self::of_names(text, store, &names, path.ends_with('/'))
    }

    fn of_names(text: &str, store: ObjectStoreUrl, names: &[&str], is_folder: bool) -> Result<Self> {
        if let Some(control) = text.chars().find(char::is_ascii_control) {
            return plan_err!("{text:?}: a path has no control characters such as {control:?}");
        }
        let path = Path::parse(names.join("/")).map_err(|error| plan_datafusion_err!("{text}: {error}"))?;
        Ok(Self { store, is_folder: is_folder || path.is_root(), path })
    }

    fn web(text: &str, url: &str) -> Result<Self> {
        // The text may have a password where none is expected.
        let parsed = Url::parse(url).map_err(|error| plan_datafusion_err!("the location is not a URL: {error}"))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return plan_err!(
                "a location of {}:// has no user and no password, because locations are shown: files of web servers are read without them",
                parsed.scheme()
            );
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return plan_err!(
                "{text}: files of web servers are asked for by their path alone, without what stands behind a ? or a #; a ? of a name is \
                 written %3F, a # is written %23"
            );
        }
        Self::from_url(parsed.as_str())
    }
}

/// The scheme in lower case, and the text after its colon.
fn split_scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let scheme = scheme.to_ascii_lowercase();
    let has_short_form = matches!(scheme.as_str(), "file" | "wfs");
    (is_scheme && (rest.starts_with("//") || rest.starts_with('/') && has_short_form)).then_some((scheme, rest))
}

/// The form in which people write it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.store.as_str().starts_with("http") {
            true => f.write_str(&self.url()),
            false => {
                let slash = if self.is_folder && !self.path.is_root() { "/" } else { "" };
                write!(f, "{}{}{slash}", without_settings(self.store.as_str()), self.path)
            }
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.url())
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_url(&String::deserialize(deserializer)?).map_err(|error| de::Error::custom(message(&error)))
    }
}

fn message(error: &DataFusionError) -> String {
    crate::failure::message(error)
}

/// The input of a table: a place, or a pattern in a local folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The place; with a pattern, the folder in which files are matched.
    pub place: Place,
    pub pattern: Option<String>,
}

impl Source {
    /// Parses text from a user. A path without a scheme that has `*`, `?` or `[` is a pattern, unless it ends in `/` (a pattern for files cannot match one)
    /// or a file or folder has exactly that name.
    pub fn parse(text: &str) -> Result<Self> {
        let starts_pattern = |c: char| matches!(c, '*' | '?' | '[');
        let is_name = || text.ends_with('/') || std::path::Path::new(text).exists();
        let Some(at) = text.find(starts_pattern).filter(|_| split_scheme(text).is_none() && !is_name()) else {
            return Ok(Self { place: Place::parse(text)?, pattern: None });
        };
        let (folder, pattern) = text.split_at(text[..at].rfind('/').map_or(0, |slash| slash + 1));
        let place = Place::parse(if folder.is_empty() { "./" } else { folder })?;
        Ok(Self { place, pattern: Some(pattern.to_string()) })
    }

    /// The text from which DataFusion reads the same source.
    pub fn planned(&self) -> String {
        match (&self.pattern, self.place.local_path()) {
            (Some(pattern), Some(folder)) => {
                format!("{}/{pattern}", folder.display().to_string().trim_end_matches('/'))
            }
            _ => self.place.url(),
        }
    }
}

/// A folder that Windlass has made and may remove with everything in it. Its name ends in an id, which no folder of anybody else has: whatever goes wrong
/// with a path, no other folder is ever removed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnFolder(Place);

/// Hexadecimal digits of an id.
const ID: usize = 32;
/// Maximum bytes of a target's name in the name of its staging folder, which must fit into a file name.
const NAME_BYTES: usize = 100;

impl OwnFolder {
    /// A new folder in `folder`: `label-ID`, or `ID` without a label.
    pub fn new_in(folder: &Place, label: &str) -> Result<Self> {
        let id = uuid::Uuid::new_v4().simple();
        let name = if label.is_empty() { id.to_string() } else { format!("{label}-{id}") };
        folder.folder(&name).map(Self)
    }

    /// A hidden folder beside `target`. So publishing is a rename within one file system, and no reader of the target sees the folder.
    ///
    /// A store's root has no siblings, and the root of a local file system, the parent of a top-level folder, is seldom writable: in both cases the folder is
    /// inside the target.
    pub fn staging(target: &Place) -> Result<Self> {
        let id = uuid::Uuid::new_v4().simple();
        let is_local = target.local_path().is_some();
        let Some(name) = target.path.filename() else {
            return match is_local {
                true => plan_err!("{target} is not a place to write to: expected a folder or a file below one"),
                false => target.folder(&format!(".windlass-{id}")).map(Self),
            };
        };
        if is_local && target.is_folder && target.path.parts_count() == 1 {
            return target.folder(&format!(".windlass-{id}")).map(Self);
        }
        let end = (0..=name.len().min(NAME_BYTES)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
        let beside = Place { path: target.path.parent().unwrap_or_default(), is_folder: true, ..target.clone() };
        beside.folder(&format!(".{}.windlass-{id}", &name[..end])).map(Self)
    }

    /// Parses the [`Place::url`] of such a folder.
    pub fn from_url(url: &str) -> Result<Self> {
        let place = Place::from_url(url)?;
        Self::known(place).map_err(|place| plan_datafusion_err!("{place} is not a folder that Windlass has made"))
    }

    /// The parent folder, if Windlass has made that one too.
    pub fn around(&self) -> Option<Self> {
        let path = self.0.path.parent()?;
        Self::known(Place { path, ..self.0.clone() }).ok()
    }

    fn known(place: Place) -> std::result::Result<Self, Place> {
        let is_own = |name: &str| {
            let start = name.len().checked_sub(ID);
            let id = start.and_then(|start| name.get(start..));
            id.is_some_and(|id| id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        };
        match place.is_folder && place.path.filename().is_some_and(is_own) {
            true => Ok(Self(place)),
            false => Err(place),
        }
    }

    pub fn place(&self) -> &Place {
        &self.0
    }

    pub fn url(&self) -> String {
        self.0.url()
    }

    /// The path to which publishing renames a file of an attempt in a staging folder: `a/.t.windlass-ID/0-0/x` becomes `a/t/x`, or `a/t` if `x` is `t`. `None`: the
    /// file is in no staging folder, or in one whose name does not say all of it.
    pub fn renamed(file: &Path) -> Option<Path> {
        let parts: Vec<_> = file.parts().collect();
        let of_staging = |part: &str| {
            let (name, id) = part.strip_prefix('.')?.rsplit_once("windlass-")?;
            let is_id = id.len() == ID && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let name = if name.is_empty() { name } else { name.strip_suffix('.')? };
            (is_id && name.len() + 4 <= NAME_BYTES).then(|| name.to_string())
        };
        let (at, name) = parts.iter().enumerate().find_map(|(at, part)| Some((at, of_staging(part.as_ref())?)))?;
        // The attempt's folder comes next.
        let rest = parts.get(at + 2..).filter(|rest| !rest.is_empty())?;
        let is_single = rest.len() == 1 && rest[0].as_ref() == name;
        let texts = parts[..at].iter().map(|part| part.as_ref().to_string());
        let texts = texts.chain((!name.is_empty()).then_some(name.clone()));
        let rest = rest.iter().filter(|_| !is_single).map(|part| part.as_ref().to_string());
        Path::parse(texts.chain(rest).collect::<Vec<_>>().join("/")).ok()
    }
}

impl fmt::Display for OwnFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for OwnFolder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for OwnFolder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_url(&String::deserialize(deserializer)?).map_err(|error| de::Error::custom(message(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::parse(text).unwrap()
    }

    fn refused(text: &str) -> String {
        message(&Place::parse(text).unwrap_err())
    }

    #[test]
    fn a_staged_file_knows_the_name_that_it_gets() {
        let renamed = |target: &str, rest: &str| {
            let staging = OwnFolder::staging(&place(target)).unwrap();
            let path = Path::parse(format!("{}/{rest}", staging.place().path())).unwrap();
            OwnFolder::renamed(&path).map(|path| path.to_string())
        };
        assert_eq!(renamed("s3://b/a/t/", "0-1/k=a%2Fb/x.csv").as_deref(), Some("a/t/k=a%2Fb/x.csv"));
        assert_eq!(renamed("s3://b/a/t.csv", "0-1/t.csv").as_deref(), Some("a/t.csv"));
        assert_eq!(renamed("s3://b/", "12-0/x.csv").as_deref(), Some("x.csv"));
        assert_eq!(renamed("s3://b/a/t/", "0-1"), None);
        assert_eq!(renamed(&format!("s3://b/{}/", "é".repeat(60)), "0-1/x.csv"), None);
        let managed = OwnFolder::new_in(&place("s3://b/w/"), "t").unwrap();
        assert_eq!(OwnFolder::renamed(&managed.place().file("0-1/x.csv").unwrap().path().clone()), None);
    }

    /// Text, store, path in the store, and whether it is a folder.
    #[test]
    fn names_are_what_stands_there() {
        let cases = [
            ("/d/r#1/a.csv", "file:///", "d/r#1/a.csv", false),
            ("/d/r?x=1/", "file:///", "d/r?x=1", true),
            ("file:///d/r#1/", "file:///", "d/r#1", true),
            ("file:///d/a%20b", "file:///", "d/a%20b", false),
            ("file://localhost/d/[1]*", "file:///", "d/[1]*", false),
            ("FILE:/d//e/../f/./", "file:///", "d/f", true),
            ("/../d/x:y", "file:///", "d/x:y", false),
            ("wfs:///d//r#1/é \\|^`{}\"<>'/", "wfs:///", "d/r#1/é \\|^`{}\"<>'", true),
            ("wfs://", "wfs:///", "", true),
            ("wfs:/a", "wfs:///", "a", false),
            ("s3://b/r?x=1/%2E%2E", "s3://b/", "r?x=1/%2E%2E", false),
            ("s3://b", "s3://b/", "", true),
            ("s3a://b/k=a%2Fb/", "s3a://b/", "k=a%2Fb", true),
            ("http://h:1/a%20b/%23.csv", "http://h:1/", "a b/#.csv", false),
        ];
        for (text, store, path, is_folder) in cases {
            let place = place(text);
            let parts = (place.store().as_str(), place.path().as_ref(), place.is_folder());
            assert_eq!(parts, (store, path, is_folder), "{text}");
            assert_eq!(Place::from_url(&place.url()).unwrap(), place, "{text} as {}", place.url());
            assert_eq!(Place::parse(&place.to_string()).unwrap(), place, "{text} as {place}");
            let listed = place.listed().unwrap();
            let seen = (listed.object_store(), listed.prefix(), listed.is_collection(), listed.get_glob().is_none());
            assert_eq!(seen, (place.store().clone(), place.path(), is_folder, true), "{text} to DataFusion");
            let json = serde_json::to_string(&place).unwrap();
            assert_eq!(serde_json::from_str::<Place>(&json).unwrap(), place);
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(place("a b/c").local_path().unwrap(), here.join("a b/c"));
        assert!(place(here.to_str().unwrap()).is_folder(), "what is a folder is one");
    }

    #[test]
    fn what_cannot_be_a_path_is_refused() {
        for (text, words) in [
            ("wfs://d/x", "write wfs:///d/x"),
            ("file://d/x", "write file:///d/x"),
            ("s3://b/a//c", "(//)"),
            ("s3://b/a/../c", "has no \"..\""),
            ("wfs:///a/./c", "has no \".\""),
            ("s3://b#1/x", "s3://b#1"),
            ("/a\nb", "control characters"),
            ("http://h/a.csv?raw=true", "?"),
            ("https://h/a.csv#top", "#"),
            ("https://me:hunter2@h/a.csv?b", "no user and no password"),
            ("s3://me:hunter2@b/a", "no user and no password"),
        ] {
            let said = refused(text);
            assert!(said.contains(words), "{text}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        for url in ["file:///d/r#1/.a.csv.windlass-x/", "wfs:///n/r?x=1/", "nothing"] {
            assert!(Place::from_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_staging_folder_lies_beside_its_target() {
        for (target, beside) in [
            ("/d/r#1/a.csv", "/d/r#1/.a.csv.windlass-"),
            ("/d/r?x=1/", "/d/.r?x=1.windlass-"),
            ("/data/", "/data/.windlass-"),
            ("wfs:///a.csv", "wfs:///.a.csv.windlass-"),
            ("wfs:///a[1]/", "wfs:///.a[1].windlass-"),
            ("wfs:///", "wfs:///.windlass-"),
            ("s3://b/", "s3://b/.windlass-"),
            ("s3://b/x/y*z/", "s3://b/x/.y*z.windlass-"),
        ] {
            let staging = OwnFolder::staging(&place(target)).unwrap();
            let name = staging.to_string().trim_start_matches("file://").to_string();
            let id = name.strip_prefix(beside).unwrap_or_else(|| panic!("{target}: {name}"));
            assert_eq!(id.len(), ID + 1, "{name}");
            assert_eq!(OwnFolder::from_url(&staging.url()).unwrap(), staging);
        }
        assert!(OwnFolder::staging(&place("file:///")).is_err());
        let long = OwnFolder::staging(&place(&format!("/d/{}.csv", "é".repeat(125)))).unwrap();
        assert!(long.place().path().filename().unwrap().len() < 160);
    }

    #[test]
    fn no_folder_of_anybody_else_is_our_own() {
        let id = uuid::Uuid::new_v4().simple().to_string();
        for own in [format!("file:///w/t-{id}/"), format!("s3://b/w/t-{id}/{id}/"), format!("wfs:///.x.windlass-{id}/")]
        {
            assert!(OwnFolder::from_url(&own).is_ok(), "{own}");
        }
        for other in [
            "file:///".to_string(),
            "file:///home/me/".to_string(),
            format!("file:///w/t-{id}"),
            format!("s3://b/{id}x/"),
        ] {
            assert!(OwnFolder::from_url(&other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_pattern_is_one_unless_there_is_a_file_of_that_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("{}/{name}", folder.path().display());
        let source = Source::parse(&at("[x] *.csv")).unwrap();
        assert_eq!(source.pattern.as_deref(), Some("[x] *.csv"));
        let planned = ListingTableUrl::parse(source.planned()).unwrap();
        assert_eq!(planned.prefix(), source.place.path());
        assert_eq!(planned.get_glob().as_ref().unwrap().as_str(), "[x] *.csv");
        std::fs::write(at("[x] *.csv"), "").unwrap();
        let name = Source::parse(&at("[x] *.csv")).unwrap();
        assert_eq!((name.pattern.as_deref(), name.place.path().filename()), (None, Some("[x] *.csv")));
        assert_eq!(Source::parse("wfs:///a*").unwrap().pattern, None, "what has a scheme is a name");
        assert_eq!(Source::parse(&at("[y]/")).unwrap().pattern, None, "and so is a folder that is yet to be made");
        assert_eq!(Source::parse("*.csv").unwrap().place, place("."));
    }
}
