//! Every protocol reads what every protocol wrote (docs/user/cross-protocol.md).

use std::process::Command;

use crate::broker::Broker;
use crate::clients::python;
use crate::programs::{check, sources};

#[test]
fn every_writer_reaches_every_reader() {
    let Some(python) = python() else { return };
    let mut broker = Broker::start("matrix");
    check(&mut broker, Command::new(python).arg(sources().join("python/matrix/main.py")));
}
