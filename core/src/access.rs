//! The identity behind a request.

use std::fmt;

/// The user or process on whose behalf a request is made. Users are not authenticated: everybody has every right, and the client chooses its own name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    name: String,
}

impl Principal {
    /// A principal without a name.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// The user with this name. An empty name gives [`Principal::anonymous`].
    pub fn user(name: impl Into<String>) -> Self {
        Principal { name: name.into() }
    }

    /// The user's name; empty when none was given.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.name.is_empty() { "anonymous" } else { &self.name })
    }
}
