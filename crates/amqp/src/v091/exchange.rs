//! Class exchange, and bindings of both kinds: declare, delete, bind, unbind.

use super::access::Thing;
use super::arguments::{self, equivalent};
use super::error::{ReplyCode, Violation};
use super::methods::{
    ExchangeBind, ExchangeBindOk, ExchangeDeclare, ExchangeDeclareOk, ExchangeDelete,
    ExchangeDeleteOk, ExchangeUnbind, ExchangeUnbindOk, Method, MethodId,
};
use super::session::AmqpSession;
use super::table::Table;
use super::waiting::{Answer, RefusedMethod, Then};
use super::{names, text};
use koine_broker::access::Action;
use koine_broker::metadata::{
    BindingSpec, BindingTarget, Command, ExchangeKind, ExchangeSpec, Refusal,
};
use koine_broker::router::{Arguments, HeaderMatch};
use koine_broker::session::{Context, Request};

/// A bind or unbind of either class.
pub(super) struct BindingMethod<'a> {
    pub bind: bool,
    pub source: &'a str,
    pub target: BindingTarget,
    pub key: &'a [u8],
    pub arguments: &'a Table,
    pub no_wait: bool,
    pub method: MethodId,
    pub reply: Method,
}

fn kind_of(name: &str) -> Option<ExchangeKind> {
    Some(match name {
        "direct" => ExchangeKind::Direct,
        "fanout" => ExchangeKind::Fanout,
        "topic" => ExchangeKind::Topic,
        "headers" => ExchangeKind::Headers,
        _ => return None,
    })
}

fn kind_name(kind: ExchangeKind) -> &'static str {
    match kind {
        ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Topic => "topic",
        ExchangeKind::Headers => "headers",
    }
}

fn refuse_default(name: &str, method: MethodId) -> Result<(), Violation> {
    if !name.is_empty() {
        return Ok(());
    }
    Err(Violation::new(ReplyCode::AccessRefused, text::DEFAULT_EXCHANGE, method))
}

impl AmqpSession {
    pub(super) fn exchange_declare(
        &mut self,
        number: u16,
        declare: ExchangeDeclare,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        const ID: MethodId = ExchangeDeclare::ID;
        let name = names::stripped(declare.exchange.as_str());
        let what = text::exchange(&name, &self.vhost);
        let found = ctx.metadata.exchange(self.namespace, &name);
        if declare.passive {
            refuse_default(&name, ID)?;
            self.permit(Action::Describe, Thing::Exchange(&name), ID, ctx)?;
            if found.is_none() {
                return Err(Violation::new(ReplyCode::NotFound, &format!("no {what}"), ID));
            }
            self.reply_unless(declare.no_wait, number, ExchangeDeclareOk {}, ctx);
            return Ok(());
        }
        let Some(kind) = kind_of(declare.kind.as_str()) else {
            let explanation = format!("unknown exchange type '{}'", declare.kind);
            return Err(Violation::new(ReplyCode::CommandInvalid, &explanation, ID));
        };
        refuse_default(&name, ID)?;
        self.permit(Action::Create, Thing::Exchange(&name), ID, ctx)?;
        arguments::EXCHANGE.check(&declare.arguments, &what, ID)?;
        if let Some(found) = found {
            check_equivalent(&declare, kind, &found, &what)?;
            self.reply_unless(declare.no_wait, number, ExchangeDeclareOk {}, ctx);
            return Ok(());
        }
        if names::is_reserved(&name) {
            let explanation = text::reserved("exchange", &name);
            return Err(Violation::new(ReplyCode::AccessRefused, &explanation, ID));
        }
        let spec = ExchangeSpec {
            kind,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: arguments::list(&declare.arguments),
        };
        let namespace = self.namespace;
        let command = Command::DeclareExchange { namespace, name, spec };
        let then = Then::ExchangeDeclared(declare);
        self.ask(number, then, |token| Request::Propose { token, command }, ctx);
        Ok(())
    }

    pub(super) fn exchange_declared(
        &mut self,
        number: u16,
        declare: ExchangeDeclare,
        answer: Result<Answer, Refusal>,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let name = names::stripped(declare.exchange.as_str());
        let what = text::exchange(&name, &self.vhost);
        if let Err(refusal) = answer {
            // Somebody else was faster: it may still be what this client wants.
            let found = ctx.metadata.exchange(self.namespace, &name);
            match (refusal, found, kind_of(declare.kind.as_str())) {
                (Refusal::AlreadyExists, Some(found), Some(kind)) => {
                    check_equivalent(&declare, kind, &found, &what)?;
                }
                _ => {
                    return Err(RefusedMethod(ExchangeDeclare::ID).violation(refusal, &what));
                }
            }
        }
        self.reply_unless(declare.no_wait, number, ExchangeDeclareOk {}, ctx);
        Ok(())
    }

    pub(super) fn exchange_delete(
        &mut self,
        number: u16,
        delete: &ExchangeDelete,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let name = names::stripped(delete.exchange.as_str());
        refuse_default(&name, ExchangeDelete::ID)?;
        let what = text::exchange(&name, &self.vhost);
        if names::is_reserved(&name) {
            let explanation = format!("deletion of system {what} not allowed");
            return Err(Violation::new(ReplyCode::AccessRefused, &explanation, ExchangeDelete::ID));
        }
        self.permit(Action::Delete, Thing::Exchange(&name), ExchangeDelete::ID, ctx)?;
        let (namespace, if_unused) = (self.namespace, delete.if_unused);
        let command = Command::DeleteExchange { namespace, name, if_unused };
        let then = Then::Reply {
            method: ExchangeDeleteOk {}.into(),
            no_wait: delete.no_wait,
            what,
            refused: RefusedMethod(ExchangeDelete::ID),
        };
        self.ask(number, then, |token| Request::Propose { token, command }, ctx);
        Ok(())
    }

    pub(super) fn exchange_bind(
        &mut self,
        number: u16,
        bind: &ExchangeBind,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let method = BindingMethod {
            bind: true,
            source: bind.source.as_str(),
            target: BindingTarget::Exchange(names::stripped(bind.destination.as_str())),
            key: bind.routing_key.as_bytes(),
            arguments: &bind.arguments,
            no_wait: bind.no_wait,
            method: ExchangeBind::ID,
            reply: ExchangeBindOk {}.into(),
        };
        self.binding(number, method, ctx)
    }

    pub(super) fn exchange_unbind(
        &mut self,
        number: u16,
        unbind: &ExchangeUnbind,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let method = BindingMethod {
            bind: false,
            source: unbind.source.as_str(),
            target: BindingTarget::Exchange(names::stripped(unbind.destination.as_str())),
            key: unbind.routing_key.as_bytes(),
            arguments: &unbind.arguments,
            no_wait: unbind.no_wait,
            method: ExchangeUnbind::ID,
            reply: ExchangeUnbindOk {}.into(),
        };
        self.binding(number, method, ctx)
    }

    /// Binds or unbinds. As in RabbitMQ an absent end is an error of bind and of nothing else.
    pub(super) fn binding(
        &mut self,
        number: u16,
        binding: BindingMethod<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let id = binding.method;
        let source = names::stripped(binding.source);
        self.permit_target(&binding, ctx)?;
        if let BindingTarget::Exchange(name) = &binding.target {
            refuse_default(name, id)?;
        }
        refuse_default(&source, id)?;
        self.permit_source(&source, &binding, ctx)?;
        let source_text = text::exchange(&source, &self.vhost);
        let found = ctx.metadata.exchange(self.namespace, &source);
        if binding.bind && found.is_none() {
            return Err(Violation::new(ReplyCode::NotFound, &format!("no {source_text}"), id));
        }
        let target_text = match &binding.target {
            BindingTarget::Queue(name) => text::queue(name, &self.vhost),
            BindingTarget::Exchange(name) => text::exchange(name, &self.vhost),
        };
        let target_exists = match &binding.target {
            BindingTarget::Queue(name) => {
                self.check_queue_access(name, id, ctx)?;
                ctx.metadata.named(self.namespace, name).is_some()
            }
            BindingTarget::Exchange(name) => ctx.metadata.exchange(self.namespace, name).is_some(),
        };
        if binding.bind && !target_exists {
            return Err(Violation::new(ReplyCode::NotFound, &format!("no {target_text}"), id));
        }
        let is_headers = found.is_some_and(|found| found.kind == ExchangeKind::Headers);
        if binding.bind && is_headers {
            check_match_mode(binding.arguments, id)?;
        }
        let spec = BindingSpec {
            source,
            target: binding.target,
            key: binding.key.to_vec(),
            arguments: arguments::list(binding.arguments),
        };
        let namespace = self.namespace;
        let command = if binding.bind {
            Command::Bind { namespace, binding: spec }
        } else {
            Command::Unbind { namespace, binding: spec }
        };
        let then = Then::Reply {
            method: binding.reply,
            no_wait: binding.no_wait,
            what: target_text,
            refused: RefusedMethod(id),
        };
        self.ask(number, then, |token| Request::Propose { token, command }, ctx);
        Ok(())
    }
}

fn check_match_mode(arguments: &Table, method: MethodId) -> Result<(), Violation> {
    use super::table::Value;
    use koine_broker::router::HeaderValue;
    let Some(mode) = arguments.view().find("x-match") else {
        return Ok(());
    };
    let (mode, shown) = match mode {
        Value::LongString(text) => (
            HeaderValue::Bytes(bytes::Bytes::copy_from_slice(text)),
            String::from_utf8_lossy(text).into_owned(),
        ),
        other => (HeaderValue::Void, format!("of type {}", other.type_name())),
    };
    let wanted = Arguments::new(vec![(b"x-match".to_vec(), mode)]);
    if HeaderMatch::parse(&wanted).is_ok() {
        return Ok(());
    }
    let explanation = format!(
        "Invalid x-match field value \"{shown}\"; expected all, any, all-with-x or any-with-x"
    );
    Err(Violation::new(ReplyCode::PreconditionFailed, &explanation, method))
}

fn check_equivalent(
    declare: &ExchangeDeclare,
    kind: ExchangeKind,
    found: &ExchangeSpec,
    what: &str,
) -> Result<(), Violation> {
    const ID: MethodId = ExchangeDeclare::ID;
    equivalent("type", what, kind_name(kind), kind_name(found.kind), ID)?;
    equivalent("durable", what, declare.durable, found.durable, ID)?;
    equivalent("auto_delete", what, declare.auto_delete, found.auto_delete, ID)?;
    equivalent("internal", what, declare.internal, found.internal, ID)
}
