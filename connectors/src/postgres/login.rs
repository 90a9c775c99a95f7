//! Logins: MD5 and SCRAM-SHA-256 (RFC 5802, RFC 7677).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

/// Rounds that a server may ask for: its own default is 4,096, and more than this is to keep us busy.
const MOST_ROUNDS: u32 = 10_000_000;

/// The answer to AuthenticationMD5Password.
pub(super) fn md5(user: &str, password: &str, salt: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let inner = hex(&Md5::digest([password.as_bytes(), user.as_bytes()].concat()));
    format!("md5{}", hex(&Md5::digest([inner.as_bytes(), salt].concat())))
}

/// One login by SCRAM-SHA-256, without channel binding.
pub(super) struct Scram {
    password: String,
    nonce: String,
    /// What the server has to show that it knows, and the messages that it signs.
    expected: Option<Vec<u8>>,
    is_verified: bool,
}

impl Scram {
    pub fn new(password: &str) -> Result<Self, String> {
        let mut bytes = [0; 18];
        SystemRandom::new().fill(&mut bytes).map_err(|_| "there is no randomness".to_string())?;
        Ok(Self::with(password, STANDARD.encode(bytes)))
    }

    fn with(password: &str, nonce: String) -> Self {
        // As the server does: what SASLprep refuses is taken as it is.
        let password = stringprep::saslprep(password).map_or_else(|_| password.to_string(), |text| text.into_owned());
        Self { password, nonce, expected: None, is_verified: false }
    }

    /// The first message. The server knows the user by then.
    pub fn first(&self) -> String {
        format!("n,,{}", self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// The answer to the server's first message.
    pub fn answer(&mut self, challenge: &str) -> Result<String, String> {
        let wrong = || "its challenge is not understood".to_string();
        let field = |name: &str| challenge.split(',').find_map(|field| field.strip_prefix(name));
        let nonce = field("r=").filter(|nonce| nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len());
        let nonce = nonce.ok_or_else(wrong)?;
        let salt = field("s=").and_then(|salt| STANDARD.decode(salt).ok()).ok_or_else(wrong)?;
        let rounds = field("i=").and_then(|rounds| rounds.parse::<NonZeroU32>().ok()).ok_or_else(wrong)?;
        if rounds.get() > MOST_ROUNDS {
            return Err(format!("it asks for {rounds} rounds of hashing"));
        }
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, self.password.as_bytes(), &mut salted);
        let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let client = hmac::sign(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, client.as_ref());
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{challenge},{without_proof}", self.bare());
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored.as_ref()), signed.as_bytes());
        let proof: Vec<u8> = client.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server = hmac::sign(&salted, b"Server Key");
        let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, server.as_ref()), signed.as_bytes());
        self.expected = Some(expected.as_ref().to_vec());
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Whether the server knows the password as well.
    pub fn verify(&mut self, last: &str) -> Result<(), String> {
        let shown = last.strip_prefix("v=").and_then(|shown| STANDARD.decode(shown).ok());
        match (&self.expected, shown) {
            (Some(expected), Some(shown)) if *expected == shown => {
                self.is_verified = true;
                Ok(())
            }
            _ => Err("it does not know the password itself".to_string()),
        }
    }

    pub fn is_verified(&self) -> bool {
        self.is_verified
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, whose messages name a user; PostgreSQL's do not.
    #[test]
    fn scram_proves_both_sides() {
        let mut scram = Scram::with("pencil", "rOprNGfwEbeRWgbNEkqO".into());
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let answer = scram.answer(challenge).unwrap();
        assert!(answer.starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="), "{answer}");
        assert!(scram.verify("v=AAAA").is_err() && scram.verify("e=other").is_err());
        let other = "r=otherNonce,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert!(scram.answer(other).is_err() && scram.answer("i=1").is_err());
        assert!(scram.answer(&challenge.replace("4096", "4000000000")).is_err());
    }

    #[test]
    fn md5_is_as_the_server_computes_it() {
        // SELECT 'md5' || md5(md5('secret' || 'app') || 'salt')
        let known = format!("md5{}", {
            let inner: String = Md5::digest("secretapp").iter().map(|byte| format!("{byte:02x}")).collect();
            Md5::digest(format!("{inner}salt")).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        });
        assert_eq!(md5("app", "secret", b"salt"), known);
    }
}
