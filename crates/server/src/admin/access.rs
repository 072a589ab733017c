//! Users, permissions and access control lists over the admin API. Shows what they are and never what is
//! kept of a password.

use super::jobs::{read_options, Shape, Slot};
use super::{missing, AdminSession, NAMESPACE};
use crate::http::{percent, AdminError, Kind};
use koine_broker::access::{
    Access, AccessCommand, Acl, AclKind, AclPattern, Effect, Operation, Pattern, Permissions,
    TopicPermissions, User, UserLimits, Verifiers,
};
use koine_broker::metadata::Command;
use koine_broker::session::{Context, Request};
use serde_json::{json, Map, Value};
use std::collections::BTreeSet;

type Options = Map<String, Value>;

const EFFECTS: [(&str, Effect); 2] = [("allow", Effect::Allow), ("deny", Effect::Deny)];

const KINDS: [(&str, AclKind); 5] = [
    ("topic", AclKind::Topic),
    ("group", AclKind::Group),
    ("cluster", AclKind::Cluster),
    ("transactional_id", AclKind::TransactionalId),
    ("subject", AclKind::Subject),
];

const OPERATIONS: [(&str, Operation); 11] = [
    ("all", Operation::All),
    ("read", Operation::Read),
    ("write", Operation::Write),
    ("create", Operation::Create),
    ("delete", Operation::Delete),
    ("alter", Operation::Alter),
    ("describe", Operation::Describe),
    ("cluster_action", Operation::ClusterAction),
    ("describe_configs", Operation::DescribeConfigs),
    ("alter_configs", Operation::AlterConfigs),
    ("idempotent_write", Operation::IdempotentWrite),
];

const PATTERNS: [&str; 3] = ["literal", "prefixed", "filter"];

impl AdminSession {
    pub(super) fn list_access(
        &mut self,
        id: u64,
        kind: Kind,
        after: Option<&str>,
        limit: usize,
        ctx: &mut Context<'_>,
    ) {
        let mut rows = rows(kind, ctx.metadata.access());
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.retain(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        if rows.len() > limit && limit > 0 {
            rows.truncate(limit);
            self.cut_page(id, &rows[limit - 1].0);
        }
        for (_, row) in rows {
            self.push_row(id, row);
        }
    }

    pub(super) fn describe_access(
        &mut self,
        id: u64,
        kind: Kind,
        name: &str,
        ctx: &mut Context<'_>,
    ) -> Result<(), AdminError> {
        let mut rows = rows(kind, ctx.metadata.access()).into_iter();
        let found = rows.find(|(of, _)| of == name);
        let (_, row) = found.ok_or_else(|| missing(kind.singular(), name))?;
        self.push_row(id, row);
        Ok(())
    }

    pub(super) fn create_access(
        &mut self,
        id: u64,
        kind: Kind,
        name: String,
        options: &Options,
        verifiers: Option<Verifiers>,
        ctx: &mut Context<'_>,
    ) -> Result<(), AdminError> {
        let (shown, commands) = match kind {
            Kind::Users => {
                read_options(options, &["tags", "connections_max", "channels_max"])?;
                if ctx.metadata.access().user(&name).is_some() {
                    return Err(AdminError::AlreadyExists(format!("{name:?} exists already")));
                }
                let user = User {
                    verifiers: verifiers.unwrap_or_default(),
                    tags: tags(options)?.unwrap_or_default(),
                    limits: limits(options, UserLimits::default())?,
                    ..User::default()
                };
                let decoy_key = ctx.secret_rng.bytes::<32>().to_vec();
                (name.clone(), vec![AccessCommand::AddUser { name, user, decoy_key }])
            }
            Kind::Acls => {
                let acl = acl(name, options)?;
                (name_of(&acl), vec![AccessCommand::AddAcls { acls: vec![acl] }])
            }
            _ => {
                let kind = kind.name();
                return Err(AdminError::Invalid(format!("{kind} are set, not created")));
            }
        };
        self.change(id, json!({ "name": shown }), commands, ctx);
        Ok(())
    }

    pub(super) fn set_access(
        &mut self,
        id: u64,
        kind: Kind,
        name: String,
        options: &Options,
        verifiers: Option<Verifiers>,
        ctx: &mut Context<'_>,
    ) -> Result<(), AdminError> {
        let shown = json!({ "name": name });
        let commands = match kind {
            Kind::Users => {
                let access = ctx.metadata.access();
                let user = access.user(&name).ok_or_else(|| missing("user", &name))?;
                change_user(name, user, options, verifiers)?
            }
            Kind::Permissions => {
                read_options(options, &["configure", "write", "read"])?;
                known(ctx, &name)?;
                let row = Permissions {
                    configure: pattern(options, "configure")?,
                    write: pattern(options, "write")?,
                    read: pattern(options, "read")?,
                };
                vec![AccessCommand::SetPermissions { user: name, namespace: NAMESPACE, row }]
            }
            Kind::TopicPermissions => {
                read_options(options, &["write", "read"])?;
                let (user, exchange) = split(&name)?;
                known(ctx, user)?;
                let row = TopicPermissions {
                    write: pattern(options, "write")?,
                    read: pattern(options, "read")?,
                };
                vec![AccessCommand::SetTopicPermissions {
                    user: user.to_owned(),
                    namespace: NAMESPACE,
                    exchange: exchange.to_owned(),
                    row,
                }]
            }
            _ => return Err(AdminError::Invalid(format!("{} cannot be set", kind.name()))),
        };
        self.change(id, shown, commands, ctx);
        Ok(())
    }

    pub(super) fn delete_access(
        &mut self,
        id: u64,
        kind: Kind,
        name: String,
        ctx: &mut Context<'_>,
    ) -> Result<(), AdminError> {
        let access = ctx.metadata.access();
        if !rows(kind, access).iter().any(|(of, _)| *of == name) {
            return Err(missing(kind.singular(), &name));
        }
        let shown = json!({ "deleted": name });
        let command = match kind {
            Kind::Users => AccessCommand::DeleteUser { name },
            Kind::Permissions => {
                AccessCommand::ClearPermissions { user: name, namespace: NAMESPACE }
            }
            Kind::TopicPermissions => {
                let (user, exchange) = split(&name)?;
                AccessCommand::ClearTopicPermissions {
                    user: user.to_owned(),
                    namespace: NAMESPACE,
                    exchange: Some(exchange.to_owned()),
                }
            }
            _ => {
                let acls = access.acls().filter(|acl| name_of(acl) == name).cloned().collect();
                AccessCommand::RemoveAcls { acls }
            }
        };
        self.change(id, shown, vec![command], ctx);
        Ok(())
    }

    /// Answered when all are done; in order.
    fn change(
        &mut self,
        id: u64,
        shown: Value,
        commands: Vec<AccessCommand>,
        ctx: &mut Context<'_>,
    ) {
        self.shape(id, Shape::Item);
        self.push_row(id, shown);
        for command in commands {
            let command = Command::Access(Box::new(command));
            self.ask(id, Slot::Done, ctx, |token| Request::Propose { token, command });
        }
    }
}

fn known(ctx: &Context<'_>, user: &str) -> Result<(), AdminError> {
    ctx.metadata.access().user(user).map(drop).ok_or_else(|| missing("user", user))
}

/// Of one kind, each with its name.
fn rows(kind: Kind, access: &Access) -> Vec<(String, Value)> {
    match kind {
        Kind::Users => access.users().map(|(name, user)| user_row(name, user)).collect(),
        Kind::Permissions => {
            let rows = access.permissions().filter(|(_, namespace, _)| *namespace == NAMESPACE);
            rows.map(|(user, _, row)| {
                let shown = json!({
                    "name": user, "vhost": "/", "configure": row.configure.as_str(),
                    "write": row.write.as_str(), "read": row.read.as_str(),
                });
                (user.to_owned(), shown)
            })
            .collect()
        }
        Kind::TopicPermissions => {
            let rows = access.topic_permissions();
            rows.filter(|(_, namespace, _, _)| *namespace == NAMESPACE)
                .map(|(user, _, exchange, row)| {
                    let name = format!("{user}/{exchange}");
                    let shown = json!({
                        "name": name, "user": user, "vhost": "/", "exchange": exchange,
                        "write": row.write.as_str(), "read": row.read.as_str(),
                    });
                    (name, shown)
                })
                .collect()
        }
        _ => access.acls().map(acl_row).collect(),
    }
}

fn user_row(name: &str, user: &User) -> (String, Value) {
    let verifiers = &user.verifiers;
    let mut mechanisms = Vec::new();
    if verifiers.password.is_some()
        || verifiers.scram_sha_256.is_some()
        || verifiers.scram_sha_512.is_some()
    {
        mechanisms.push("PLAIN");
    }
    mechanisms.extend(verifiers.scram_sha_256.as_ref().map(|_| "SCRAM-SHA-256"));
    mechanisms.extend(verifiers.scram_sha_512.as_ref().map(|_| "SCRAM-SHA-512"));
    let shown = json!({
        "name": name, "tags": user.tags, "mechanisms": mechanisms,
        "connections_max": user.limits.connections_max, "channels_max": user.limits.channels_max,
    });
    (name.to_owned(), shown)
}

fn word_of<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, known)| known == value).map_or("unknown", |(word, _)| word)
}

fn parts(pattern: &AclPattern) -> (&'static str, &str) {
    match pattern {
        AclPattern::Literal(name) => (PATTERNS[0], name),
        AclPattern::Prefixed(name) => (PATTERNS[1], name),
        AclPattern::Filter(name) => (PATTERNS[2], name),
    }
}

/// What a list is called here: all of it, so that deleting one is exact.
fn name_of(acl: &Acl) -> String {
    let (pattern, resource) = parts(&acl.pattern);
    let words = [
        word_of(&EFFECTS, &acl.effect),
        word_of(&OPERATIONS, &acl.operation),
        word_of(&KINDS, &acl.kind),
        pattern,
        &percent::encode(&acl.user),
        &percent::encode(&acl.host),
        &percent::encode(resource),
    ];
    words.join(":")
}

fn acl_row(acl: &Acl) -> (String, Value) {
    let (pattern, resource) = parts(&acl.pattern);
    let shown = json!({
        "name": name_of(acl), "effect": word_of(&EFFECTS, &acl.effect),
        "operation": word_of(&OPERATIONS, &acl.operation), "kind": word_of(&KINDS, &acl.kind),
        "pattern": pattern, "resource": resource, "user": acl.user, "host": acl.host,
    });
    (name_of(acl), shown)
}

fn change_user(
    name: String,
    user: &User,
    options: &Options,
    verifiers: Option<Verifiers>,
) -> Result<Vec<AccessCommand>, AdminError> {
    read_options(options, &["tags", "connections_max", "channels_max"])?;
    let mut commands = Vec::new();
    if let Some(tags) = tags(options)? {
        commands.push(AccessCommand::SetTags { name: name.clone(), tags });
    }
    if ["connections_max", "channels_max"].iter().any(|key| options.contains_key(*key)) {
        let limits = limits(options, user.limits)?;
        commands.push(AccessCommand::SetLimits { name: name.clone(), limits });
    }
    if let Some(verifiers) = verifiers {
        commands.push(AccessCommand::SetVerifiers { name, verifiers });
    }
    if commands.is_empty() {
        let message = "nothing to set; known: password, tags, connections_max, channels_max";
        return Err(AdminError::Invalid(message.to_owned()));
    }
    Ok(commands)
}

fn wrong(key: &str, must: &str) -> AdminError {
    AdminError::Invalid(format!("{key:?} must be {must}"))
}

/// A list of words, or one text of words with commas between them.
fn tags(options: &Options) -> Result<Option<BTreeSet<String>>, AdminError> {
    let must = "a list of words";
    match options.get("tags") {
        None => Ok(None),
        Some(Value::String(text)) => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Ok(Some(words.map(str::to_owned).collect()))
        }
        Some(Value::Array(words)) => {
            let word = |word: &Value| word.as_str().map(str::to_owned);
            let words: Option<_> = words.iter().map(word).collect();
            words.map(Some).ok_or_else(|| wrong("tags", must))
        }
        Some(_) => Err(wrong("tags", must)),
    }
}

/// A number, or null for no limit; what is not named stays.
fn limits(options: &Options, before: UserLimits) -> Result<UserLimits, AdminError> {
    let number = |key: &str, before| match options.get(key) {
        None => Ok(before),
        Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.map(Some).ok_or_else(|| wrong(key, "a whole number, or null"))
        }
    };
    Ok(UserLimits {
        connections_max: number("connections_max", before.connections_max)?,
        channels_max: number("channels_max", before.channels_max)?,
    })
}

fn text<'a>(options: &'a Options, key: &str) -> Result<&'a str, AdminError> {
    options.get(key).and_then(Value::as_str).ok_or_else(|| wrong(key, "given, as a string"))
}

fn pattern(options: &Options, key: &str) -> Result<Pattern, AdminError> {
    let text = text(options, key)?;
    Pattern::new(text).map_err(|error| AdminError::Invalid(format!("{key:?}: {error}")))
}

fn split(name: &str) -> Result<(&str, &str), AdminError> {
    // A user's name may hold a slash, an exchange's hardly does.
    let wrong = || AdminError::Invalid("topic permissions are named USER/EXCHANGE".to_owned());
    name.rsplit_once('/').ok_or_else(wrong)
}

fn acl(name: String, options: &Options) -> Result<Acl, AdminError> {
    read_options(options, &["user", "operation", "kind", "pattern", "effect", "host"])?;
    let or = |key: &str, default: &'static str| match options.get(key) {
        None => Ok(default),
        Some(_) => text(options, key),
    };
    fn among<T: Copy>(key: &str, text: &str, table: &[(&str, T)]) -> Result<T, AdminError> {
        let known = || table.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let found = table.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| wrong(key, &format!("one of {}", known())))
    }
    let kind = among("kind", text(options, "kind")?, &KINDS)?;
    let usual = if kind == AclKind::Subject { "filter" } else { "literal" };
    let pattern = match or("pattern", usual)? {
        "literal" => AclPattern::Literal(name),
        "prefixed" => AclPattern::Prefixed(name),
        "filter" => AclPattern::Filter(name),
        _ => return Err(wrong("pattern", &format!("one of {}", PATTERNS.join(", ")))),
    };
    Ok(Acl {
        user: text(options, "user")?.to_owned(),
        host: or("host", "*")?.to_owned(),
        effect: among("effect", or("effect", "allow")?, &EFFECTS)?,
        operation: among("operation", text(options, "operation")?, &OPERATIONS)?,
        kind,
        pattern,
    })
}
