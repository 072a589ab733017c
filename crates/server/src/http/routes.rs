//! From a request line to what is asked. Pure.

use super::{percent, AdminRequest, Kind, TailFrom, TailRequest};
use crate::metrics::exposition::Format;
use koine_broker::access::Secret;
use serde_json::Value;
use std::time::Duration;

const LIST_LIMIT_DEFAULT: usize = 1000;
const LIST_LIMIT_MAX: usize = 10_000;
const TAIL_LIMIT_DEFAULT: usize = 100;
const TAIL_LIMIT_MAX: usize = 1000;
const TAIL_WAIT_MS_MAX: u64 = 30_000;

pub struct Target<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub body: &'a [u8],
    /// From `Accept`.
    pub format: Format,
}

#[derive(Debug, PartialEq)]
pub enum Route {
    Live,
    Index,
    Ask(AdminRequest),
}

#[derive(Debug, PartialEq)]
pub enum Refusal {
    NoSuchPath,
    WrongMethod { allow: &'static str },
    Invalid(String),
}

pub fn route(target: &Target<'_>) -> Result<Route, Refusal> {
    let segments: Option<Vec<String>> =
        target.path.trim_matches('/').split('/').map(percent::decode).collect();
    let segments = segments
        .ok_or_else(|| Refusal::Invalid("the path is not valid percent-encoded UTF-8".into()))?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let get = target.method == "GET";
    let only_get = |route| {
        if get {
            Ok(route)
        } else {
            Err(Refusal::WrongMethod { allow: "GET" })
        }
    };
    match segments.as_slice() {
        [""] => only_get(Route::Index),
        ["health", "live"] => only_get(Route::Live),
        ["health", "ready"] => only_get(Route::Ask(AdminRequest::Ready)),
        ["metrics"] => only_get(Route::Ask(AdminRequest::Metrics { format: target.format })),
        ["koine", "v1", "status"] => only_get(Route::Ask(AdminRequest::Status)),
        ["koine", "v1", "tail", name] if get => tail(name, target.query),
        ["koine", "v1", "tail", _] => Err(Refusal::WrongMethod { allow: "GET" }),
        ["koine", "v1", kind] => {
            collection(Kind::by_name(kind).ok_or(Refusal::NoSuchPath)?, target)
        }
        ["koine", "v1", kind, name] => {
            item(Kind::by_name(kind).ok_or(Refusal::NoSuchPath)?, (*name).to_owned(), target)
        }
        _ => Err(Refusal::NoSuchPath),
    }
}

fn collection(kind: Kind, target: &Target<'_>) -> Result<Route, Refusal> {
    let creatable = kind.is_created();
    match target.method {
        "GET" => {
            let query = Query::read(target.query, &["after", "limit"])?;
            let limit =
                query.number("limit", LIST_LIMIT_DEFAULT as u64, LIST_LIMIT_MAX as u64)? as usize;
            let after = query.text("after").map(str::to_owned);
            Ok(Route::Ask(AdminRequest::List { kind, after, limit }))
        }
        "POST" if creatable => create(kind, target.body),
        _ if creatable => Err(Refusal::WrongMethod { allow: "GET, POST" }),
        _ => Err(Refusal::WrongMethod { allow: "GET" }),
    }
}

fn item(kind: Kind, name: String, target: &Target<'_>) -> Result<Route, Refusal> {
    match target.method {
        "GET" => Ok(Route::Ask(AdminRequest::Describe { kind, name })),
        "DELETE" => Ok(Route::Ask(AdminRequest::Delete { kind, name })),
        "PUT" if kind.is_set() => set(kind, name, target.body),
        _ if kind.is_set() => Err(Refusal::WrongMethod { allow: "GET, PUT, DELETE" }),
        _ => Err(Refusal::WrongMethod { allow: "GET, DELETE" }),
    }
}

fn create(kind: Kind, body: &[u8]) -> Result<Route, Refusal> {
    let Ok(Value::Object(mut options)) = serde_json::from_slice(body) else {
        return Err(Refusal::Invalid("the body must be a JSON object with a name".into()));
    };
    let Some(Value::String(name)) = options.remove("name") else {
        return Err(Refusal::Invalid("\"name\" is missing or not a string".into()));
    };
    let password = take_password(kind, &mut options)?;
    Ok(Route::Ask(AdminRequest::Create { kind, name, options, password }))
}

fn set(kind: Kind, name: String, body: &[u8]) -> Result<Route, Refusal> {
    let Ok(Value::Object(mut options)) = serde_json::from_slice(body) else {
        return Err(Refusal::Invalid("the body must be a JSON object".into()));
    };
    let password = take_password(kind, &mut options)?;
    Ok(Route::Ask(AdminRequest::Set { kind, name, options, password }))
}

/// A user's password, out of the options: those may be shown.
fn take_password(
    kind: Kind,
    options: &mut serde_json::Map<String, Value>,
) -> Result<Option<Secret>, Refusal> {
    if kind != Kind::Users {
        return Ok(None);
    }
    match options.remove("password") {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(Secret::new(text))),
        Some(_) => Err(Refusal::Invalid("\"password\" must be a string, and not empty".into())),
    }
}

fn tail(name: &str, query: &str) -> Result<Route, Refusal> {
    let query = Query::read(query, &["partition", "from", "limit", "wait_ms"])?;
    let from = match query.text("from") {
        None | Some("end") => TailFrom::End,
        Some("start") => TailFrom::Start,
        Some(text) => TailFrom::Offset(
            text.parse()
                .map_err(|_| Refusal::Invalid("\"from\" must be start, end or an offset".into()))?,
        ),
    };
    Ok(Route::Ask(AdminRequest::Tail(TailRequest {
        name: name.to_owned(),
        partition: query.number("partition", 0, u64::from(u32::MAX))? as u32,
        from,
        limit: query.number("limit", TAIL_LIMIT_DEFAULT as u64, TAIL_LIMIT_MAX as u64)? as usize,
        wait: Duration::from_millis(query.number("wait_ms", 0, TAIL_WAIT_MS_MAX)?),
    })))
}

/// The `a=1&b=2` part; unknown keys are refused, so that a typing mistake is not ignored.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(text: &str, known: &[&str]) -> Result<Self, Refusal> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = percent::decode(key).zip(percent::decode(&value.replace('+', " ")));
            let (key, value) = decoded
                .ok_or_else(|| Refusal::Invalid(format!("cannot read {pair:?} in the query")))?;
            if !known.contains(&key.as_str()) {
                return Err(Refusal::Invalid(format!(
                    "unknown query key {key:?}; known: {}",
                    known.join(", ")
                )));
            }
            pairs.push((key, value));
        }
        Ok(Query(pairs))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn number(&self, key: &str, default: u64, max: u64) -> Result<u64, Refusal> {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        match text.parse::<u64>() {
            Ok(number) if number <= max => Ok(number),
            _ => Err(Refusal::Invalid(format!("{key:?} must be a number up to {max}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Result<Route, Refusal>) {
        let mut words = line.splitn(3, ' ');
        let (method, uri) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let body = words.next().unwrap_or_default().as_bytes();
        assert_eq!(
            route(&Target { method, path, query, body, format: Format::Text }),
            expect,
            "{line}"
        );
    }

    fn invalid(why: &str) -> Result<Route, Refusal> {
        Err(Refusal::Invalid(why.into()))
    }

    #[test]
    fn paths_lead_where_they_say() {
        let ask = |request| Ok(Route::Ask(request));
        let kind = Kind::Topics;
        check("GET /", Ok(Route::Index));
        check("GET /health/live", Ok(Route::Live));
        check("GET /health/ready", ask(AdminRequest::Ready));
        check("GET /koine/v1/status", ask(AdminRequest::Status));
        check("GET /metrics", ask(AdminRequest::Metrics { format: Format::Text }));
        check("GET /koine/v1/topics", ask(AdminRequest::List { kind, after: None, limit: 1000 }));
        let after = Some("a b".to_owned());
        check(
            "GET /koine/v1/topics?after=a+b&limit=2",
            ask(AdminRequest::List { kind, after, limit: 2 }),
        );
        check(
            "GET /koine/v1/topics/a%2Fb",
            ask(AdminRequest::Describe { kind, name: "a/b".into() }),
        );
        check("DELETE /koine/v1/topics/x", ask(AdminRequest::Delete { kind, name: "x".into() }));
        let options = serde_json::json!({"partitions": 3}).as_object().unwrap().clone();
        check(
            "POST /koine/v1/topics {\"name\":\"x\",\"partitions\":3}",
            ask(AdminRequest::Create { kind, name: "x".into(), options, password: None }),
        );
        let tail = TailRequest {
            name: "x".into(),
            partition: 1,
            from: TailFrom::Offset(7),
            limit: 100,
            wait: Duration::from_millis(5),
        };
        check("GET /koine/v1/tail/x?partition=1&from=7&wait_ms=5", ask(AdminRequest::Tail(tail)));
    }

    #[test]
    fn mistakes_are_explained() {
        check("GET /nothing", Err(Refusal::NoSuchPath));
        check("GET /koine/v1/toppics", Err(Refusal::NoSuchPath));
        check("POST /metrics", Err(Refusal::WrongMethod { allow: "GET" }));
        check("POST /koine/v1/groups {}", Err(Refusal::WrongMethod { allow: "GET" }));
        check("PUT /koine/v1/queues", Err(Refusal::WrongMethod { allow: "GET, POST" }));
        check("POST /koine/v1/topics [1]", invalid("the body must be a JSON object with a name"));
        check("POST /koine/v1/topics {\"name\":1}", invalid("\"name\" is missing or not a string"));
        check(
            "GET /koine/v1/topics?limt=2",
            invalid("unknown query key \"limt\"; known: after, limit"),
        );
        check(
            "GET /koine/v1/topics?limit=10001",
            invalid("\"limit\" must be a number up to 10000"),
        );
        check("GET /koine/v1/tail/x?from=now", invalid("\"from\" must be start, end or an offset"));
        check("GET /%ff", invalid("the path is not valid percent-encoded UTF-8"));
    }
}
