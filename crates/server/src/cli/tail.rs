//! `koine tail NAME`: asks for the next records again and again, waiting at the broker's side.

use super::TailCommand;
use crate::http::client::{self, ClientError};
use crate::http::{percent, TailFrom};
use serde_json::Value;
use std::io::{self, Write};

/// How long one request waits for the first record.
const WAIT_MS: u64 = 20_000;
const RECORDS_PER_REQUEST: u64 = 500;

#[derive(Debug)]
pub enum TailError {
    Client(ClientError),
    Output(io::Error),
}

impl std::fmt::Display for TailError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TailError::Client(error) => error.fmt(f),
            TailError::Output(error) => error.fmt(f),
        }
    }
}

/// Ends when `count` is reached, at the end of the stream without `follow`, or with the reader of
/// our output (`koine tail x | head`).
pub fn run(command: &TailCommand, address: &str, out: &mut impl Write) -> Result<(), TailError> {
    let mut from = command.from;
    let mut left = command.count.unwrap_or(u64::MAX);
    while left > 0 {
        let page = client::request(address, "GET", &target(command, from, left), None)
            .map_err(TailError::Client)?;
        let records =
            page.get("records").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for record in records {
            let line = if command.json { record.to_string() } else { show(record) };
            match writeln!(out, "{line}").and_then(|()| out.flush()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(TailError::Output(error)),
            }
        }
        left -= records.len() as u64;
        if records.is_empty() && !command.follow {
            return Ok(());
        }
        if let Some(next) = page.get("next_offset").and_then(Value::as_u64) {
            from = TailFrom::Offset(next);
        }
    }
    Ok(())
}

fn target(command: &TailCommand, from: TailFrom, left: u64) -> String {
    let from = match from {
        TailFrom::Start => "start".to_owned(),
        TailFrom::End => "end".to_owned(),
        TailFrom::Offset(offset) => offset.to_string(),
    };
    format!(
        "/koine/v1/tail/{}?partition={}&from={from}&limit={}&wait_ms={}",
        percent::encode(&command.name),
        command.partition,
        left.min(RECORDS_PER_REQUEST),
        if command.follow { WAIT_MS } else { 0 }
    )
}

/// `offset  key  value`, with a dash for no key.
fn show(record: &Value) -> String {
    let text = |key: &str| match record.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => {
            text.escape_default().to_string().replace("\\\"", "\"").replace("\\'", "'")
        }
        Some(other) => other.to_string(),
    };
    let value = match record.get("value_base64") {
        Some(Value::String(encoded)) => format!("base64:{encoded}"),
        _ => text("value"),
    };
    format!("{}  {}  {value}", text("offset"), text("key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_line_per_record() {
        let check = |record: Value, expect: &str| assert_eq!(show(&record), expect);
        check(json!({"offset": 3, "key": "UA1", "value": "{\"a\":1}\n"}), "3  UA1  {\"a\":1}\\n");
        check(json!({"offset": 4, "key": null, "value_base64": "/w=="}), "4  -  base64:/w==");
    }
}
