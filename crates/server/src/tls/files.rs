//! Certificate, key and roots from their files. Whatever cannot be read, or does not fit together, is
//! an error that names the file: nothing is skipped.

use super::identity;
use crate::config::{self, ClientAuth};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A chain is a few KiB, a bundle of all public roots some 200.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Read permission of others than the owner and the group.
const OTHERS_READ: u32 = 0o004;
/// Certificates sent on each handshake: more than any real chain.
const CHAIN_MAX: usize = 10;

#[derive(Debug)]
pub struct TlsFileError {
    setting: &'static str,
    file: PathBuf,
    why: String,
}

impl fmt::Display for TlsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.setting, self.file.display(), self.why)
    }
}

impl std::error::Error for TlsFileError {}

/// What tells one state of the files from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(Vec<Option<(u64, u64, i64, i64)>>);

impl Seen {
    pub fn of(settings: &config::Tls) -> Self {
        let paths = [&settings.certificate, &settings.key, &settings.client_ca];
        let look = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
        };
        Seen(paths.into_iter().flatten().map(look).collect())
    }
}

pub struct Loaded {
    pub config: Arc<ServerConfig>,
    pub expires_unix_seconds: u64,
}

/// One of the files with the setting that names it.
struct Source<'a> {
    setting: &'static str,
    file: &'a Path,
}

impl Source<'_> {
    fn wrong(&self, why: impl Into<String>) -> TlsFileError {
        TlsFileError { setting: self.setting, file: self.file.to_owned(), why: why.into() }
    }

    fn read(&self) -> Result<Vec<u8>, TlsFileError> {
        let size = std::fs::metadata(self.file).map_err(|error| self.wrong(error.to_string()))?;
        if size.len() > FILE_BYTES_MAX {
            return Err(self.wrong("larger than 1 MiB; not a PEM file"));
        }
        std::fs::read(self.file).map_err(|error| self.wrong(error.to_string()))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
        let text = self.read()?;
        let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|error| self.wrong(format!("not PEM: {error}")))?;
        match found.is_empty() {
            true => Err(self.wrong("holds no certificate (-----BEGIN CERTIFICATE-----)")),
            false => Ok(found),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsFileError> {
        let text = self.read()?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            pem::Error::NoItemsFound => self.wrong(
                "holds no private key that can be read (-----BEGIN PRIVATE KEY-----, without a password)",
            ),
            error => self.wrong(format!("not PEM: {error}")),
        })
    }

    fn warn_if_others_read(&self) {
        let found = std::fs::metadata(self.file);
        if found.is_ok_and(|found| found.permissions().mode() & OTHERS_READ != 0) {
            tracing::warn!(
                "{}: {} can be read by every user of this machine; chmod 600 keeps it secret",
                self.setting,
                self.file.display()
            );
        }
    }
}

pub fn load(settings: &config::Tls) -> Result<Loaded, TlsFileError> {
    let path = |file: &'_ Option<PathBuf>| file.clone().unwrap_or_default();
    let (certificate, key) = (path(&settings.certificate), path(&settings.key));
    let certificate = Source { setting: "tls.certificate", file: &certificate };
    let key = Source { setting: "tls.key", file: &key };
    let chain = certificate.certificates()?;
    if chain.len() > CHAIN_MAX {
        let count = chain.len();
        return Err(certificate.wrong(format!("holds {count} certificates; a chain has few")));
    }
    let expires_unix_seconds = check_period(&certificate, &chain[0])?;
    let private_key = key.key()?;
    key.warn_if_others_read();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has suites for both versions");
    let builder = match &settings.client_ca {
        Some(file) if settings.client_auth != ClientAuth::Off => {
            let roots = Source { setting: "tls.client_ca", file };
            builder.with_client_cert_verifier(verifier(&roots, settings.client_auth, provider)?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, private_key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            key.wrong(format!("is not the key of {}", certificate.file.display()))
        }
        rustls::Error::InvalidCertificate(_) => certificate.wrong(error.to_string()),
        error => key.wrong(error.to_string()),
    })?;
    // Connections are few and long: a resumed one would save a millisecond, keep secrets in memory, and
    // stand on a client certificate that was verified another day.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Loaded { config: Arc::new(config), expires_unix_seconds })
}

/// When it runs out, in seconds of Unix time. One that has is served all the same, since some clients
/// do not look, but somebody must hear of it.
fn check_period(source: &Source<'_>, der: &CertificateDer<'_>) -> Result<u64, TlsFileError> {
    let period = identity::period(der);
    let (begins, ends) =
        period.ok_or_else(|| source.wrong("its first certificate cannot be read"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let file = source.file.display();
    if ends < now {
        tracing::warn!("{}: {file} has expired; clients will refuse it", source.setting);
    } else if begins > now {
        tracing::warn!("{}: {file} is not valid yet; clients will refuse it", source.setting);
    }
    Ok(ends)
}

fn verifier(
    source: &Source<'_>,
    auth: ClientAuth,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for root in source.certificates()? {
        roots.add(root).map_err(|error| source.wrong(error.to_string()))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| source.wrong(error.to_string()))
}
