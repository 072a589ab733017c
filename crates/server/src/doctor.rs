//! `koine doctor`: what is damaged in a data directory that no broker has open. Reads only, unless told
//! to repair.

use crate::cli::DoctorCommand;
use crate::data_directory::DataDirectory;
use crate::disk::RealDisk;
use crate::runtime::node_file;
use crate::terminal::{self, Style};
use koine_broker::limits::Limits;
use koine_broker::metadata::StreamOwner;
use koine_cluster::doctor::{
    examine, repair, shard_directory, Affected, Finding, Remedy, Report, Shared,
};
use koine_cluster::Layout;
use serde_json::{json, Value};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// There is damage, and after `--repair` there was.
const EXIT_DAMAGE: u8 = 1;
/// Nothing can be said: in use, not there, not readable.
pub const EXIT_CANNOT_CHECK: u8 = 2;

/// The exit code is part of the interface: 0 clean, 1 damage, 2 cannot check.
pub fn run(command: &DoctorCommand, data: &Path, out: &mut dyn Write) -> Result<ExitCode, String> {
    let _held = DataDirectory::hold(data).map_err(|error| error.to_string())?;
    let node = node_file::look(data).map_err(|error| error.to_string())?;
    let layout = Layout { shard_count: node.shard_count };
    let report = check(&RealDisk::reader(data), layout)?;
    if command.repair {
        refuse_shared(&report)?;
    }
    let treatment = match command.repair && !report.findings.is_empty() {
        true => Some(treat(data, layout, &report)?),
        false => None,
    };
    let text = match command.json {
        true => format!("{:#}", to_json(data, &report, treatment.as_ref())),
        false => to_text(data, &report, treatment.as_ref(), Style::of_stdout()),
    };
    // Who asked may have stopped reading; the exit code tells the same.
    let _ = writeln!(out, "{text}");
    Ok(match report.findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_DAMAGE),
    })
}

/// A repair changes what entries hold, and the other replicas of their groups would not know.
fn refuse_shared(report: &Report) -> Result<(), String> {
    let Some(Shared { group, voters }) = report.shared.first() else { return Ok(()) };
    let who = match voters.is_empty() {
        true => "other nodes".to_owned(),
        false => {
            let voters: Vec<String> = voters.iter().map(u64::to_string).collect();
            format!("nodes {}", voters.join(", "))
        }
    };
    Err(format!(
        "not repaired, and nothing was changed: group {} of this directory is kept by {who}, and a repair of \
         one replica would make it differ from the others. Replace this node by an empty one: it is sent \
         what the others have",
        group.0
    ))
}

/// What `--repair` did.
struct Treatment {
    quarantine: PathBuf,
    /// One for each finding.
    remedies: Vec<Remedy>,
    /// Whether the broker starts now.
    starts: bool,
}

fn treat(data: &Path, layout: Layout, report: &Report) -> Result<Treatment, String> {
    let quarantine = save(data, report).map_err(|error| format!("quarantine: {error}"))?;
    let disk = RealDisk::new(data);
    let remedies = repair(&disk, report).map_err(|error| error.to_string())?;
    let starts = !check(&disk, layout)?.prevents_start();
    Ok(Treatment { quarantine, remedies, starts })
}

/// Copies every damaged file away before anything is changed.
fn save(data: &Path, report: &Report) -> std::io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let quarantine = data.join("quarantine").join(now.as_millis().to_string());
    std::fs::create_dir_all(&quarantine)?;
    let mut saved: Vec<&str> = Vec::new();
    for finding in &report.findings {
        let from = data.join(&finding.file);
        if saved.contains(&finding.file.as_str()) || !from.is_file() {
            continue;
        }
        saved.push(&finding.file);
        let to = quarantine.join(&finding.file);
        if let Some(directory) = to.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::copy(&from, &to)?;
        std::fs::File::open(&to)?.sync_all()?;
    }
    Ok(quarantine)
}

fn remedy_text(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::Replaced => "replaced; lost offsets hold no record now",
        Remedy::Restored => "restored",
        Remedy::NotNeeded => "nothing to do",
        Remedy::ReadsFail => "kept; reads of these offsets fail",
        Remedy::Hopeless => "cannot be repaired from what is here",
    }
}

fn check(disk: &RealDisk, layout: Layout) -> Result<Report, String> {
    let mut total = 0;
    for shard in layout.shards() {
        let directory = shard_directory(shard);
        total += koine_log::bytes_to_inspect(disk, &directory)
            .map_err(|error| format!("{directory}: {error}"))?;
    }
    let mut progress = Progress::new(total);
    let report = examine(disk, layout, &Limits::default(), &mut |bytes| progress.add(bytes));
    progress.end();
    report.map_err(|error| error.to_string())
}

/// A line that counts up, on a terminal and for checks that take a while.
struct Progress {
    total: u64,
    done: u64,
    is_shown: bool,
    began: Instant,
    drawn: Option<Instant>,
}

const SHOW_AFTER: Duration = Duration::from_millis(500);
const DRAW_EVERY: Duration = Duration::from_millis(100);

impl Progress {
    fn new(total: u64) -> Self {
        let is_shown = std::io::stderr().is_terminal();
        Progress { total, done: 0, is_shown, began: Instant::now(), drawn: None }
    }

    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        let is_due = self
            .drawn
            .map_or(self.began.elapsed() >= SHOW_AFTER, |drawn| drawn.elapsed() >= DRAW_EVERY);
        if self.is_shown && is_due {
            self.drawn = Some(Instant::now());
            let share = (self.done * 100).checked_div(self.total).unwrap_or(100).min(100);
            let bar: String = (0..25).map(|n| if n * 4 < share { '#' } else { '.' }).collect();
            let _ = write!(std::io::stderr(), "\rchecking [{bar}] {share:>3}%");
        }
    }

    fn end(&self) {
        if self.drawn.is_some() {
            let _ = write!(std::io::stderr(), "\r{:45}\r", "");
        }
    }
}

/// Kind and name of what a stream belongs to.
fn name_of(affected: &Affected) -> (&'static str, String) {
    match &affected.owner {
        Some(StreamOwner::Topic { name, partition, .. }) => {
            ("topic", format!("{name}/{partition}"))
        }
        Some(StreamOwner::Queue { name, .. }) => ("queue", name.clone()),
        Some(StreamOwner::Backlog { session }) => ("session", session.0.to_string()),
        Some(StreamOwner::Shared { group, filter, .. }) => {
            ("shared subscription", format!("{group} on {filter}"))
        }
        None => ("stream", format!("{} (deleted, or its name is lost)", affected.stream)),
    }
}

fn to_text(data: &Path, report: &Report, treatment: Option<&Treatment>, style: Style) -> String {
    let checked = format!(
        "{} files with {:.1} MiB in {} checked",
        report.files,
        report.bytes as f64 / f64::from(1 << 20),
        data.display()
    );
    if report.findings.is_empty() {
        return format!("{checked}. {}", style.green("Nothing is damaged."));
    }
    let mut rows = Vec::new();
    for (index, finding) in report.findings.iter().enumerate() {
        let place = format!("{} at {}", finding.file, finding.position);
        let mut costs: Vec<String> = finding.affected.iter().map(cost).collect();
        if finding.metadata {
            costs.push("changes to topics, queues, bindings, sessions".to_owned());
        }
        if finding.and_more {
            costs.push("possibly newer records, settlements, committed offsets".to_owned());
        }
        if costs.is_empty() {
            costs.push("nothing".to_owned());
        }
        let remedy = treatment.and_then(|treatment| treatment.remedies.get(index));
        let remedy = remedy.map_or("", |remedy| remedy_text(*remedy));
        for (number, cost) in costs.into_iter().enumerate() {
            let (place, what, remedy) = match number {
                0 => (place.clone(), finding.fault.to_string(), remedy.to_owned()),
                _ => Default::default(),
            };
            rows.push(vec![place, what, cost, remedy]);
        }
    }
    let header: &[&str] = match treatment {
        Some(_) => &["where", "what", "lost", "repair"],
        None => &["where", "what", "lost"],
    };
    rows.iter_mut().for_each(|row| row.truncate(header.len()));
    let table = terminal::table(header, &rows, style);
    if let Some(treatment) = treatment {
        let verdict = match treatment.starts {
            true => style.green("The broker starts now."),
            false => style.red("The broker still does not start."),
        };
        let quarantine = treatment.quarantine.display();
        return format!("{table}\n\n{checked}. Damaged files are saved in {quarantine}. {verdict}");
    }
    let verdict = match report.prevents_start() {
        true => style.red("The broker does not start with this."),
        false => "The broker starts; reads of what is lost fail.".to_owned(),
    };
    format!("{table}\n\n{checked}. {verdict}")
}

fn cost(affected: &Affected) -> String {
    let (kind, name) = name_of(affected);
    let last = affected.end.saturating_sub(1);
    format!("{kind} {name}: offsets {} to {last}", affected.start)
}

fn to_json(data: &Path, report: &Report, treatment: Option<&Treatment>) -> Value {
    let affected = |affected: &Affected| {
        let (kind, name) = match &affected.owner {
            Some(StreamOwner::Topic { name, .. }) => ("topic", name.clone()),
            _ => name_of(affected),
        };
        let mut value = json!({
            "kind": kind,
            "name": name,
            "stream": affected.stream.to_string(),
            "first_offset": affected.start,
            "last_offset": affected.end.saturating_sub(1),
        });
        if let Some(StreamOwner::Topic { partition, .. }) = &affected.owner {
            value["partition"] = json!(partition);
        }
        value
    };
    let finding = |finding: &Finding| {
        json!({
            "shard": finding.shard.0,
            "file": finding.file,
            "position": finding.position,
            "fault": finding.fault.code(),
            "text": finding.fault.to_string(),
            "prevents_start": finding.fault.prevents_start(),
            "affected": finding.affected.iter().map(affected).collect::<Vec<Value>>(),
            "metadata_affected": finding.metadata,
            "and_more": finding.and_more,
        })
    };
    let mut value = json!({
        "data": data.display().to_string(),
        "files": report.files,
        "bytes": report.bytes,
        "clean": report.findings.is_empty(),
        "prevents_start": report.prevents_start(),
        "findings": report.findings.iter().map(finding).collect::<Vec<Value>>(),
    });
    if let Some(treatment) = treatment {
        let remedies = treatment.remedies.iter().map(|remedy| json!(remedy_text(*remedy)));
        value["repair"] = json!({
            "quarantine": treatment.quarantine.display().to_string(),
            "remedies": remedies.collect::<Vec<Value>>(),
            "starts": treatment.starts,
        });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_base::GroupId;

    #[test]
    fn a_replica_of_what_others_keep_is_not_repaired() {
        let refusal = |shared: Vec<Shared>| {
            refuse_shared(&Report { shared, ..Report::default() }).err().unwrap_or_default()
        };
        assert_eq!(refusal(Vec::new()), "");
        let three = Shared { group: GroupId(1), voters: vec![1, 2, 3] };
        assert!(refusal(vec![three]).contains("group 1 of this directory is kept by nodes 1, 2, 3"));
        let unknown = Shared { group: GroupId::METADATA, voters: Vec::new() };
        assert!(refusal(vec![unknown]).contains("group 0 of this directory is kept by other nodes"));
    }
}
