//! A name and a password out of an `Authorization` header (HTTP Basic, RFC 7617).

use base64ct::{Base64, Encoding};
use hyper::header::HeaderValue;
use koine_broker::access::Secret;

/// Longest header looked at.
const HEADER_BYTES_MAX: usize = 4096;

/// The header is not one that we understand.
#[derive(Debug, PartialEq)]
pub struct NotBasic;

pub fn basic(header: &HeaderValue) -> Result<(String, Secret), NotBasic> {
    let text = header.to_str().map_err(|_| NotBasic)?;
    let (scheme, encoded) = text.split_once(' ').ok_or(NotBasic)?;
    if !scheme.eq_ignore_ascii_case("basic") || text.len() > HEADER_BYTES_MAX {
        return Err(NotBasic);
    }
    let decoded = Base64::decode_vec(encoded.trim()).map_err(|_| NotBasic)?;
    let mut parts = decoded.splitn(2, |byte| *byte == b':');
    let (user, password) = parts.next().zip(parts.next()).ok_or(NotBasic)?;
    let user = String::from_utf8(user.to_vec()).map_err(|_| NotBasic)?;
    Ok((user, Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expect: Option<(&str, &str)>) {
        let header = HeaderValue::from_str(header).expect("a header's characters");
        let expect = expect.map(|(user, password)| (user.to_owned(), Secret::new(password)));
        assert_eq!(basic(&header).ok(), expect, "{header:?}");
    }

    #[test]
    fn basic_credentials_are_read_and_others_refused() {
        check("Basic YWxpY2U6cGE6c3M=", Some(("alice", "pa:ss")));
        check("basic YWxpY2U6", Some(("alice", "")));
        check("Basic YWxpY2U=", None);
        check("Basic not base64", None);
        check("Bearer YWxpY2U6cGE6c3M=", None);
        check("Basic", None);
        check(&format!("Basic {}", "YWFh".repeat(2000)), None);
    }
}
