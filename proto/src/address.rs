//! Addresses on which servers listen.

use std::net::{SocketAddr, ToSocketAddrs};

/// Default addresses of a primary, for gRPC with Flight SQL and for REST.
pub const PRIMARY: &str = "127.0.0.1:7077";
pub const REST: &str = "127.0.0.1:7078";

/// Parses address:port; a host name is also accepted. The error begins with the name of the setting.
pub fn listen(setting: &str, text: &str) -> Result<SocketAddr, String> {
    text.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(|| {
        format!("{setting}: \"{text}\" is not an address to listen on: write ADDRESS:PORT, such as 0.0.0.0:7077")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on_are_checked() {
        assert_eq!(listen("x", "127.0.0.1:0").unwrap().port(), 0);
        assert!(listen("x", "localhost:7077").is_ok());
        let message = listen("primary.listen", "7077").unwrap_err();
        assert!(message.contains("primary.listen") && message.contains("0.0.0.0:7077"), "{message}");
    }
}
