//! Certificates for a first start: an authority of one's own, a certificate for this machine, and one
//! for each client. They are ordinary X.509 v3 as RFC 5280 has it, with P-256 keys, so that every
//! client's TLS library takes them. A file that exists is never written over.
//!
//! ```text
//! ca.pem, ca.key            the authority, ten years; its key is needed again for client certificates
//! server.pem, server.key    for `tls.certificate` and `tls.key`
//! client-NAME.pem, .key     for a user of that name
//! ```

use base64ct::{Base64, Encoding};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_ASN1_SIGNING};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::certificate::{Certificate, TbsCertificate, Version};
use x509_cert::der::asn1::{
    Any, BitString, GeneralizedTime, Ia5String, ObjectIdentifier, OctetString, SetOfVec, UtcTime,
    Utf8StringRef,
};
use x509_cert::der::{self, Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{AsExtension, Extension};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

pub const CA_FILE: &str = "ca.pem";
pub const CA_KEY_FILE: &str = "ca.key";
pub const SERVER_FILE: &str = "server.pem";
pub const SERVER_KEY_FILE: &str = "server.key";

const DAY: Duration = Duration::from_secs(86_400);
/// Ten years.
const CA_DAYS: u32 = 3_652;
/// The longest that Apple's systems take from any authority.
const LEAF_DAYS: u32 = 825;
/// Of a common name (RFC 5280, ub-common-name).
const NAME_CHARACTERS_MAX: usize = 64;
/// The longest serial number (RFC 5280 §4.1.2.2).
const SERIAL_BYTES: usize = 20;
const KEY_IDENTIFIER_BYTES: usize = 20;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// Where everything is that [`make`] has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub ca: PathBuf,
    pub server: Pair,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug)]
pub enum CertificateError {
    File {
        file: PathBuf,
        error: io::Error,
    },
    /// The authority's files are there and cannot be used.
    Authority {
        file: PathBuf,
        why: String,
    },
    /// Not a host name, address or user name.
    Name {
        name: String,
        why: &'static str,
    },
    /// The system has no random numbers, or a value has no DER form.
    Made(String),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::File { file, error } => match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    write!(f, "{} exists already, and is never written over", file.display())
                }
                _ => write!(f, "{}: {error}", file.display()),
            },
            CertificateError::Authority { file, why } => write!(f, "{}: {why}", file.display()),
            CertificateError::Name { name, why } => write!(f, "{name:?} {why}"),
            CertificateError::Made(why) => write!(f, "no certificate could be made: {why}"),
        }
    }
}

impl std::error::Error for CertificateError {}

impl From<der::Error> for CertificateError {
    fn from(error: der::Error) -> Self {
        CertificateError::Made(error.to_string())
    }
}

impl From<ring::error::Unspecified> for CertificateError {
    fn from(_: ring::error::Unspecified) -> Self {
        CertificateError::Made("the system gives no random numbers".to_owned())
    }
}

/// Makes an authority and the broker's certificate in `directory`, which must exist. The certificate is
/// good for `localhost`, both loopback addresses, this machine's name, and `names` (host names and
/// addresses).
pub fn make(directory: &Path, names: &[String]) -> Result<Made, CertificateError> {
    let paths = [CA_FILE, CA_KEY_FILE, SERVER_FILE, SERVER_KEY_FILE];
    // Before the first is written: half a set would be in the way of the next try.
    for path in paths.map(|name| directory.join(name)) {
        if path.symlink_metadata().is_ok() {
            let error = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(CertificateError::File { file: path, error });
        }
    }
    let mut alternatives = Vec::new();
    let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().chain(host_name());
    for name in own.chain(names.iter().cloned()) {
        let name = alternative(&name)?;
        if !alternatives.contains(&name) {
            alternatives.push(name);
        }
    }
    let ca = Authority::new()?;
    let key = Key::new()?;
    let host = names.first().cloned().or_else(host_name).unwrap_or("localhost".to_owned());
    let host = if host.chars().count() > NAME_CHARACTERS_MAX { "koine".to_owned() } else { host };
    let leaf = Leaf { common_name: &host, purpose: SERVER_AUTH, alternatives };
    let certificate = ca.certify(&key, leaf)?;

    let [ca_file, ca_key, server, server_key] = paths.map(|name| directory.join(name));
    write(&ca_file, CERTIFICATE, &ca.certificate.to_der()?, PUBLIC_MODE)?;
    write(&ca_key, PRIVATE_KEY, &ca.key.pkcs8, SECRET_MODE)?;
    write(&server_key, PRIVATE_KEY, &key.pkcs8, SECRET_MODE)?;
    write(&server, CERTIFICATE, &certificate.to_der()?, PUBLIC_MODE)?;
    Ok(Made { ca: ca_file, server: Pair { certificate: server, key: server_key } })
}

/// Makes a certificate whose common name is `user`, by the authority that [`make`] has left in
/// `directory`.
pub fn make_client(directory: &Path, user: &str) -> Result<Pair, CertificateError> {
    let wrong = |why| Err(CertificateError::Name { name: user.to_owned(), why });
    if user.is_empty() || user.chars().count() > NAME_CHARACTERS_MAX {
        return wrong("is not from 1 to 64 characters long");
    }
    if !user.chars().all(|c| c.is_alphanumeric() || "._-@+".contains(c)) || user.starts_with('.') {
        return wrong(
            "may hold letters, digits and . _ - @ + only, since it becomes a file's name",
        );
    }
    let ca = Authority::open(directory)?;
    let key = Key::new()?;
    let leaf = Leaf { common_name: user, purpose: CLIENT_AUTH, alternatives: Vec::new() };
    let certificate = ca.certify(&key, leaf)?;
    let pair = Pair {
        certificate: directory.join(format!("client-{user}.pem")),
        key: directory.join(format!("client-{user}.key")),
    };
    write(&pair.key, PRIVATE_KEY, &key.pkcs8, SECRET_MODE)?;
    write(&pair.certificate, CERTIFICATE, &certificate.to_der()?, PUBLIC_MODE)?;
    Ok(pair)
}

struct Key {
    pair: EcdsaKeyPair,
    /// The private key in its usual form (PKCS #8).
    pkcs8: Vec<u8>,
}

impl Key {
    fn new() -> Result<Self, CertificateError> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)?;
        Self::from_pkcs8(pkcs8.as_ref().to_vec())
            .map_err(|why| CertificateError::Made(why.to_string()))
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, ring::error::KeyRejected> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &random)?;
        Ok(Key { pair, pkcs8 })
    }

    fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn public_info(&self) -> Result<SubjectPublicKeyInfoOwned, CertificateError> {
        let parameters = Some(Any::encode_from(&P256)?);
        Ok(SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned { oid: EC_PUBLIC_KEY, parameters },
            subject_public_key: BitString::from_bytes(self.public())?,
        })
    }

    /// The leftmost 160 bits of the SHA-256 of the public key (RFC 7093 §2, method 1).
    fn identifier(&self) -> Result<OctetString, CertificateError> {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.public());
        Ok(OctetString::new(&digest.as_ref()[..KEY_IDENTIFIER_BYTES])?)
    }
}

struct Authority {
    key: Key,
    certificate: Certificate,
}

/// What distinguishes one certificate of an authority from another.
struct Leaf<'a> {
    common_name: &'a str,
    purpose: ObjectIdentifier,
    alternatives: Vec<GeneralName>,
}

impl Authority {
    fn new() -> Result<Self, CertificateError> {
        let key = Key::new()?;
        // Part of the name, so that two authorities in one trust store are not taken for each other.
        let mark = random(4)?.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let subject = name(&[(ORGANIZATION, "Koine"), (COMMON_NAME, &format!("Koine CA {mark}"))])?;
        let mut extensions = Vec::new();
        add(&mut extensions, &BasicConstraints { ca: true, path_len_constraint: Some(0) }, true)?;
        let usage = KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign);
        add(&mut extensions, &usage, true)?;
        add(&mut extensions, &SubjectKeyIdentifier(key.identifier()?), false)?;
        let tbs = to_be_signed(subject.clone(), subject, &key, CA_DAYS, extensions)?;
        let certificate = sign(&key, tbs)?;
        Ok(Authority { key, certificate })
    }

    fn open(directory: &Path) -> Result<Self, CertificateError> {
        let (file, key_file) = (directory.join(CA_FILE), directory.join(CA_KEY_FILE));
        let read = |file: &PathBuf| {
            let failed = |error| CertificateError::File { file: file.clone(), error };
            std::fs::read(file).map_err(failed)
        };
        let wrong = |file: &PathBuf, why: &dyn fmt::Display| CertificateError::Authority {
            file: file.clone(),
            why: why.to_string(),
        };
        let der =
            CertificateDer::from_pem_slice(&read(&file)?).map_err(|error| wrong(&file, &error))?;
        let certificate = Certificate::from_der(&der).map_err(|error| wrong(&file, &error))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&key_file)?)
            .map_err(|error| wrong(&key_file, &error))?;
        let key =
            Key::from_pkcs8(key.secret_der().to_vec()).map_err(|error| wrong(&key_file, &error))?;
        let certified = &certificate.tbs_certificate.subject_public_key_info.subject_public_key;
        if certified.as_bytes() != Some(key.public()) {
            return Err(wrong(&key_file, &format!("is not the key of {}", file.display())));
        }
        Ok(Authority { key, certificate })
    }

    fn certify(&self, key: &Key, leaf: Leaf<'_>) -> Result<Certificate, CertificateError> {
        let mut extensions = Vec::new();
        add(&mut extensions, &BasicConstraints { ca: false, path_len_constraint: None }, true)?;
        add(&mut extensions, &KeyUsage(KeyUsages::DigitalSignature.into()), true)?;
        add(&mut extensions, &ExtendedKeyUsage(vec![leaf.purpose]), false)?;
        add(&mut extensions, &SubjectKeyIdentifier(key.identifier()?), false)?;
        let issuer = AuthorityKeyIdentifier {
            key_identifier: Some(self.key.identifier()?),
            ..AuthorityKeyIdentifier::default()
        };
        add(&mut extensions, &issuer, false)?;
        if !leaf.alternatives.is_empty() {
            add(&mut extensions, &SubjectAltName(leaf.alternatives), false)?;
        }
        let subject = name(&[(COMMON_NAME, leaf.common_name)])?;
        let issuer = self.certificate.tbs_certificate.subject.clone();
        sign(&self.key, to_be_signed(issuer, subject, key, LEAF_DAYS, extensions)?)
    }
}

fn to_be_signed(
    issuer: Name,
    subject: Name,
    key: &Key,
    days: u32,
    extensions: Vec<Extension>,
) -> Result<TbsCertificate, CertificateError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Whole seconds; a day ago, because clocks differ.
    let begin = Duration::from_secs(now.as_secs()).saturating_sub(DAY);
    let mut serial = random(SERIAL_BYTES)?;
    // Positive, and of full length: the first bit is clear and the second set.
    serial[0] = serial[0] & 0x7F | 0x40;
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&serial)?,
        signature: signature_algorithm(),
        issuer,
        validity: Validity { not_before: time(begin)?, not_after: time(begin + DAY * days)? },
        subject,
        subject_public_key_info: key.public_info()?,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    })
}

/// In the form that RFC 5280 §4.1.2.5 asks for: another from 2050 on.
fn time(since_epoch: Duration) -> Result<Time, CertificateError> {
    Ok(match UtcTime::from_unix_duration(since_epoch) {
        Ok(time) => Time::UtcTime(time),
        Err(_) => Time::GeneralTime(GeneralizedTime::from_unix_duration(since_epoch)?),
    })
}

fn sign(key: &Key, tbs_certificate: TbsCertificate) -> Result<Certificate, CertificateError> {
    let signature = key.pair.sign(&SystemRandom::new(), &tbs_certificate.to_der()?)?;
    Ok(Certificate {
        tbs_certificate,
        signature_algorithm: signature_algorithm(),
        signature: BitString::from_bytes(signature.as_ref())?,
    })
}

fn signature_algorithm() -> AlgorithmIdentifierOwned {
    // Without parameters, not with NULL (RFC 5758 §3.2).
    AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA256, parameters: None }
}

fn add(
    extensions: &mut Vec<Extension>,
    extension: &impl AsExtension,
    critical: bool,
) -> Result<(), CertificateError> {
    let mut made = extension.to_extension(&Name::default(), extensions)?;
    made.critical = critical;
    extensions.push(made);
    Ok(())
}

/// One part for each attribute, the most general first.
fn name(parts: &[(ObjectIdentifier, &str)]) -> Result<Name, CertificateError> {
    let mut sequence = Vec::new();
    for (oid, value) in parts {
        let value = Any::encode_from(&Utf8StringRef::new(value)?)?;
        let attribute = AttributeTypeAndValue { oid: *oid, value };
        sequence.push(RelativeDistinguishedName(SetOfVec::try_from(vec![attribute])?));
    }
    Ok(RdnSequence(sequence))
}

/// A host name or an address.
fn alternative(name: &str) -> Result<GeneralName, CertificateError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        return Ok(GeneralName::IpAddress(OctetString::new(bytes)?));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let rest = name.strip_prefix("*.").unwrap_or(name);
    if name.len() > 253 || !rest.split('.').all(is_label) {
        let why = "is not a host name or an address";
        return Err(CertificateError::Name { name: name.to_owned(), why });
    }
    Ok(GeneralName::DnsName(Ia5String::new(name)?))
}

/// What this machine calls itself, if that can stand in a certificate.
fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    alternative(&name).is_ok().then_some(name)
}

fn random(count: usize) -> Result<Vec<u8>, CertificateError> {
    let mut bytes = vec![0; count];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(bytes)
}

const CERTIFICATE: &str = "CERTIFICATE";
const PRIVATE_KEY: &str = "PRIVATE KEY";
const PUBLIC_MODE: u32 = 0o644;
const SECRET_MODE: u32 = 0o600;

fn write(file: &Path, label: &str, der: &[u8], mode: u32) -> Result<(), CertificateError> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(mode);
    let written = options.open(file).and_then(|mut open| {
        open.write_all(pem(label, der).as_bytes())?;
        open.sync_all()
    });
    written.map_err(|error| CertificateError::File { file: file.to_owned(), error })
}

/// RFC 7468: lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let coded = Base64::encode_string(der);
    let mut rest = coded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests;
