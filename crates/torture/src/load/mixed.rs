//! The seeded mix of `koine-workload` beside the steady clients: groups and their offsets, retained messages, sessions
//! that come and go, connections dropped in the middle. Runs on a thread of its own; judged at each check, then a new
//! mix begins. Connects to nobody while the broker is down, because its port may be somebody else's by then.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use koine_workload::check::{Anomaly, Kind, Verdict};
use koine_workload::mix::{Mix, MixOptions};
use koine_workload::tcp::{Addresses, TcpHost};

use super::ledger::Sums;
use super::Load;

/// How long setting up may take, with the broker up.
const SET_UP_LIMIT: Duration = Duration::from_secs(60);
/// The mix ends its drain when nothing has been read for a while. This is for one that never stops reading: a consumer
/// with a prefetch of 1 takes minutes for the backlog of fast publishers.
const DRAIN_LIMIT: Duration = Duration::from_secs(900);
const BODY_BYTES_MAX: usize = 16 << 10;
const COMPLAINTS_MAX: usize = 10;

pub struct Mixed {
    asked: Sender<()>,
    judged: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Mixed {
    pub fn start(load: &Arc<Load>) -> Mixed {
        let (asked, questions) = channel();
        let (answers, judged) = channel();
        let load = Arc::clone(load);
        let thread = std::thread::spawn(move || {
            let mut run = load.ledger.run;
            while run_one(&load, run, &questions) {
                run = run.wrapping_add(1);
                if answers.send(()).is_err() {
                    return;
                }
            }
        });
        Mixed { asked, judged, thread }
    }

    /// Drains and judges the mix; what came of it is in the ledger afterwards. The broker has to be up.
    pub fn check(&self, load: &Load) {
        let limit = SET_UP_LIMIT + 2 * DRAIN_LIMIT;
        let answer = match self.asked.send(()) {
            Ok(()) => self.judged.recv_timeout(limit),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        if let Err(error) = answer {
            load.ledger.complain(format!("mix: no verdict: {error}"));
        }
    }

    /// To be called when the load is over.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

fn nowhere() -> Addresses {
    // Port 1 of this machine: refused at once.
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    Addresses { kafka: at, amqp: at, mqtt: at }
}

fn parse(addresses: &super::site::Addresses) -> Option<Addresses> {
    Some(Addresses {
        kafka: addresses.kafka.parse().ok()?,
        amqp: addresses.amqp.parse().ok()?,
        mqtt: addresses.mqtt.parse().ok()?,
    })
}

/// A host that follows the broker from life to life.
struct Following<'a> {
    load: &'a Load,
    host: TcpHost,
    life: Option<u64>,
}

impl Following<'_> {
    fn turn(&mut self, mix: &mut Mix) {
        let visit = self.load.site.visit();
        let life = visit.as_ref().map(|(_, life)| *life);
        if life != self.life {
            self.life = life;
            let addresses = visit.and_then(|(addresses, _)| parse(&addresses));
            self.host.move_to(addresses.unwrap_or_else(nowhere));
        }
        self.host.turn(mix);
    }

    /// Turns until it is so; false if it is not in time.
    fn until(&mut self, mix: &mut Mix, limit: Duration, is_so: fn(&Mix) -> bool) -> bool {
        let start = Instant::now();
        while !is_so(mix) {
            if start.elapsed() > limit || self.load.site.is_over() {
                return false;
            }
            self.turn(mix);
        }
        true
    }
}

/// One mix from its set-up to its verdict; false if the load was over before.
fn run_one(load: &Load, run: u32, questions: &Receiver<()>) -> bool {
    let mut mix = Mix::new(MixOptions {
        run,
        body_bytes_max: BODY_BYTES_MAX,
        ..MixOptions::new(u64::from(run))
    });
    mix.expect_wills_again();
    let mut following = Following { load, host: TcpHost::new(nowhere()), life: None };
    loop {
        match questions.try_recv() {
            Ok(()) => break,
            Err(TryRecvError::Empty) if !load.site.is_over() => following.turn(&mut mix),
            Err(_) => return false,
        }
    }
    let is_ready = following.until(&mut mix, SET_UP_LIMIT, Mix::is_loading);
    mix.drain(following.host.now());
    let is_drained = is_ready && following.until(&mut mix, DRAIN_LIMIT, Mix::is_drained);
    if !is_drained {
        load.ledger.complain(format!("mix {run}: unfinished: {:?}", mix.unfinished()));
    }
    if load.refusals_expected.load(Ordering::SeqCst) {
        mix.expect_refusals();
    }
    let verdict = mix.judge();
    let complaints = some_of_each_kind(&verdict.anomalies).into_iter();
    load.ledger.absorb(sums(&verdict), complaints.map(|anomaly| format!("mix {run}: {anomaly}")));
    true
}

/// The first of each kind, so that many of one do not hide another.
fn some_of_each_kind(anomalies: &[Anomaly]) -> Vec<&Anomaly> {
    let mut counts: Vec<(Kind, usize)> = Vec::new();
    let is_early = |anomaly: &&Anomaly| {
        let at = counts.iter().position(|(kind, _)| *kind == anomaly.kind);
        let at = at.unwrap_or_else(|| {
            counts.push((anomaly.kind, 0));
            counts.len() - 1
        });
        counts[at].1 += 1;
        counts[at].1 <= COMPLAINTS_MAX
    };
    anomalies.iter().filter(is_early).collect()
}

/// A verdict in the words of the ledger.
fn sums(verdict: &Verdict) -> Sums {
    let counts = verdict.counts;
    let count = |kinds: &[Kind]| {
        verdict.anomalies.iter().filter(|anomaly| kinds.contains(&anomaly.kind)).count() as u64
    };
    let lost = count(&[Kind::Lost, Kind::LostWrite, Kind::Unseen]);
    let repeated_wrongly = count(&[Kind::Duplicated, Kind::NotFlagged, Kind::DuplicateOffsets]);
    Sums {
        attempted: counts.writes,
        acknowledged: counts.ok,
        refused: counts.failed,
        read: counts.ok.saturating_sub(lost) + counts.recovered,
        lost,
        recovered: counts.recovered,
        repeated: counts.redelivered,
        repeated_wrongly,
        unexpected: verdict.anomalies.len() as u64 - lost - repeated_wrongly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_workload::check::Counts;

    #[test]
    fn many_of_one_kind_do_not_hide_another() {
        let anomaly = |kind| Anomaly { kind, text: String::new() };
        let mut anomalies: Vec<Anomaly> = (0..99).map(|_| anomaly(Kind::Lost)).collect();
        anomalies.push(anomaly(Kind::Reordered));
        let some = some_of_each_kind(&anomalies);
        assert_eq!(some.len(), COMPLAINTS_MAX + 1);
        assert_eq!(some.last().map(|last| last.kind), Some(Kind::Reordered));
    }

    #[test]
    fn every_kind_of_anomaly_counts_as_something() {
        let anomaly = |kind| Anomaly { kind, text: String::new() };
        let check = |kind, expect: fn(&Sums) -> u64| {
            let counts = Counts { ok: 2, ..Counts::default() };
            let verdict = Verdict { anomalies: vec![anomaly(kind)], counts };
            let sums = sums(&verdict);
            assert_eq!(expect(&sums), 1, "{kind:?}");
            assert_eq!(sums.lost + sums.repeated_wrongly + sums.unexpected, 1, "{kind:?}");
        };
        check(Kind::Lost, |sums| sums.lost);
        check(Kind::Unseen, |sums| sums.lost);
        check(Kind::NotFlagged, |sums| sums.repeated_wrongly);
        check(Kind::RetainedStale, |sums| sums.unexpected);
        check(Kind::OffsetMovedBack, |sums| sums.unexpected);
    }
}
