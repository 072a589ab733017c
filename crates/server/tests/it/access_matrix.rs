//! Every operation by every role over every protocol, against one broker and from outside. What is expected is
//! derived from a table of rules of its own (`roles`) and of what each operation needs, never from the broker's code.
//! Each cell has objects of its own, made by the administrator beforehand, and the administrator looks afterwards
//! whether what was refused happened all the same.

mod amqp;
mod kafka;
mod mqtt;
mod roles;

use crate::broker::Broker;

/// What came of an operation. The codes are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Done,
    Refused(u16),
    /// The connection was; 0 if without a word.
    Closed(u16),
}

/// One cell that was tried.
#[derive(Clone, Debug)]
pub struct Cell {
    pub role: &'static str,
    pub operation: String,
    pub expected: Outcome,
    pub actual: Outcome,
    /// Whether its trace contradicts the outcome: refused and yet done, or the reverse.
    pub contradiction: bool,
}

impl Cell {
    /// `seen`: whether its trace is there, if it leaves one.
    pub fn new(
        role: &'static str,
        operation: String,
        expected: Outcome,
        actual: Outcome,
        seen: Option<bool>,
    ) -> Cell {
        let contradiction = seen.is_some_and(|seen| seen != (actual == Outcome::Done));
        Cell { role, operation, expected, actual, contradiction }
    }

    fn is_wrong(&self) -> bool {
        self.expected != self.actual || self.contradiction
    }
}

fn judge(cells: &[Cell]) {
    let wrong: Vec<&Cell> = cells.iter().filter(|cell| cell.is_wrong()).collect();
    println!("{} cells, {} wrong", cells.len(), wrong.len());
    for cell in &wrong {
        println!(
            "{} / {}: expected {:?}, actual {:?}{}",
            cell.role,
            cell.operation,
            cell.expected,
            cell.actual,
            if cell.contradiction { ", and its trace says otherwise" } else { "" }
        );
    }
    assert!(wrong.is_empty(), "{} of {} cells are wrong, see above", wrong.len(), cells.len());
}

#[test]
fn every_operation_by_every_role() {
    let broker = Broker::start("access-matrix");
    roles::make(&broker);
    let amqp = amqp::Matrix::prepare(&broker);
    let kafka = kafka::Matrix::prepare(&broker);
    let mqtt = mqtt::Matrix::prepare(&broker);
    roles::change(&broker);
    let cells = [amqp.run(), kafka.run(), mqtt.run()].concat();
    judge(&cells);
}
