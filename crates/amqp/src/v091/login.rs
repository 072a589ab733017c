//! The SASL answers a client may log in with: PLAIN (RFC 4616) and AMQPLAIN, an older form that
//! carries a field table. Only takes them apart; whether the password is right is decided elsewhere.

use super::table::{TableView, Value};

/// Offered in `connection.start`, best first.
pub const MECHANISMS: &[u8] = b"PLAIN AMQPLAIN";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    pub user: &'a [u8],
    pub password: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginError {
    UnknownMechanism,
    /// The response does not have the mechanism's form.
    MalformedResponse,
}

pub fn credentials<'a>(mechanism: &str, response: &'a [u8]) -> Result<Credentials<'a>, LoginError> {
    match mechanism {
        "PLAIN" => plain(response).ok_or(LoginError::MalformedResponse),
        "AMQPLAIN" => amqplain(response).ok_or(LoginError::MalformedResponse),
        _ => Err(LoginError::UnknownMechanism),
    }
}

/// `[authorization id] NUL user NUL password`; the authorization id is ignored.
fn plain(response: &[u8]) -> Option<Credentials<'_>> {
    let mut parts = response.splitn(3, |octet| *octet == 0);
    let (_, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Credentials { user, password })
}

/// A field table without its length, holding LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<Credentials<'_>> {
    let table = TableView::new(response).ok()?;
    match (table.find("LOGIN"), table.find("PASSWORD")) {
        (Some(Value::LongString(user)), Some(Value::LongString(password))) => {
            Some(Credentials { user, password })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_answers() {
        let check = |mechanism: &str, response: &[u8], expect: Result<(&str, &str), LoginError>| {
            let found = credentials(mechanism, response);
            let expect = expect.map(|(user, password)| Credentials {
                user: user.as_bytes(),
                password: password.as_bytes(),
            });
            assert_eq!(found, expect, "{mechanism} {response:?}");
        };
        check("PLAIN", b"\0guest\0secret", Ok(("guest", "secret")));
        check("PLAIN", b"other\0guest\0", Ok(("guest", "")));
        check("PLAIN", b"\0guest", Err(LoginError::MalformedResponse));
        check("PLAIN", b"", Err(LoginError::MalformedResponse));
        check("AMQPLAIN", b"\x05LOGINS\0\0\0\x01u\x08PASSWORDS\0\0\0\x01p", Ok(("u", "p")));
        check("AMQPLAIN", b"\x05LOGINS\0\0\0\x01u", Err(LoginError::MalformedResponse));
        check("AMQPLAIN", b"\x05LOGINS\0\0\0\xFFu", Err(LoginError::MalformedResponse));
        check("EXTERNAL", b"", Err(LoginError::UnknownMechanism));
    }
}
