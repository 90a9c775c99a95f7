//! Sealed credentials in the metadata store. A person with a copy of the store but without the key learns only the names of
//! credentials.
//!
//! The key is 32 bytes. It comes from `WINDLASS_SECRETS_KEY`, as 64 hexadecimal digits, or from the file `secrets.key` in the primary's
//! folder. A primary with a store of its own creates that file when it needs a key. Primaries that share an etcd must be given the same
//! key.
//!
//! A sealed value is `version (1 byte) | id of the key (8) | nonce (12) | ciphertext | tag (16)`, by ChaCha20-Poly1305 (RFC 8439). The
//! owner's name is authenticated with it: a value that is moved to another name cannot be opened.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Holds the key of a cluster's primaries.
pub const KEY_VARIABLE: &str = "WINDLASS_SECRETS_KEY";
const KEY_FILE: &str = "secrets.key";
const KEY_LEN: usize = 32;
const ID_LEN: usize = 8;
const VERSION: u8 = 1;

/// Why credentials cannot be stored or read. No message contains any part of them or of a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    #[error(
        "credentials cannot be kept without a key, and all primaries that share an etcd need the same one: set {KEY_VARIABLE} for each of them to \
         64 hexadecimal digits, such as 'openssl rand -hex 32' prints, and start them again"
    )]
    NoKey,
    #[error("{whence} has no key: expected 64 hexadecimal digits, such as 'openssl rand -hex 32' prints")]
    NotAKey { whence: String },
    #[error("the key in {} cannot be read or made: {reason}", path.display())]
    KeyFile { path: PathBuf, reason: String },
    #[error(
        "it was sealed with another key than that of this primary: give the primary the key that it had, in {KEY_VARIABLE} or in secrets.key in its \
         folder, or make it anew"
    )]
    AnotherKey,
    #[error("it is damaged, or was not sealed for this")]
    Damaged,
    #[error("the operating system gives no random numbers")]
    NoRandom,
}

/// Seals and opens values. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    key: Option<Arc<Key>>,
}

struct Key {
    sealing: LessSafeKey,
    id: [u8; ID_LEN],
}

impl Sealer {
    /// Returns a sealer with the key of the environment, or else of a primary's folder. `shared`: other primaries use the store too, so
    /// no key is created here.
    ///
    /// # Errors
    /// Either place holds something that is not a key, or the file cannot be read or created.
    pub fn open(dir: &Path, shared: bool) -> Result<Self, SealError> {
        if let Ok(text) = std::env::var(KEY_VARIABLE) {
            return Self::with_text(&text, KEY_VARIABLE);
        }
        let path = dir.join(KEY_FILE);
        let failed = |error: io::Error| SealError::KeyFile { path: path.clone(), reason: error.to_string() };
        match fs::read_to_string(&path) {
            Ok(text) => return Self::with_text(&text, &path.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if shared {
            return Ok(Self { key: None });
        }
        let bytes = random::<KEY_LEN>()?;
        write_new(&path, &hex(&bytes)).map_err(failed)?;
        Ok(Self::with_key(&bytes))
    }

    /// Returns a sealer with a random key that ends with this value.
    ///
    /// # Errors
    /// Random numbers are not available.
    pub fn ephemeral() -> Result<Self, SealError> {
        Ok(Self::with_key(&random::<KEY_LEN>()?))
    }

    fn with_text(text: &str, whence: &str) -> Result<Self, SealError> {
        let not_a_key = || SealError::NotAKey { whence: whence.to_string() };
        let bytes = unhex(text.trim()).ok_or_else(not_a_key)?;
        let bytes: [u8; KEY_LEN] = bytes.try_into().map_err(|_| not_a_key())?;
        Ok(Self::with_key(&bytes))
    }

    fn with_key(bytes: &[u8; KEY_LEN]) -> Self {
        // The only possible error is a wrong length.
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("a key of 32 bytes");
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&blake3::derive_key("windlass 2026 id of a key of secrets", bytes)[..ID_LEN]);
        Self { key: Some(Arc::new(Key { sealing: LessSafeKey::new(unbound), id })) }
    }

    /// Seals `plain`, which belongs to `owner`.
    ///
    /// # Errors
    /// There is no key.
    pub fn seal(&self, owner: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.key.as_ref().ok_or(SealError::NoKey)?;
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = plain.to_vec();
        let aad = Aad::from(owner.as_bytes());
        // The only possible error is a text of 256 GiB.
        let appended = key.sealing.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed);
        appended.map_err(|_| SealError::Damaged)?;
        Ok([&[VERSION][..], &key.id, &nonce, &sealed].concat())
    }

    /// Opens a value that was sealed for `owner`.
    ///
    /// # Errors
    /// It was sealed with another key or for another owner, or is damaged.
    pub fn open_sealed(&self, owner: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let rest = sealed.strip_prefix(&[VERSION]).ok_or(SealError::Damaged)?;
        let (id, rest) = rest.split_at_checked(ID_LEN).ok_or(SealError::Damaged)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
        let key = self.key.as_ref().filter(|key| key.id == id).ok_or(SealError::AnotherKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut text = text.to_vec();
        let opened = key.sealing.open_in_place(nonce, Aad::from(owner.as_bytes()), &mut text);
        let length = opened.map_err(|_| SealError::Damaged)?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// Hides the key.
impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::NoRandom)?;
    Ok(bytes)
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    // An unfinished file from a primary that died here is not a key.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.bytes().all(|digit| digit.is_ascii_hexdigit()) || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_sealed_is_opened_by_its_key_for_its_owner_only() {
        let sealer = Sealer::ephemeral().unwrap();
        let sealed = sealer.seal("table/a", b"password").unwrap();
        assert_ne!(sealed, sealer.seal("table/a", b"password").unwrap(), "equal credentials do not look equal");
        assert!(!sealed.windows(4).any(|some| some == b"pass"));
        assert_eq!(sealer.open_sealed("table/a", &sealed).unwrap(), b"password");
        assert_eq!(sealer.open_sealed("table/b", &sealed), Err(SealError::Damaged));
        assert_eq!(Sealer::ephemeral().unwrap().open_sealed("table/a", &sealed), Err(SealError::AnotherKey));
        for at in [0, 1, 12, 25, sealed.len() - 1] {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(sealer.open_sealed("table/a", &damaged).is_err(), "{at}");
            assert!(sealer.open_sealed("table/a", &sealed[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn a_primary_keeps_its_key_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let sealed = Sealer::open(folder.path(), false).unwrap().seal("x", b"y").unwrap();
        assert_eq!(Sealer::open(folder.path(), true).unwrap().open_sealed("x", &sealed).unwrap(), b"y");
        let file = folder.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, "not a key").unwrap();
        let error = Sealer::open(folder.path(), false).unwrap_err().to_string();
        assert!(error.contains("secrets.key") && error.contains("64 hexadecimal digits"), "{error}");
    }

    #[test]
    fn primaries_that_share_a_store_are_given_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(folder.path(), true).unwrap();
        assert_eq!(sealer.seal("x", b"y"), Err(SealError::NoKey));
        assert!(SealError::NoKey.to_string().contains(KEY_VARIABLE));
        assert!(!folder.path().join(KEY_FILE).exists());
    }
}
