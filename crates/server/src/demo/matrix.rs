//! The account of the demo: for each writer and reader, what had to arrive, what did, and how fast.

use super::flights::{read_body, Flight};
use crate::metrics::histogram::Histogram;
use crate::metrics::{Protocol, PROTOCOLS};
use crate::terminal::{table, Style};
use serde_json::{json, Value};
use std::collections::HashMap;

/// The one airport whose flights the AMQP queue is bound to.
pub const AMQP_AIRPORT: &str = "JFK";

/// One writer as seen by one reader.
#[derive(Clone, Default)]
pub struct Cell {
    pub sent: u64,
    /// Distinct records.
    pub received: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    /// The body was not what was sent.
    pub altered: u64,
    pub latency_us: Histogram,
}

impl Cell {
    pub fn missing(&self) -> u64 {
        self.sent - self.received
    }

    pub fn is_right(&self) -> bool {
        self.missing() == 0 && self.duplicated == 0 && self.out_of_order == 0 && self.altered == 0
    }
}

pub struct Matrix<'a> {
    flights: &'a [Flight],
    writers: &'a [Protocol],
    /// `cells[writer][reader]`
    cells: [[Cell; 3]; 3],
    /// Per reader, a bit per flight.
    seen: [Vec<u64>; 3],
    /// Per reader, key and airport, the highest number seen. A number flown from two airports is a
    /// key of two topics, and no protocol promises an order across topics.
    last: [HashMap<(&'a str, &'a str), usize>; 3],
    /// Records that are none of ours.
    pub strange: u64,
}

/// Whether `reader` is subscribed to this flight.
pub fn wants(reader: Protocol, flight: &Flight) -> bool {
    reader != Protocol::Amqp091 || flight.origin == AMQP_AIRPORT
}

impl<'a> Matrix<'a> {
    /// `writers[n]` is who writes `flights[n]`.
    pub fn new(flights: &'a [Flight], writers: &'a [Protocol]) -> Self {
        let mut cells: [[Cell; 3]; 3] = Default::default();
        for (flight, writer) in flights.iter().zip(writers) {
            for reader in PROTOCOLS {
                if wants(reader, flight) {
                    cells[*writer as usize][reader as usize].sent += 1;
                }
            }
        }
        let words = flights.len().div_ceil(64);
        let seen = std::array::from_fn(|_| vec![0; words]);
        Matrix { flights, writers, cells, seen, last: Default::default(), strange: 0 }
    }

    pub fn cell(&self, writer: Protocol, reader: Protocol) -> &Cell {
        &self.cells[writer as usize][reader as usize]
    }

    /// Accounts for one record that `reader` got at `received_us`.
    pub fn receive(&mut self, reader: Protocol, body: &[u8], received_us: u64) {
        let known = read_body(body).filter(|(number, _)| *number < self.flights.len());
        let Some((number, sent_us)) = known else {
            self.strange += 1;
            return;
        };
        let flight = &self.flights[number];
        if !wants(reader, flight) {
            self.strange += 1;
            return;
        }
        let cell = &mut self.cells[self.writers[number] as usize][reader as usize];
        let word = &mut self.seen[reader as usize][number / 64];
        let bit = 1u64 << (number % 64);
        if *word & bit != 0 {
            cell.duplicated += 1;
            return;
        }
        *word |= bit;
        cell.received += 1;
        cell.latency_us.record(received_us.saturating_sub(sent_us));
        if flight.body(number, sent_us).as_bytes() != body {
            cell.altered += 1;
        }
        let last = self.last[reader as usize]
            .entry((flight.key.as_str(), flight.origin.as_str()))
            .or_insert(number);
        if number < *last {
            cell.out_of_order += 1;
        }
        *last = number.max(*last);
    }

    /// Records still to come to `reader`, from all writers.
    pub fn missing_of(&self, reader: Protocol) -> u64 {
        PROTOCOLS.iter().map(|writer| self.cell(*writer, reader).missing()).sum()
    }

    pub fn sent_to(&self, reader: Protocol) -> u64 {
        PROTOCOLS.iter().map(|writer| self.cell(*writer, reader).sent).sum()
    }

    pub fn is_complete(&self) -> bool {
        PROTOCOLS.iter().all(|reader| self.missing_of(*reader) == 0)
    }

    pub fn is_right(&self) -> bool {
        self.strange == 0 && self.cells.iter().flatten().all(Cell::is_right)
    }

    fn pairs(&self) -> impl Iterator<Item = (Protocol, Protocol, &Cell)> {
        PROTOCOLS.into_iter().flat_map(move |writer| {
            PROTOCOLS.into_iter().map(move |reader| (writer, reader, self.cell(writer, reader)))
        })
    }

    pub fn render(&self, style: Style) -> String {
        let header = [
            "WRITTEN BY",
            "READ BY",
            "SENT",
            "RECEIVED",
            "MISSING",
            "DUPLICATED",
            "OUT OF ORDER",
            "ALTERED",
            "P50",
            "P99",
        ];
        let rows: Vec<Vec<String>> = self
            .pairs()
            .map(|(writer, reader, cell)| {
                let counts = [
                    cell.sent,
                    cell.received,
                    cell.missing(),
                    cell.duplicated,
                    cell.out_of_order,
                    cell.altered,
                ];
                let mut row = vec![writer.name().to_owned(), reader.name().to_owned()];
                row.extend(counts.iter().map(u64::to_string));
                row.extend([0.5, 0.99].map(|fraction| show_us(cell.latency_us.quantile(fraction))));
                row
            })
            .collect();
        let verdict = match self.is_right() {
            true => style.green("Every record arrived once, unaltered and in order."),
            false => style.red("Not every cell is right."),
        };
        let strange = match self.strange {
            0 => String::new(),
            count => format!("{count} records came that nobody sent.\n"),
        };
        format!("{}\n\n{strange}{verdict}", table(&header, &rows, style))
    }

    pub fn to_json(&self) -> Value {
        let cells: Vec<Value> = self
            .pairs()
            .map(|(writer, reader, cell)| {
                json!({
                    "writer": writer.name(), "reader": reader.name(), "sent": cell.sent, "received": cell.received,
                    "missing": cell.missing(), "duplicated": cell.duplicated, "out_of_order": cell.out_of_order,
                    "altered": cell.altered, "p50_us": cell.latency_us.quantile(0.5),
                    "p99_us": cell.latency_us.quantile(0.99),
                })
            })
            .collect();
        json!({"right": self.is_right(), "strange": self.strange, "cells": cells})
    }
}

fn show_us(us: u64) -> String {
    match us {
        0..=999 => format!("{us} us"),
        1_000..=99_999 => format!("{:.1} ms", us as f64 / 1e3),
        100_000..=9_999_999 => format!("{} ms", us / 1000),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(key: &str, origin: &str) -> Flight {
        Flight {
            departed_ms: 0,
            scheduled: "2013-01-01T10:15:00Z".into(),
            delay: None,
            carrier: key[..2].into(),
            key: key.into(),
            tail_number: String::new(),
            origin: origin.into(),
            destination: String::new(),
            miles: 1,
        }
    }

    #[test]
    fn every_fault_is_counted_in_its_cell() {
        let flights = [flight("UA1", "JFK"), flight("UA1", "JFK"), flight("DL1", "EWR")];
        let writers = [Protocol::Kafka, Protocol::Kafka, Protocol::Mqtt];
        let mut matrix = Matrix::new(&flights, &writers);
        assert_eq!((matrix.sent_to(Protocol::Kafka), matrix.sent_to(Protocol::Amqp091)), (3, 2));

        matrix.receive(Protocol::Amqp091, flights[0].body(0, 100).as_bytes(), 150);
        matrix.receive(Protocol::Amqp091, flights[1].body(1, 100).as_bytes(), 150);
        assert!(matrix.cell(Protocol::Kafka, Protocol::Amqp091).is_right());
        assert_eq!(matrix.missing_of(Protocol::Amqp091), 0);

        matrix.receive(Protocol::Kafka, flights[1].body(1, 0).as_bytes(), 0);
        matrix.receive(Protocol::Kafka, flights[0].body(0, 0).as_bytes(), 0);
        matrix.receive(Protocol::Kafka, flights[0].body(0, 0).as_bytes(), 0);
        matrix.receive(Protocol::Kafka, flights[2].body(2, 0).replace("DL1", "DL2").as_bytes(), 0);
        let cell = matrix.cell(Protocol::Kafka, Protocol::Kafka);
        assert_eq!(
            (cell.received, cell.out_of_order, cell.duplicated, cell.missing()),
            (2, 1, 1, 0)
        );
        assert_eq!(matrix.cell(Protocol::Mqtt, Protocol::Kafka).altered, 1);

        matrix.receive(Protocol::Amqp091, flights[2].body(2, 0).as_bytes(), 0);
        matrix.receive(Protocol::Mqtt, b"hello", 0);
        assert_eq!(matrix.strange, 2);
        assert!(!matrix.is_complete() && !matrix.is_right());
        assert!(matrix.render(Style::PLAIN).contains("Not every cell is right."));
        assert_eq!(matrix.to_json()["cells"][2]["missing"], 2);
    }
}
