//! What a certificate says of its owner, as text. Only certificates that were verified, or that the
//! operator named in the settings, are read here.

use crate::config::UserFrom;
use koine_broker::session::ClientCertificate;
use std::fmt::Write;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::name::Name;
use x509_cert::Certificate;

/// Names of one kind that are read of one certificate.
const NAMES_MAX: usize = 100;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The short names of RFC 4514 §3, which are those of RFC 2253. Kafka (Java) and RabbitMQ write the
/// same; an attribute that is not here is written as number and hexadecimal value.
const SHORT_NAMES: [(&str, ObjectIdentifier); 9] = [
    ("CN", COMMON_NAME),
    ("L", ObjectIdentifier::new_unwrap("2.5.4.7")),
    ("ST", ObjectIdentifier::new_unwrap("2.5.4.8")),
    ("O", ObjectIdentifier::new_unwrap("2.5.4.10")),
    ("OU", ObjectIdentifier::new_unwrap("2.5.4.11")),
    ("C", ObjectIdentifier::new_unwrap("2.5.4.6")),
    ("STREET", ObjectIdentifier::new_unwrap("2.5.4.9")),
    ("DC", ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.25")),
    ("UID", ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1")),
];

/// `None` if it cannot be read as a whole: half an identity is none.
pub fn read(der: &[u8]) -> Option<ClientCertificate> {
    let certificate = Certificate::from_der(der).ok()?;
    let subject = &certificate.tbs_certificate.subject;
    let mut identity = ClientCertificate {
        subject: distinguished_name(subject)?,
        common_name: common_name(subject),
        ..ClientCertificate::default()
    };
    if let Some((_, names)) = certificate.tbs_certificate.get::<SubjectAltName>().ok()? {
        for name in names.0.iter().take(NAMES_MAX) {
            match name {
                GeneralName::DnsName(name) => identity.dns_names.push(name.to_string()),
                GeneralName::Rfc822Name(name) => identity.email_addresses.push(name.to_string()),
                _ => {}
            }
        }
    }
    Some(identity)
}

/// The user's name. An empty one, or one with a NUL or another control character in it, is none: it
/// would look like another name somewhere.
pub fn user(certificate: &ClientCertificate, from: UserFrom) -> Option<String> {
    let name = match from {
        UserFrom::CommonName => certificate.common_name.as_ref(),
        UserFrom::DistinguishedName => Some(&certificate.subject),
        UserFrom::San => {
            certificate.email_addresses.first().or_else(|| certificate.dns_names.first())
        }
    };
    name.filter(|name| !name.is_empty() && !name.contains(char::is_control)).cloned()
}

/// Seconds of Unix time from which and until which it holds.
pub fn period(der: &[u8]) -> Option<(u64, u64)> {
    let validity = Certificate::from_der(der).ok()?.tbs_certificate.validity;
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
    Some((seconds(validity.not_before), seconds(validity.not_after)))
}

/// The last one in the certificate's order is the most specific.
fn common_name(name: &Name) -> Option<String> {
    let mut attributes = name.0.iter().rev().flat_map(|part| part.0.iter());
    attributes.find(|attribute| attribute.oid == COMMON_NAME).and_then(text)
}

/// RFC 4514: parts from last to first.
fn distinguished_name(name: &Name) -> Option<String> {
    let mut out = String::new();
    for part in name.0.iter().rev() {
        for (index, attribute) in part.0.iter().enumerate() {
            if !out.is_empty() {
                out.push(if index == 0 { ',' } else { '+' });
            }
            put_attribute(&mut out, attribute)?;
        }
    }
    Some(out)
}

fn put_attribute(out: &mut String, attribute: &AttributeTypeAndValue) -> Option<()> {
    let known = SHORT_NAMES.iter().find(|(_, oid)| *oid == attribute.oid);
    if let (Some((name, _)), Some(value)) = (known, text(attribute)) {
        out.push_str(name);
        out.push('=');
        put_escaped(out, &value);
        return Some(());
    }
    let _ = write!(out, "{}=#", attribute.oid);
    for byte in attribute.value.to_der().ok()? {
        let _ = write!(out, "{byte:02x}");
    }
    Some(())
}

/// RFC 4514 §2.4.
fn put_escaped(out: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        match character {
            '\0' => out.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', character]),
            '#' if index == 0 => out.push_str("\\#"),
            ' ' if index == 0 || index == last => out.push_str("\\ "),
            _ => out.push(character),
        }
    }
}

/// The value of an attribute that is a string of one of the kinds that certificates use.
fn text(attribute: &AttributeTypeAndValue) -> Option<String> {
    let bytes = attribute.value.value();
    match attribute.value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => {
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        }
        Tag::BmpString => {
            let units = bytes.chunks(2).map(|pair| match pair {
                [high, low] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            });
            String::from_utf16(&units.collect::<Option<Vec<u16>>>()?).ok()
        }
        _ => None,
    }
}
