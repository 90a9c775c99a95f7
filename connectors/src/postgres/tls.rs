//! TLS as libpq means it.

use super::error::{PostgresError, Result};
use super::settings::{Settings, SslMode, home};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// A protected connection over `stream`, on which the server has agreed to TLS.
pub(super) async fn handshake(settings: &Settings, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
    let server = settings.server();
    let config = config(settings).await.map_err(|what| PostgresError::Login { server: server.clone(), what })?;
    let name = ServerName::try_from(settings.host.clone());
    let name = name.map_err(|_| PostgresError::Login { server: server.clone(), what: "its name is none".into() })?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|error| match error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(cause) => PostgresError::Login { server, what: format!("the TLS handshake failed: {cause}") },
        None => PostgresError::Lost {
            server,
            what: format!("the TLS handshake failed: {error}"),
            source: io::Error::from(error.kind()),
        },
    })
}

/// The tls-server-end-point of a server's certificate: its hash, by the function with which it is signed.
/// `None`: that function is not known here, or none.
/// <https://www.rfc-editor.org/rfc/rfc5929#section-4.1>
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (certificate_parts, _) = element(certificate)?;
    let (_, after_signed_part) = element(certificate_parts)?;
    let (algorithm, _) = element(element(after_signed_part)?.0)?;
    let function = SIGNATURES.iter().find(|(signature, _)| *signature == algorithm)?.1;
    Some(ring::digest::digest(function, certificate).as_ref().to_vec())
}

/// Object identifiers of signatures. MD5 and SHA-1 count as SHA-256.
const SIGNATURES: &[(&[u8], &ring::digest::Algorithm)] = &[
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", &ring::digest::SHA256), // md5WithRSAEncryption
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", &ring::digest::SHA256), // sha1WithRSAEncryption
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", &ring::digest::SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", &ring::digest::SHA384),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d", &ring::digest::SHA512),
    (b"\x2a\x86\x48\xce\x3d\x04\x01", &ring::digest::SHA256), // ecdsa-with-SHA1
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", &ring::digest::SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", &ring::digest::SHA384),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", &ring::digest::SHA512),
];

/// The first element of DER, without its tag and length, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

async fn config(settings: &Settings) -> Result<ClientConfig, String> {
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier = Verifier::of(settings, Arc::clone(&provider)).await?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    // What is verified depends on sslmode.
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Absent: whoever it is.
    trusted: Option<(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>)>,
    /// The certificate must be of the host.
    names: bool,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("trusts_all", &self.trusted.is_none()).field("names", &self.names).finish()
    }
}

impl Verifier {
    async fn of(settings: &Settings, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let names = settings.sslmode == SslMode::VerifyFull;
        let roots = match (settings.sslrootcert.as_deref(), settings.sslmode) {
            (Some("system"), SslMode::VerifyFull) => Some(rustls_native_certs::load_native_certs().certs),
            (Some("system"), _) => return Err("sslrootcert 'system' goes with sslmode 'verify-full'".to_string()),
            (_, SslMode::Disable | SslMode::Prefer) => None,
            (Some(file), _) => Some(certificates(PathBuf::from(file)).await?),
            (None, SslMode::Require) => {
                let file = home().join(".postgresql/root.crt");
                if tokio::fs::try_exists(&file).await.unwrap_or(false) { Some(certificates(file).await?) } else { None }
            }
            (None, SslMode::VerifyCa | SslMode::VerifyFull) => {
                Some(certificates(home().join(".postgresql/root.crt")).await?)
            }
        };
        let Some(roots) = roots else { return Ok(Self { provider, trusted: None, names }) };
        let mut store = RootCertStore::empty();
        if store.add_parsable_certificates(roots.iter().cloned()).0 == 0 {
            return Err("there is no root certificate to trust".to_string());
        }
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider)).build();
        Ok(Self { provider, trusted: Some((chain.map_err(|error| error.to_string())?, roots)), names })
    }
}

async fn certificates(file: PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = file.display();
    let text = tokio::fs::read(&file)
        .await
        .map_err(|error| format!("the root certificates {shown} cannot be read: {error}"))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    read.map_err(|error| format!("the root certificates {shown} cannot be read: {error}"))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some((chain, roots)) = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain is looked at before the name.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            // A server that signs for itself, and that the file names itself.
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_)))
                if roots.contains(end_entity) =>
            {
                if self.names {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
