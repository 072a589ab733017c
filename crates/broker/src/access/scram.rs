//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), the server's side. Protocol-independent: Kafka's
//! SASL and MQTT 5's AUTH carry the same four messages. Channel binding is not offered, and a client that
//! would use it is told so.

use super::secret::{same_bytes, Secret, SecretRng};
use super::Access;
use base64ct::{Base64, Encoding};
use ring::{digest, hmac, pbkdf2};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;

/// Iterations of verifiers that we make; RFC 7677 asks for at least 4096, Kafka takes at most 16384.
pub const ITERATIONS: u32 = 8192;
pub const ITERATIONS_MIN: u32 = 4096;
pub const ITERATIONS_MAX: u32 = 16_384;

/// Longest message of a client.
const MESSAGE_BYTES_MAX: usize = 4096;
const NONCE_BYTES: usize = 18;
const SALT_BYTES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mechanism {
    Sha256,
    Sha512,
}

impl Mechanism {
    pub const ALL: [Mechanism; 2] = [Mechanism::Sha256, Mechanism::Sha512];

    /// The name that SASL knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Sha256 => "SCRAM-SHA-256",
            Mechanism::Sha512 => "SCRAM-SHA-512",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    pub fn hash_bytes(self) -> usize {
        match self {
            Mechanism::Sha256 => 32,
            Mechanism::Sha512 => 64,
        }
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Mechanism::Sha256 => hmac::HMAC_SHA256,
            Mechanism::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec()
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Mechanism::Sha256 => &digest::SHA256,
            Mechanism::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let algorithm = match self {
            Mechanism::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Mechanism::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.hash_bytes()];
        pbkdf2::derive(algorithm, iterations, salt, password, &mut salted);
        salted
    }
}

/// What the server keeps of a password: enough to recognise who knows it, not to log in with it
/// elsewhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    pub salt: Vec<u8>,
    pub iterations: u32,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// Takes milliseconds.
    pub fn of_password(
        mechanism: Mechanism,
        password: &Secret,
        salt: Vec<u8>,
        iterations: u32,
    ) -> Self {
        let count = NonZeroU32::new(iterations.max(1)).expect("at least 1");
        let salted = mechanism.salted(password.expose(), &salt, count);
        Self::of_salted_password(mechanism, &salted, salt, iterations)
    }

    /// From what a Kafka client sends to set a password: it did the iterations itself.
    pub fn of_salted_password(
        mechanism: Mechanism,
        salted: &[u8],
        salt: Vec<u8>,
        iterations: u32,
    ) -> Self {
        let client_key = mechanism.hmac(salted, b"Client Key");
        let stored_key = mechanism.hash(&client_key);
        let server_key = mechanism.hmac(salted, b"Server Key");
        Verifier { salt, iterations, stored_key, server_key }
    }

    pub(super) fn is_of(&self, mechanism: Mechanism, password: &Secret) -> bool {
        if self.iterations > ITERATIONS_MAX {
            return false;
        }
        let made = Self::of_password(mechanism, password, self.salt.clone(), self.iterations);
        same_bytes(&made.stored_key, &self.stored_key)
    }
}

/// Why an exchange ends without a login. The names are those of RFC 5802 §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramError {
    /// Not a message of SCRAM, or none that may come now.
    InvalidEncoding,
    ExtensionsNotSupported,
    ChannelBindingNotSupported,
    /// The nonce is not the one of this exchange.
    OtherNonce,
    /// No such user, or not its password: nobody is told which.
    InvalidProof,
}

impl ScramError {
    /// The value of `e=` in the server's last message.
    pub fn name(self) -> &'static str {
        match self {
            ScramError::InvalidEncoding => "invalid-encoding",
            ScramError::ExtensionsNotSupported => "extensions-not-supported",
            ScramError::ChannelBindingNotSupported => "channel-binding-not-supported",
            ScramError::OtherNonce => "other-error",
            ScramError::InvalidProof => "invalid-proof",
        }
    }
}

/// One login between the client's first and its last message.
pub struct ServerExchange {
    mechanism: Mechanism,
    user: String,
    /// `None` for a user who does not exist: the proof is checked all the same, and is wrong.
    verifier: Option<Verifier>,
    decoy: Verifier,
    gs2_header: String,
    nonce: String,
    /// The client's part at the front of it.
    client_nonce_bytes: usize,
    takes_doubled_nonce: bool,
    /// client-first-message-bare, server-first-message.
    auth_message_start: String,
}

impl fmt::Debug for ServerExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerExchange").field("user", &self.user).finish_non_exhaustive()
    }
}

impl ServerExchange {
    /// Takes the client's first message. The answer is server-first-message; a user who does not exist
    /// gets one as well, always with the same salt.
    pub fn begin(
        mechanism: Mechanism,
        client_first: &[u8],
        access: &Access,
        rng: &mut SecretRng,
    ) -> Result<(Self, String), ScramError> {
        let first = ClientFirst::parse(client_first)?;
        let user = access.user(&first.user);
        let verifier = user.and_then(|user| user.verifiers.scram(mechanism)).cloned();
        let decoy = access.decoy(mechanism, &first.user);
        let nonce = format!("{}{}", first.nonce, base64(&rng.bytes::<NONCE_BYTES>()));
        let shown = verifier.as_ref().unwrap_or(&decoy);
        let server_first = format!("r={nonce},s={},i={}", base64(&shown.salt), shown.iterations);
        let exchange = ServerExchange {
            mechanism,
            user: first.user,
            verifier,
            decoy,
            gs2_header: first.gs2_header,
            nonce,
            client_nonce_bytes: first.nonce.len(),
            takes_doubled_nonce: false,
            auth_message_start: format!("{},{server_first}", first.bare),
        };
        Ok((exchange, server_first))
    }

    /// librdkafka up to 2.6.0 puts its own nonce in front of the server's answer, which begins with it
    /// already. Taken in this one form, it holds all of the server's nonce, and so of this exchange
    /// alone; Kafka took it up to version 3.9.
    pub fn taking_doubled_nonce(mut self) -> Self {
        self.takes_doubled_nonce = true;
        self
    }

    fn is_nonce(&self, given: &str) -> bool {
        let own = &self.nonce[..self.client_nonce_bytes];
        let given = match given.strip_prefix(own) {
            Some(rest) if self.takes_doubled_nonce && rest.len() == self.nonce.len() => rest,
            _ => given,
        };
        same_bytes(given.as_bytes(), self.nonce.as_bytes())
    }

    /// Whoever wants to be logged in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Takes the client's last message. The answer is server-final-message, for when the login is
    /// granted.
    pub fn finish(&self, client_final: &[u8]) -> Result<String, ScramError> {
        let text = text_of(client_final)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::InvalidEncoding)?;
        let proof = from_base64(proof).ok_or(ScramError::InvalidEncoding)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|attribute| attribute.strip_prefix("c="));
        let binding = binding.and_then(from_base64).ok_or(ScramError::InvalidEncoding)?;
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        if binding != self.gs2_header.as_bytes() {
            return Err(ScramError::ChannelBindingNotSupported);
        }
        // Whole, not just its beginning (CVE-2024-56128).
        if !nonce.is_some_and(|nonce| self.is_nonce(nonce)) {
            return Err(ScramError::OtherNonce);
        }
        let auth_message = format!("{},{without_proof}", self.auth_message_start);
        let verifier = self.verifier.as_ref().unwrap_or(&self.decoy);
        let signature = self.mechanism.hmac(&verifier.stored_key, auth_message.as_bytes());
        let is_right = proof.len() == signature.len() && {
            let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
            same_bytes(&self.mechanism.hash(&client_key), &verifier.stored_key)
        };
        if !is_right || self.verifier.is_none() {
            return Err(ScramError::InvalidProof);
        }
        let signature = self.mechanism.hmac(&verifier.server_key, auth_message.as_bytes());
        Ok(format!("v={}", base64(&signature)))
    }
}

impl Access {
    /// What a user who does not exist seems to have: the same each time, and on every node.
    fn decoy(&self, mechanism: Mechanism, user: &str) -> Verifier {
        let bytes = mechanism.hmac(&self.durable.decoy_key, user.as_bytes());
        Verifier {
            salt: bytes[..SALT_BYTES].to_vec(),
            iterations: ITERATIONS,
            stored_key: mechanism.hash(&bytes),
            server_key: bytes,
        }
    }
}

struct ClientFirst {
    gs2_header: String,
    bare: String,
    user: String,
    nonce: String,
}

impl ClientFirst {
    /// `n,[a=authzid],n=user,r=nonce[,extensions]` (RFC 5802 §7).
    fn parse(message: &[u8]) -> Result<Self, ScramError> {
        let text = text_of(message)?;
        let mut parts = text.splitn(3, ',');
        let flag = parts.next().unwrap_or_default();
        let authzid = parts.next().ok_or(ScramError::InvalidEncoding)?;
        let bare = parts.next().ok_or(ScramError::InvalidEncoding)?;
        match flag {
            // It could bind channels, but takes us for one who cannot: true.
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(ScramError::ChannelBindingNotSupported),
            _ => return Err(ScramError::InvalidEncoding),
        }
        let mut attributes = bare.split(',');
        let first = attributes.next().unwrap_or_default();
        if first.starts_with("m=") {
            return Err(ScramError::ExtensionsNotSupported);
        }
        let user = first.strip_prefix("n=").and_then(unescaped);
        let user = user.filter(|user| !user.is_empty()).ok_or(ScramError::InvalidEncoding)?;
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| is_printable(nonce)).ok_or(ScramError::InvalidEncoding)?;
        // Nobody logs in as somebody else.
        let acts_for_itself = match authzid.strip_prefix("a=") {
            Some(name) => unescaped(name).as_deref() == Some(&user),
            None => authzid.is_empty(),
        };
        if !acts_for_itself {
            return Err(ScramError::InvalidEncoding);
        }
        Ok(ClientFirst {
            gs2_header: format!("{flag},{authzid},"),
            bare: bare.to_owned(),
            user,
            nonce: nonce.to_owned(),
        })
    }
}

fn text_of(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(ScramError::InvalidEncoding);
    }
    std::str::from_utf8(message).map_err(|_| ScramError::InvalidEncoding)
}

fn is_printable(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// A name with its `=2C` and `=3D` turned back; any other `=` is malformed.
fn unescaped(name: &str) -> Option<String> {
    let mut pieces = name.split('=');
    let mut plain = pieces.next()?.to_owned();
    for piece in pieces {
        let (sign, rest) = match piece.as_bytes() {
            [b'2', b'C', ..] => (',', &piece[2..]),
            [b'3', b'D', ..] => ('=', &piece[2..]),
            _ => return None,
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    Some(plain)
}

fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// Padded and canonical, or nothing.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text).ok()
}

#[cfg(test)]
mod tests;
