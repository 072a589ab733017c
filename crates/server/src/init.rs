//! `koine init`: what a first secured start needs. An administrator with a password, an authority of our own with
//! the broker's certificate, and a configuration file that names them. Whoever owns the data directory may
//! do it again: then it gives the administrator a new password and leaves the files that are there.

use crate::certificates::{self, CertificateError, Pair};
use crate::cli::InitCommand;
use crate::config::{Config, FILE_DEFAULT};
use crate::http::{AdminError, AdminRequest, Kind};
use crate::logging;
use crate::runtime::Broker;
use base64ct::{Base64UrlUnpadded, Encoding};
use koine_broker::access::{Secret, SecretRng, Verifiers, ADMINISTRATOR};
use serde_json::{json, Map, Value};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Of a generated password; 144 bits.
const PASSWORD_BYTES: usize = 18;

/// What was done, for the one who asked.
pub struct Done {
    user: String,
    /// `None` if the user brought their own.
    password: Option<String>,
    is_new: bool,
    certificates: Option<certificates::Made>,
    clients: Vec<Pair>,
    file: Option<PathBuf>,
}

pub fn run(command: &InitCommand, mut config: Config) -> Result<Done, String> {
    config.log.level = config.log.level.min(tracing::Level::WARN);
    logging::start(&config.log);
    let rng = &mut SecretRng::new(&crate::runtime::secret_seed());
    let (password, shown) = match &command.password_file {
        Some(file) => (
            Secret::new(crate::cli::admin::password(file).map_err(|error| error.to_string())?),
            None,
        ),
        None => {
            let made = Base64UrlUnpadded::encode_string(&rng.bytes::<PASSWORD_BYTES>());
            (Secret::new(made.clone()), Some(made))
        }
    };
    // Nobody can reach it meanwhile.
    for (_, listener) in config.listen.by_key() {
        *listener = None;
    }
    let tls = std::mem::take(&mut config.tls);
    let broker = Broker::start(&config).map_err(|error| error.to_string())?;
    let made = make_user(&broker, &command.user, Verifiers::of_password(&password, rng));
    broker.stop();
    let is_new = made.map_err(|error| format!("{}: {error:?}", command.user))?;

    let directory = config.data.join("tls");
    let certificates = match tls.certificate {
        // They have their own.
        Some(_) => None,
        None => make_certificates(&directory, &command.names)?,
    };
    let clients = command.clients.iter().map(|user| certificates::make_client(&directory, user));
    let clients: Result<Vec<Pair>, CertificateError> = clients.collect();
    let clients = clients.map_err(|error| error.to_string())?;
    let file = match &certificates {
        Some(made) => write_file(&command.file(), &config.data, made)?,
        None => None,
    };
    let user = command.user.clone();
    Ok(Done { user, password: shown, is_new, certificates, clients, file })
}

/// True if there was no such user.
fn make_user(broker: &Broker, name: &str, verifiers: Verifiers) -> Result<bool, AdminError> {
    let ask = |request, verifiers| broker.administer(request, verifiers);
    let mut options = Map::new();
    options.insert("tags".to_owned(), json!([ADMINISTRATOR]));
    let (kind, name) = (Kind::Users, name.to_owned());
    let create =
        AdminRequest::Create { kind, name: name.clone(), options: options.clone(), password: None };
    let is_new = match ask(create, Some(verifiers.clone())) {
        Ok(_) => true,
        Err(AdminError::AlreadyExists(_)) => {
            let set = AdminRequest::Set { kind, name: name.clone(), options, password: None };
            ask(set, Some(verifiers))?;
            false
        }
        Err(error) => return Err(error),
    };
    let patterns = ["configure", "write", "read"].map(|key| (key.to_owned(), json!(".*")));
    let set = AdminRequest::Set {
        kind: Kind::Permissions,
        name,
        options: patterns.into_iter().collect(),
        password: None,
    };
    ask(set, None)?;
    Ok(is_new)
}

/// `None` if they are there already.
fn make_certificates(
    directory: &Path,
    names: &[String],
) -> Result<Option<certificates::Made>, String> {
    let failed = |error: io::Error| format!("{}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(failed)?;
    match certificates::make(directory, names) {
        Ok(made) => Ok(Some(made)),
        Err(CertificateError::File { error, .. })
            if error.kind() == io::ErrorKind::AlreadyExists =>
        {
            Ok(None)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// `None` if there is one already.
fn write_file(
    path: &Path,
    data: &Path,
    made: &certificates::Made,
) -> Result<Option<PathBuf>, String> {
    // A string of JSON is one of TOML.
    let text = |path: &Path| Value::String(path.display().to_string());
    let file = format!(
        "data = {}\n\n# Every port takes TLS and plain connections; plain ones from this machine only.\n\
         # To be reached from others: kafka = \"0.0.0.0:9092\", and the like.\n[tls]\n\
         certificate = {}\nkey = {}\nclient_ca = {}\nclient_auth = \"optional\"\nrequired = true\n",
        text(data),
        text(&made.server.certificate),
        text(&made.server.key),
        text(&made.ca),
    );
    let failed = |error| format!("{}: {error}", path.display());
    match std::fs::File::options().write(true).create_new(true).open(path) {
        Ok(mut opened) => {
            opened.write_all(file.as_bytes()).map_err(failed)?;
            Ok(Some(path.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

impl InitCommand {
    /// The configuration file that is written if it is not there.
    fn file(&self) -> PathBuf {
        self.flags.file.clone().unwrap_or_else(|| PathBuf::from(FILE_DEFAULT))
    }
}

impl Done {
    pub fn json(&self) -> Value {
        let pair = |pair: &Pair| json!({"certificate": pair.certificate, "key": pair.key});
        json!({
            "user": self.user,
            "password": self.password,
            "created": self.is_new,
            "ca": self.certificates.as_ref().map(|made| &made.ca),
            "server": self.certificates.as_ref().map(|made| pair(&made.server)),
            "clients": self.clients.iter().map(pair).collect::<Vec<_>>(),
            "config": self.file,
        })
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        let what = if self.is_new { "made" } else { "given a new password" };
        let _ = writeln!(text, "administrator  {} ({what})", self.user);
        if let Some(password) = &self.password {
            let _ = writeln!(text, "password       {password}   (kept nowhere: note it)");
        }
        match &self.certificates {
            Some(made) => {
                let _ = writeln!(text, "authority      {}", made.ca.display());
                let _ = writeln!(text, "certificate    {}", made.server.certificate.display());
            }
            None => text.push_str("certificates   there already, left as they are\n"),
        }
        for client in &self.clients {
            let _ = writeln!(text, "client         {}", client.certificate.display());
        }
        match &self.file {
            Some(file) => {
                let _ = writeln!(text, "configuration  {}", file.display());
            }
            None => {
                text.push_str("configuration  left as it is; see docs/user/tls.md for the keys\n")
            }
        }
        text.push_str(
            "\nStart with `koine`; then KOINE_USER and KOINE_PASSWORD let its commands in.\n",
        );
        text
    }
}
