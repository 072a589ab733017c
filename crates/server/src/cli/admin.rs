//! `koine status|topics|queues|groups|sessions ...`: one call to the admin API, shown as a table or as JSON.

use super::{AdminCommand, StatusCommand, Verb};
use crate::http::client::{self, ClientError};
use crate::http::{percent, Kind};
use crate::terminal::{table, Style};
use serde_json::{json, Map, Value};

/// What `create` takes, by the keys of the API; the flags are written with dashes.
pub fn create_options(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Topics => &["partitions", "durability", "retention-ms", "retention-bytes"],
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
            let value =
                client::request(address, "POST", &collection, Some(&create_body(name, options)))?;
            Ok(if command.json { pretty(&value) } else { format!("created {name}") })
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

fn create_body(name: &str, options: &[(&'static str, String)]) -> Value {
    let mut body = Map::new();
    body.insert("name".to_owned(), name.into());
    for (option, text) in options {
        // Numbers travel as numbers; the broker checks what each option must be.
        let value = text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number));
        body.insert(option.replace('-', "_"), value);
    }
    Value::Object(body)
}

pub fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(truth)) => if *truth { "yes" } else { "no" }.to_owned(),
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
        assert_eq!(
            create_body("x", &options),
            json!({"name": "x", "retention_ms": 1000, "durability": "memory"})
        );
    }
}
