//! The command line: what was asked, as data. Reading it has no effect; `main` acts.

pub mod admin;
pub mod help;
pub mod tail;

#[cfg(test)]
mod tests;

use crate::config::{by_flag, did_you_mean, Flags, Setting, SETTINGS};
use crate::http::{Kind, TailFrom};
use lexopt::prelude::{Long, Short, Value as Positional};
use lexopt::{Parser, ValueExt};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug)]
pub enum Command {
    Start(Flags),
    Init(InitCommand),
    Admin(AdminCommand),
    Status(StatusCommand),
    Tail(TailCommand),
    Demo(DemoCommand),
    Doctor(DoctorCommand),
    /// Text for standard output, then exit 0.
    Show(String),
}

#[derive(Debug)]
pub struct AdminCommand {
    pub kind: Kind,
    pub verb: Verb,
    pub json: bool,
    /// Where the broker is: `--http`, `--config`.
    pub flags: Flags,
}

#[derive(Debug)]
pub struct InitCommand {
    /// The administrator.
    pub user: String,
    /// `-` is standard input; without one a password is made.
    pub password_file: Option<String>,
    /// Host names and addresses that the broker's certificate is good for beside its own.
    pub names: Vec<String>,
    /// Users who get a client certificate.
    pub clients: Vec<String>,
    pub json: bool,
    pub flags: Flags,
}

#[derive(Debug)]
pub struct StatusCommand {
    pub json: bool,
    /// Where the broker is: `--http`, `--config`.
    pub flags: Flags,
}

#[derive(Debug, PartialEq)]
pub enum Verb {
    List,
    Describe(String),
    Create { name: String, options: Vec<(&'static str, String)> },
    Set { name: String, options: Vec<(&'static str, String)> },
    Delete(String),
}

#[derive(Debug)]
pub struct TailCommand {
    pub name: String,
    pub partition: u32,
    pub from: TailFrom,
    /// Stop after so many records; for ever if absent.
    pub count: Option<u64>,
    /// Wait for records yet to come.
    pub follow: bool,
    pub json: bool,
    pub flags: Flags,
}

#[derive(Debug)]
pub struct DemoCommand {
    /// The whole table instead of the slice in the binary.
    pub full: bool,
    pub data_file: Option<PathBuf>,
    /// Flight time over wall time; `None` sends as fast as the broker takes it.
    pub speed: Option<f64>,
    /// Use the running broker instead of one of our own in a temporary directory.
    pub connect: bool,
    pub json: bool,
    pub flags: Flags,
}

#[derive(Debug)]
pub struct DoctorCommand {
    /// The configured one if absent.
    pub data: Option<PathBuf>,
    /// Also make it start again, after saving what is damaged.
    pub repair: bool,
    pub json: bool,
    pub flags: Flags,
}

/// What is wrong with the command line; shown with a pointer to `--help`.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        UsageError(error.to_string())
    }
}

const SUBCOMMANDS: [&str; 16] = [
    "start",
    "init",
    "status",
    "topics",
    "queues",
    "groups",
    "sessions",
    "users",
    "permissions",
    "topic-permissions",
    "acls",
    "tail",
    "demo",
    "doctor",
    "help",
    "version",
];
const VERBS: [&str; 5] = ["list", "describe", "create", "set", "delete"];

/// `arguments` without the program's name.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut arguments = arguments.into_iter().peekable();
    let first = arguments.peek().and_then(|first| first.to_str()).map(str::to_owned);
    let subcommand = match first {
        Some(word) if !word.starts_with('-') => {
            arguments.next();
            word
        }
        _ => "start".to_owned(),
    };
    let mut parser = Parser::from_args(arguments);
    match subcommand.as_str() {
        "start" => read_start(&mut parser),
        "init" => read_init(&mut parser),
        "status" => read_status(&mut parser),
        "tail" => read_tail(&mut parser),
        "demo" => read_demo(&mut parser),
        "doctor" => read_doctor(&mut parser),
        "help" => Ok(Command::Show(help::general())),
        "version" => Ok(Command::Show(help::version())),
        word => match Kind::by_name(word) {
            Some(kind) => read_admin(kind, &mut parser),
            None => Err(unknown("command", word, &SUBCOMMANDS)),
        },
    }
}

fn unknown(what: &str, word: &str, known: &[&str]) -> UsageError {
    let near = did_you_mean(word, known.iter().map(|known| (*known).to_owned()));
    UsageError(format!("unknown {what} {word:?}{near}"))
}

fn unknown_flag(name: &str, own: &[&str]) -> UsageError {
    let settings = SETTINGS.iter().map(Setting::flag);
    let near = did_you_mean(name, settings.chain(own.iter().map(|flag| (*flag).to_owned())));
    UsageError(format!("unknown flag --{name}{near}"))
}

/// Takes `--config` and every setting; `false` if `name` is none of them.
fn take_setting(parser: &mut Parser, name: &str, flags: &mut Flags) -> Result<bool, UsageError> {
    if name == "config" {
        flags.file = Some(PathBuf::from(parser.value()?));
        return Ok(true);
    }
    let Some(setting) = by_flag(name) else {
        return Ok(false);
    };
    let value = match setting.switch {
        true => parser.optional_value().map_or(Ok("true".to_owned()), |value| value.string())?,
        false => parser.value()?.string()?,
    };
    flags.push(setting, value);
    Ok(true)
}

fn read_start(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut flags = Flags::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Show(help::start())),
            Short('V') | Long("version") => return Ok(Command::Show(help::version())),
            Long(name) => {
                let name = name.to_owned();
                if !take_setting(parser, &name, &mut flags)? {
                    return Err(unknown_flag(&name, &["config", "help", "version"]));
                }
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Start(flags))
}

fn read_init(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut command = InitCommand {
        user: "admin".to_owned(),
        password_file: None,
        names: Vec::new(),
        clients: Vec::new(),
        json: false,
        flags: Flags::default(),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Show(help::init())),
            Long("json") => command.json = true,
            Long("user") => command.user = parser.value()?.string()?,
            Long("password-file") => command.password_file = Some(parser.value()?.string()?),
            Long("name") => command.names.push(parser.value()?.string()?),
            Long("client") => command.clients.push(parser.value()?.string()?),
            Long(flag) => {
                let flag = flag.to_owned();
                if !take_setting(parser, &flag, &mut command.flags)? {
                    let own = ["json", "user", "password-file", "name", "client", "config"];
                    return Err(unknown_flag(&flag, &own));
                }
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Init(command))
}

/// Flags that any client subcommand takes: where the broker is.
fn take_address(parser: &mut Parser, name: &str, flags: &mut Flags) -> Result<bool, UsageError> {
    match name {
        "http" | "config" => take_setting(parser, name, flags),
        _ => Ok(false),
    }
}

fn read_status(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut command = StatusCommand { json: false, flags: Flags::default() };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Show(help::status())),
            Long("json") => command.json = true,
            Long(flag) => {
                let flag = flag.to_owned();
                if !take_address(parser, &flag, &mut command.flags)? {
                    return Err(unknown_flag(&flag, &["json", "http", "config"]));
                }
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Status(command))
}

fn read_admin(kind: Kind, parser: &mut Parser) -> Result<Command, UsageError> {
    let (mut words, mut options) = (Vec::new(), Vec::new());
    let (mut json, mut flags) = (false, Flags::default());
    let own = admin::options(kind);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Show(help::admin(kind))),
            Long("json") => json = true,
            Long(name) => {
                let name = name.to_owned();
                if let Some(option) = own.iter().find(|option| **option == name) {
                    options.push((*option, parser.value()?.string()?));
                } else if !take_address(parser, &name, &mut flags)? {
                    return Err(unknown_flag(&name, &["json", "http", "config"]));
                }
            }
            Positional(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let verb = read_verb(kind, words, options)?;
    Ok(Command::Admin(AdminCommand { kind, verb, json, flags }))
}

fn read_verb(
    kind: Kind,
    words: Vec<String>,
    options: Vec<(&'static str, String)>,
) -> Result<Verb, UsageError> {
    let kind_name = kind.name();
    let mut words = words.into_iter();
    let verb = words.next().unwrap_or_else(|| "list".to_owned());
    let mut name = || {
        let missing = || UsageError(format!("which one? `koine {kind_name} {verb} NAME`"));
        words.next().ok_or_else(missing)
    };
    let read = match verb.as_str() {
        "list" => Verb::List,
        "describe" => Verb::Describe(name()?),
        "delete" => Verb::Delete(name()?),
        "create" if kind.is_created() => Verb::Create { name: name()?, options: Vec::new() },
        "set" if kind.is_set() => Verb::Set { name: name()?, options: Vec::new() },
        "create" if kind.is_set() => {
            return Err(UsageError(format!("`koine {kind_name} set NAME` makes them as well")))
        }
        "create" => {
            return Err(UsageError(format!(
                "{kind_name} come into being when a client uses them; there is no create"
            )))
        }
        "set" => {
            return Err(UsageError(format!("{kind_name} cannot be set")));
        }
        word => return Err(unknown("verb", word, &VERBS)),
    };
    if let Some(extra) = words.next() {
        return Err(UsageError(format!("unexpected {extra:?}")));
    }
    match (read, options.first()) {
        (Verb::Create { name, .. }, _) => Ok(Verb::Create { name, options }),
        (Verb::Set { name, .. }, _) => Ok(Verb::Set { name, options }),
        (_, Some((option, _))) => {
            Err(UsageError(format!("--{option} goes with create or set only")))
        }
        (other, None) => Ok(other),
    }
}

fn read_tail(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut name = None;
    let mut command = TailCommand {
        name: String::new(),
        partition: 0,
        from: TailFrom::End,
        count: None,
        follow: true,
        json: false,
        flags: Flags::default(),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Show(help::tail())),
            Long("json") => command.json = true,
            Short('n') | Long("count") => command.count = Some(parser.value()?.parse()?),
            Short('p') | Long("partition") => command.partition = parser.value()?.parse()?,
            Long("no-follow") => command.follow = false,
            Long("from") => command.from = read_from(&parser.value()?.string()?)?,
            Long(flag) => {
                let flag = flag.to_owned();
                if !take_address(parser, &flag, &mut command.flags)? {
                    let own = ["json", "count", "partition", "no-follow", "from", "http", "config"];
                    return Err(unknown_flag(&flag, &own));
                }
            }
            Positional(word) if name.is_none() => name = Some(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    command.name =
        name.ok_or_else(|| UsageError("which topic or queue? `koine tail NAME`".to_owned()))?;
    Ok(Command::Tail(command))
}

fn read_from(text: &str) -> Result<TailFrom, UsageError> {
    match text {
        "start" => Ok(TailFrom::Start),
        "end" => Ok(TailFrom::End),
        offset => offset
            .parse()
            .map(TailFrom::Offset)
            .map_err(|_| UsageError(format!("--from: {text:?} is not start, end or an offset"))),
    }
}

fn read_demo(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut command = DemoCommand {
        full: false,
        data_file: None,
        speed: None,
        connect: false,
        json: false,
        flags: Flags::default(),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Show(help::demo())),
            Long("json") => command.json = true,
            Long("full") => command.full = true,
            Long("connect") => command.connect = true,
            Long("data-file") => command.data_file = Some(PathBuf::from(parser.value()?)),
            Long("speed") => command.speed = read_speed(&parser.value()?.string()?)?,
            Long(flag) => {
                let flag = flag.to_owned();
                if !take_setting(parser, &flag, &mut command.flags)? {
                    return Err(unknown_flag(
                        &flag,
                        &["json", "full", "connect", "data-file", "speed"],
                    ));
                }
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Demo(command))
}

fn read_doctor(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut command =
        DoctorCommand { data: None, repair: false, json: false, flags: Flags::default() };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Show(help::doctor())),
            Long("json") => command.json = true,
            Long("repair") => command.repair = true,
            Long(flag) => {
                let flag = flag.to_owned();
                if !matches!(flag.as_str(), "data" | "config")
                    || !take_setting(parser, &flag, &mut command.flags)?
                {
                    return Err(unknown_flag(&flag, &["json", "repair", "data", "config"]));
                }
            }
            Positional(directory) if command.data.is_none() => {
                command.data = Some(PathBuf::from(directory));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Doctor(command))
}

fn read_speed(text: &str) -> Result<Option<f64>, UsageError> {
    match text.trim_end_matches('x').parse::<f64>() {
        _ if text == "max" => Ok(None),
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(Some(speed)),
        _ => Err(UsageError(format!("--speed: {text:?} is not a factor like 100000 or \"max\""))),
    }
}
