//! The client's end of TLS, by rustls: what it trusts, shows and speaks is chosen per connection. Certificates are in
//! `certificates/`: `ca` signed all that is good, and `intermediate`, which signed `bob`; `other-ca` signed `mallory`,
//! who has the same name as `alice`.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::wire;

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// The path of a file of [`certificates`](self), as an argument.
pub fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls/certificates");
    path.join(name).to_str().unwrap().to_owned()
}

pub fn certificates(name: &str) -> Vec<CertificateDer<'static>> {
    let found = CertificateDer::pem_file_iter(file(&format!("{name}.pem"))).unwrap();
    found.map(Result::unwrap).collect()
}

/// One version each.
pub const VERSIONS: [&[&SupportedProtocolVersion]; 2] =
    [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

/// How a client connects.
#[derive(Clone)]
pub struct Dial {
    pub versions: &'static [&'static SupportedProtocolVersion],
    pub trusts: &'static str,
    /// The certificate and key it shows if it is asked.
    pub shows: Option<&'static str>,
}

impl Default for Dial {
    fn default() -> Dial {
        Dial { versions: rustls::ALL_VERSIONS, trusts: "ca", shows: None }
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} trusting {}, showing {:?}", self.versions, self.trusts, self.shows)
    }
}

impl Dial {
    pub fn connection(&self) -> ClientConnection {
        connection_of(Arc::new(self.config()))
    }

    pub fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(self.trusts));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        match self.shows {
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(certificates(name), key).unwrap()
            }
            None => builder.with_no_client_auth(),
        }
    }

    /// Up to the client's last word of the handshake. In TLS 1.3 the broker may still say no.
    pub fn connect(&self, address: &str) -> io::Result<Tls> {
        connect_by(self.connection(), address)
    }
}

pub fn connection_of(config: Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap()
}

pub fn connect_by(connection: ClientConnection, address: &str) -> io::Result<Tls> {
    let mut tls = StreamOwned::new(connection, wire::open(address)?);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

pub fn connect(address: &str) -> Tls {
    Dial::default().connect(address).unwrap()
}
