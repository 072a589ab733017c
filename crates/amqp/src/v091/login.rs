//! The SASL answers a client may log in with: PLAIN (RFC 4616), AMQPLAIN, an older form that carries a
//! field table, and EXTERNAL (RFC 4422 appendix A), which says nothing because TLS has said it. Only
//! takes them apart; whether the password is right is decided elsewhere. Never shows what it was given.

use super::table::{TableView, Value};
use koine_broker::access::Secret;

/// Offered in `connection.start`, best first.
pub const MECHANISMS: &[u8] = b"PLAIN AMQPLAIN";
/// Where a certificate may say who the peer is. RabbitMQ offers it on every TLS connection: who has no
/// certificate gets a refusal it can make sense of.
pub const MECHANISMS_OF_TLS: &[u8] = b"PLAIN AMQPLAIN EXTERNAL";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Password {
        user: String,
        password: Secret,
    },
    /// Whoever the certificate names.
    Certificate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// Or one that is not offered here.
    UnknownMechanism,
    /// The response does not have the mechanism's form.
    MalformedResponse,
    /// Well-formed and never granted, whatever the password: somebody wants to act as somebody else, or
    /// has a name that no user can have.
    Impossible,
}

pub fn login(mechanism: &str, response: &[u8], offers_external: bool) -> Result<Login, LoginError> {
    match mechanism {
        "PLAIN" => plain(response),
        "AMQPLAIN" => amqplain(response),
        "EXTERNAL" if offers_external => Ok(Login::Certificate),
        _ => Err(LoginError::UnknownMechanism),
    }
}

/// `[authorization id] NUL user NUL password`. Nobody may act as another user, so that the
/// authorization id is empty (the only one RabbitMQ takes) or the user's own.
fn plain(response: &[u8]) -> Result<Login, LoginError> {
    let mut parts = response.split(|octet| *octet == 0);
    let (Some(authorization), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(LoginError::MalformedResponse);
    };
    if !authorization.is_empty() && authorization != user {
        return Err(LoginError::Impossible);
    }
    password_login(user, password)
}

/// A field table without its length, holding LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Result<Login, LoginError> {
    let table = TableView::new(response).map_err(|_| LoginError::MalformedResponse)?;
    let octets = |name: &str| match table.find(name) {
        Some(Value::LongString(octets) | Value::Binary(octets)) => Ok(octets),
        _ => Err(LoginError::MalformedResponse),
    };
    password_login(octets("LOGIN")?, octets("PASSWORD")?)
}

fn password_login(user: &[u8], password: &[u8]) -> Result<Login, LoginError> {
    let user = std::str::from_utf8(user).map_err(|_| LoginError::Impossible)?;
    Ok(Login::Password { user: user.to_owned(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mechanism: &str, response: &[u8], expect: Result<(&str, &str), LoginError>) {
        let found = login(mechanism, response, false);
        let expect = expect.map(|(user, password)| Login::Password {
            user: user.to_owned(),
            password: Secret::new(password),
        });
        assert_eq!(found, expect, "{mechanism} {}", response.escape_ascii());
    }

    #[test]
    fn plain_answers() {
        check("PLAIN", b"\0guest\0secret", Ok(("guest", "secret")));
        check("PLAIN", b"guest\0guest\0", Ok(("guest", "")));
        check("PLAIN", b"other\0guest\0secret", Err(LoginError::Impossible));
        check("PLAIN", b"\0gu\xFFest\0secret", Err(LoginError::Impossible));
        check("PLAIN", b"\0guest", Err(LoginError::MalformedResponse));
        check("PLAIN", b"\0guest\0sec\0ret", Err(LoginError::MalformedResponse));
        check("PLAIN", b"", Err(LoginError::MalformedResponse));
    }

    #[test]
    fn amqplain_answers() {
        check("AMQPLAIN", b"\x05LOGINS\0\0\0\x01u\x08PASSWORDS\0\0\0\x01p", Ok(("u", "p")));
        check("AMQPLAIN", b"\x05LOGINx\0\0\0\x01u\x08PASSWORDx\0\0\0\x01p", Ok(("u", "p")));
        check("AMQPLAIN", b"\x05LOGINS\0\0\0\x01u", Err(LoginError::MalformedResponse));
        check(
            "AMQPLAIN",
            b"\x05LOGINS\0\0\0\x01u\x08PASSWORDt\x01",
            Err(LoginError::MalformedResponse),
        );
        check("AMQPLAIN", b"\x05LOGINS\0\0\0\xFFu", Err(LoginError::MalformedResponse));
        check(
            "AMQPLAIN",
            b"\x05LOGINS\0\0\0\x01\xFF\x08PASSWORDS\0\0\0\x01p",
            Err(LoginError::Impossible),
        );
    }

    #[test]
    fn the_certificate_speaks_only_where_it_was_asked_to() {
        assert_eq!(login("EXTERNAL", b"", true), Ok(Login::Certificate));
        assert_eq!(login("EXTERNAL", b"anything", true), Ok(Login::Certificate));
        assert_eq!(login("EXTERNAL", b"", false), Err(LoginError::UnknownMechanism));
        assert_eq!(login("ANONYMOUS", b"", true), Err(LoginError::UnknownMechanism));
    }

    #[test]
    fn a_login_shows_no_password() {
        let shown = format!("{:?}", login("PLAIN", b"\0guest\0canary", false));
        assert!(shown.contains("guest") && !shown.contains("canary"), "{shown}");
    }
}
