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
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
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

async fn config(settings: &Settings) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
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
