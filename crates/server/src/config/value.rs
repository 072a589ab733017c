//! Reading one setting's value from text. Every error says what was wrong and what would be right;
//! the caller adds which setting it was.

use super::{Durability, Listen};
use std::path::PathBuf;
use tracing::Level;

/// A size that may be relative to the memory of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Bytes(u64),
    /// 1..=90.
    Percent(u8),
}

pub fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is empty; give a path".into());
    }
    Ok(PathBuf::from(text))
}

pub fn host(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains([':', '/', ' ']) {
        return Err(format!("{text:?} is not a host name or IPv4 address (no port, no scheme)"));
    }
    Ok(text.to_owned())
}

/// `HOST:PORT` (an IPv6 host in brackets) or `off`.
pub fn listen(text: &str) -> Result<Option<Listen>, String> {
    if text == "off" {
        return Ok(None);
    }
    let wrong =
        || format!("{text:?} is not HOST:PORT (like 127.0.0.1:9092, port 0 for any) or \"off\"");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner,
        None if host.contains(':') => return Err(wrong()),
        None => host,
    };
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(Some(Listen { host: host.to_owned(), port }))
}

pub fn boolean(text: &str) -> Result<bool, String> {
    one_of(text, &[("true", true), ("false", false)])
}

pub fn level(text: &str) -> Result<Level, String> {
    one_of(
        text,
        &[
            ("error", Level::ERROR),
            ("warn", Level::WARN),
            ("info", Level::INFO),
            ("debug", Level::DEBUG),
            ("trace", Level::TRACE),
        ],
    )
}

pub fn durability(text: &str) -> Result<Durability, String> {
    one_of(
        text,
        &[
            ("fsync", Durability::Fsync),
            ("replicated", Durability::Replicated),
            ("memory", Durability::Memory),
        ],
    )
}

pub fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    Err(format!("{text:?} is not one of {}", names.join(", ")))
}

pub fn number_in(text: &str, min: u64, max: u64) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is not a whole number from {min} to {max}")),
    }
}

/// How many connections; one at least.
pub fn count(text: &str) -> Result<u32, String> {
    number_in(text, 1, 1_000_000).map(|number| number as u32)
}

/// `none` for `None`, anything else through `read`.
pub fn optional<T>(text: &str, read: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == "none" {
        return Ok(None);
    }
    read(text).map(Some)
}

const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const DURATION_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A whole number, optional blanks, a unit from `units`.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim())?;
    number.checked_mul(*scale)
}

pub fn bytes(text: &str) -> Result<u64, String> {
    scaled(text, SIZE_UNITS)
        .ok_or_else(|| format!("{text:?} is not a size like 4096, 64MiB or 2GB"))
}

pub fn bytes_in(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let size = bytes(text)?;
    if !(min..=max).contains(&size) {
        return Err(format!("{text:?} is not from {} to {}", show_bytes(min), show_bytes(max)));
    }
    Ok(size)
}

pub fn size(text: &str) -> Result<Size, String> {
    let Some(percent) = text.strip_suffix('%') else {
        return bytes(text).map(Size::Bytes);
    };
    let percent = number_in(percent.trim(), 1, 90).map_err(|wrong| format!("{wrong} percent"))?;
    Ok(Size::Percent(percent as u8))
}

/// Milliseconds.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    scaled(text, DURATION_UNITS)
        .ok_or_else(|| format!("{text:?} is not a duration like 500ms, 30s, 12h or 7d"))
}

/// `268435456` -> `256MiB`; exact only for multiples, for messages.
fn show_bytes(bytes: u64) -> String {
    let unit = SIZE_UNITS
        .iter()
        .filter(|(name, scale)| name.ends_with("iB") && bytes >= *scale)
        .max_by_key(|(_, scale)| *scale);
    match unit {
        Some((name, scale)) if bytes & (scale - 1) == 0 => format!("{}{name}", bytes / scale),
        Some((name, scale)) => format!("{:.1}{name}", bytes as f64 / *scale as f64),
        None => format!("{bytes}B"),
    }
}
