//! `koine status|topics|queues|groups|sessions|users|permissions ...`: one call to the admin API, shown as a
//! table or as JSON.

use super::{AdminCommand, StatusCommand, Verb};
use crate::http::client::{self, ClientError};
use crate::http::{percent, Kind};
use crate::terminal::{table, Style};
use serde_json::{json, Map, Value};

/// Names a file with a password; `-` is standard input. Never the password itself: others may see the
/// command line.
const PASSWORD_FILE: &str = "password-file";

/// Options whose values travel as numbers, or null.
const NUMBERS: [&str; 5] =
    ["partitions", "retention-ms", "retention-bytes", "connections-max", "channels-max"];

/// What `create` and `set` take, by the keys of the API; the flags are written with dashes.
pub fn options(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Topics => &["partitions", "durability", "retention-ms", "retention-bytes"],
        Kind::Users => &[PASSWORD_FILE, "tags", "connections-max", "channels-max"],
        Kind::Permissions => &["configure", "write", "read"],
        Kind::TopicPermissions => &["write", "read"],
        Kind::Acls => &["user", "operation", "kind", "pattern", "effect", "host"],
        Kind::Queues | Kind::Groups | Kind::Sessions => &[],
    }
}

/// Columns of a list: the heading and the key in the API's items.
fn columns(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::Topics => &[
            ("TOPIC", "name"),
            ("PARTITIONS", "partitions"),
            ("RECORDS", "records"),
            ("DURABILITY", "durability"),
        ],
        Kind::Queues => &[
            ("QUEUE", "name"),
            ("READY", "ready"),
            ("UNACKED", "unacked"),
            ("CONSUMERS", "consumers"),
        ],
        Kind::Groups => {
            &[("GROUP", "name"), ("STATE", "state"), ("MEMBERS", "members"), ("LAG", "lag")]
        }
        Kind::Sessions => &[
            ("SESSION", "name"),
            ("CONNECTED", "connected"),
            ("SUBSCRIPTIONS", "subscriptions"),
            ("QUEUED", "queued"),
        ],
        Kind::Users => &[
            ("USER", "name"),
            ("TAGS", "tags"),
            ("LOGS IN BY", "mechanisms"),
            ("CONNECTIONS", "connections_max"),
            ("CHANNELS", "channels_max"),
        ],
        Kind::Permissions => {
            &[("USER", "name"), ("CONFIGURE", "configure"), ("WRITE", "write"), ("READ", "read")]
        }
        Kind::TopicPermissions => {
            &[("USER", "user"), ("EXCHANGE", "exchange"), ("WRITE", "write"), ("READ", "read")]
        }
        Kind::Acls => &[
            ("EFFECT", "effect"),
            ("OPERATION", "operation"),
            ("KIND", "kind"),
            ("PATTERN", "pattern"),
            ("RESOURCE", "resource"),
            ("USER", "user"),
            ("HOST", "host"),
            ("NAME", "name"),
        ],
    }
}

/// What to print.
pub fn run(command: &AdminCommand, address: &str, style: Style) -> Result<String, ClientError> {
    let kind = command.kind;
    let collection = format!("/koine/v1/{}", kind.name());
    let item = |name: &str| format!("{collection}/{}", percent::encode(name));
    match &command.verb {
        Verb::List => {
            let items = list_all(address, &collection)?;
            if command.json {
                return Ok(pretty(&Value::Array(items)));
            }
            Ok(list_table(kind, &items, style))
        }
        Verb::Describe(name) => {
            let value = client::request(address, "GET", &item(name), None)?;
            Ok(if command.json { pretty(&value) } else { description(&value, style) })
        }
        Verb::Create { name, options } => {
            let mut body = body(options)?;
            body.insert("name".to_owned(), name.as_str().into());
            let value = client::request(address, "POST", &collection, Some(&Value::Object(body)))?;
            Ok(if command.json { pretty(&value) } else { format!("created {name}") })
        }
        Verb::Set { name, options } => {
            let body = Value::Object(body(options)?);
            let value = client::request(address, "PUT", &item(name), Some(&body))?;
            Ok(if command.json { pretty(&value) } else { format!("set {name}") })
        }
        Verb::Delete(name) => {
            let value = client::request(address, "DELETE", &item(name), None)?;
            Ok(if command.json { pretty(&value) } else { format!("deleted {name}") })
        }
    }
}

/// What `koine status` prints.
pub fn status(command: &StatusCommand, address: &str, style: Style) -> Result<String, ClientError> {
    let value = client::request(address, "GET", "/koine/v1/status", None)?;
    Ok(if command.json { pretty(&value) } else { description(&value, style) })
}

/// Follows the pages of a list: `{"items": [...], "next": NAME or null}`.
fn list_all(address: &str, collection: &str) -> Result<Vec<Value>, ClientError> {
    let mut items = Vec::new();
    let mut target = collection.to_owned();
    loop {
        let mut page = client::request(address, "GET", &target, None)?;
        if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
            items.extend(more);
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => target = format!("{collection}?after={}", percent::encode(next)),
            None => return Ok(items),
        }
    }
}

/// The broker checks what each option must be.
fn body(options: &[(&'static str, String)]) -> Result<Map<String, Value>, ClientError> {
    let mut body = Map::new();
    for (option, text) in options {
        if *option == PASSWORD_FILE {
            body.insert("password".to_owned(), password(text)?.into());
            continue;
        }
        let value = match text.parse::<i64>() {
            Ok(number) if NUMBERS.contains(option) => json!(number),
            Err(_) if NUMBERS.contains(option) && text == "none" => Value::Null,
            _ => json!(text),
        };
        body.insert(option.replace('-', "_"), value);
    }
    Ok(body)
}

/// The first line of the file.
pub fn password(path: &str) -> Result<String, ClientError> {
    let failed = |error| ClientError::Refused(format!("--{PASSWORD_FILE} {path}: {error}"));
    let text = match path {
        "-" => std::io::read_to_string(std::io::stdin()).map_err(failed)?,
        path => std::fs::read_to_string(path).map_err(failed)?,
    };
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => {
            Err(ClientError::Refused(format!("--{PASSWORD_FILE} {path}: the first line is empty")))
        }
    }
}

pub fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(truth)) => if *truth { "yes" } else { "no" }.to_owned(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) && !items.is_empty() => {
            let words: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            words.join(" ")
        }
        Some(Value::Array(items)) => items.len().to_string(),
        Some(other) => other.to_string(),
    }
}

fn list_table(kind: Kind, items: &[Value], style: Style) -> String {
    let columns = columns(kind);
    let header: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| columns.iter().map(|(_, key)| cell(item.get(*key))).collect())
        .collect();
    table(&header, &rows, style)
}

/// Plain fields first, then each list of objects as a table of its own.
fn description(value: &Value, style: Style) -> String {
    let Value::Object(fields) = value else {
        return pretty(value);
    };
    let is_table = |value: &Value| matches!(value, Value::Array(items) if items.first().is_some_and(Value::is_object));
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (key, value) in fields.iter().filter(|(_, value)| !is_table(value)) {
        let shown = match value {
            Value::Object(_) | Value::Array(_) => value.to_string(),
            other => cell(Some(other)),
        };
        lines.push(format!("{}{}  {shown}", style.bold(key), " ".repeat(width - key.len())));
    }
    for (key, value) in fields.iter().filter(|(_, value)| is_table(value)) {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let header: Vec<&str> = items
            .first()
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        let rows: Vec<Vec<String>> = items
            .iter()
            .map(|item| header.iter().map(|name| cell(item.get(*name))).collect())
            .collect();
        lines.push(format!("\n{}\n{}", style.bold(key), table(&header, &rows, style)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_descriptions() {
        let items =
            [json!({"name": "orders", "partitions": 3, "records": 12, "durability": "fsync"})];
        assert_eq!(
            list_table(Kind::Topics, &items, Style::PLAIN),
            "TOPIC   PARTITIONS  RECORDS  DURABILITY\norders           3       12  fsync"
        );
        let one =
            json!({"name": "orders", "auto": true, "partitions": [{"partition": 0, "end": 12}]});
        assert_eq!(
            description(&one, Style::PLAIN),
            "name        orders\nauto        yes\n\npartitions\npartition  end\n        0   12"
        );
    }

    #[test]
    fn create_options_become_keys() {
        let options =
            vec![("retention-ms", "1000".to_owned()), ("durability", "memory".to_owned())];
        let body = body(&options).expect("nothing to read from a file");
        assert_eq!(Value::Object(body), json!({"retention_ms": 1000, "durability": "memory"}));
        let options = vec![("write", "1000".to_owned()), ("connections-max", "none".to_owned())];
        let body = super::body(&options).expect("nothing to read from a file");
        assert_eq!(Value::Object(body), json!({"write": "1000", "connections_max": null}));
    }
}
