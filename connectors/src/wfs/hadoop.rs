//! WebHDFS as the primary and the executors share it: paths and parameters of requests.
//!
//! A path is parsed once, from text that the server has decoded once, and is encoded once for a URL: a name such as `a%41` survives a redirect unchanged.

use std::collections::BTreeMap;
use url::Url;
use windlass_core::wfs::FsPath;

/// Path of the service on a server.
pub const PREFIX: [&str; 2] = ["webhdfs", "v1"];

/// The parameter that holds the ticket for an executor ([`windlass_proto::ticket`]).
pub const TICKET: &str = "ticket";

/// Parameters of a request. Their names ignore case, as in HDFS.
#[derive(Clone, Debug)]
pub struct Parameters(BTreeMap<String, String>);

impl Parameters {
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Parameters {
        Parameters(pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect())
    }

    /// The name of the operation, in capitals.
    pub fn operation(&self) -> String {
        self.text("op").unwrap_or_default().to_ascii_uppercase()
    }

    /// Value of a parameter; `None` when absent or empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Value of a parameter as a number; `None` when absent or empty.
    ///
    /// # Errors
    /// The value is not a number of this type.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let wrong = |text: &str| format!("{name} is a number that is not negative nor too large, and not \"{text}\"");
        self.text(name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
    }

    /// Value of a parameter as a flag.
    ///
    /// # Errors
    /// The value is neither true nor false.
    pub fn flag(&self, name: &str) -> Result<bool, String> {
        match self.text(name) {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => Err(format!("{name} is true or false, and not \"{text}\"")),
        }
    }

    /// Requested number of replicas of a file.
    ///
    /// # Errors
    /// The value is not a number, or out of range.
    pub fn replication(&self) -> Result<Option<u32>, String> {
        let replication: Option<u32> = self.number("replication")?;
        let most = windlass_core::wfs::MAX_REPLICATION;
        match replication {
            Some(0) => Err("a file has 1 replica at least, and not 0".into()),
            Some(wanted) if wanted > most.into() => {
                Err(format!("a file has {most} replicas at most, and not {wanted}"))
            }
            replication => Ok(replication),
        }
    }

    /// Path in the parameter `destination`.
    ///
    /// # Errors
    /// It is missing, relative, or invalid.
    pub fn destination(&self) -> Result<FsPath, String> {
        match self.text("destination") {
            None => Err("the parameter destination is missing or empty: it is the absolute path to rename to".into()),
            Some(text) if !text.starts_with('/') => {
                Err(format!("the destination \"{text}\" is not absolute: write it with a / at the beginning"))
            }
            Some(text) => FsPath::parse(text).map_err(|error| error.to_string()),
        }
    }

    /// URL of the same request on another server, with this ticket.
    ///
    /// # Errors
    /// The address is invalid.
    pub fn redirect(&self, address: &str, path: &FsPath, ticket: &str) -> Result<Url, String> {
        let mut url = Url::parse(&format!("http://{address}")).map_err(|error| format!("{address}: {error}"))?;
        extend(&mut url, PREFIX.into_iter().chain(path.names()))?;
        let is_handed_on = |(name, _): &(&String, &String)| *name != "noredirect" && *name != TICKET;
        url.query_pairs_mut().extend_pairs(self.0.iter().filter(is_handed_on)).append_pair(TICKET, ticket);
        Ok(url)
    }
}

/// URL of a file, for people and for clients that want one.
pub fn file_url(path: &FsPath) -> String {
    let mut url = String::from("wfs:///");
    if let Ok(mut parsed) = Url::parse(&url)
        && extend(&mut parsed, path.names()).is_ok()
    {
        url = parsed.into();
    }
    url
}

/// Appends the names to the URL, each encoded.
fn extend<'a>(url: &mut Url, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let no_base = |()| "it is no base of paths".to_string();
    url.path_segments_mut().map_err(no_base)?.pop_if_empty().extend(names);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        Parameters::new(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())))
    }

    #[test]
    fn a_name_is_the_same_at_both_ends_of_a_redirect() {
        let asked = parameters(&[("op", "CREATE"), ("noredirect", "true"), ("user.name", "a b&c%41"), ("Ticket", "x")]);
        for name in ["a%41", "a%2541", "%", "a b+c", "ü#?;=&", "a\\b", "..."] {
            let path = FsPath::parse(&format!("/d/{name}")).unwrap();
            let url = asked.redirect("host:1", &path, "signed").unwrap();
            assert_eq!(url.query_pairs().collect::<BTreeMap<_, _>>()["user.name"], "a b&c%41");
            assert!(!url.as_str().contains("noredirect"), "{url}");
            assert_eq!(url.query_pairs().filter(|(name, _)| name == TICKET).count(), 1, "{url}");
            assert_eq!(url.query_pairs().collect::<BTreeMap<_, _>>()[TICKET], "signed");
            let last = url.path_segments().unwrap().next_back().unwrap();
            let decoded = percent_decoded(last);
            assert_eq!(decoded, name, "{url}");
            assert!(url.path().starts_with("/webhdfs/v1/d/"), "{url}");
            assert!(file_url(&path).starts_with("wfs:///d/"), "{}", file_url(&path));
        }
    }

    /// Decodes a segment of a path once, as a server does.
    fn percent_decoded(text: &str) -> String {
        let text = text.replace('+', "%2B").replace('&', "%26");
        url::form_urlencoded::parse(format!("x={text}").as_bytes()).next().unwrap().1.into_owned()
    }

    #[test]
    fn what_is_wrong_with_a_parameter_is_said() {
        let of = |name, value| parameters(&[(name, value)]);
        assert_eq!(of("replication", "2").replication(), Ok(Some(2)));
        assert_eq!(of("Replication", "").replication(), Ok(None));
        for wrong in ["4294967299", "0", "6", "-1", "x"] {
            assert!(of("replication", wrong).replication().is_err(), "{wrong}");
        }
        assert!(of("overwrite", "TRUE").flag("overwrite").unwrap() && of("overwrite", "1").flag("overwrite").is_err());
        for wrong in ["", "r/z", "../x", "/a/../b"] {
            assert!(of("destination", wrong).destination().is_err(), "{wrong}");
        }
        assert_eq!(of("destination", "/").destination(), Ok(FsPath::root()));
        assert_eq!(of("destination", "/r/d/").destination().unwrap().as_str(), "/r/d");
    }
}
