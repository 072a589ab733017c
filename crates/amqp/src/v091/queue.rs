//! Class queue: declare, bind, unbind, purge, delete. A topic of another protocol is taken for a
//! durable queue that is always there: it can be declared, bound, consumed and purged (which moves
//! its shared cursor), and deleted only by those who own topics.

use super::access::Thing;
use super::arguments::{self, equivalent};
use super::error::{ReplyCode, Violation};
use super::exchange::BindingMethod;
use super::methods::{
    MethodId, QueueBind, QueueBindOk, QueueDeclare, QueueDeclareOk, QueueDelete, QueueDeleteOk,
    QueuePurge, QueuePurgeOk, QueueUnbind, QueueUnbindOk,
};
use super::session::{is_created, AmqpSession};
use super::waiting::{Answer, RefusedMethod, Then};
use super::wire::ShortString;
use super::{names, text};
use koine_base::StreamId;
use koine_broker::access::Action;
use koine_broker::metadata::{BindingTarget, Command, Named, Queue, QueueSpec, Refusal};
use koine_broker::session::{Context, Request};

/// A declaration that is on its way to the metadata.
#[derive(Debug)]
pub(super) struct Declaration {
    name: String,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    no_wait: bool,
}

impl AmqpSession {
    /// The queue a method means: the empty name is the one last declared on the channel.
    pub(super) fn queue_name(
        &mut self,
        number: u16,
        name: &ShortString,
        method: MethodId,
    ) -> Result<String, Violation> {
        if !name.is_empty() {
            return Ok(names::stripped(name.as_str()));
        }
        match self.channel(number) {
            Some(channel) if !channel.last_queue.is_empty() => Ok(channel.last_queue.clone()),
            _ => {
                let explanation = "no previously declared queue";
                Err(Violation::new(ReplyCode::NotFound, explanation, method))
            }
        }
    }

    /// 405 if another connection has `name` for itself.
    pub(super) fn check_queue_access(
        &self,
        name: &str,
        method: MethodId,
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        let owner = ctx.metadata.queue(self.namespace, name).and_then(|queue| queue.spec.exclusive);
        if owner.is_none_or(|owner| owner == ctx.connection.raw()) {
            return Ok(());
        }
        let explanation = text::locked(&text::queue(name, &self.vhost));
        Err(Violation::new(ReplyCode::ResourceLocked, &explanation, method))
    }

    /// The streams of `name`, for `action`: 403 if the user may not, 404 if there is none, 405 if
    /// another connection has it for itself.
    pub(super) fn queue_streams(
        &mut self,
        action: Action,
        name: &str,
        method: MethodId,
        ctx: &Context<'_>,
    ) -> Result<Vec<StreamId>, Violation> {
        self.permit(action, Thing::Queue(name), method, ctx)?;
        self.check_queue_access(name, method, ctx)?;
        match ctx.metadata.named(self.namespace, name) {
            Some(named) => Ok(named.streams()),
            None => {
                let explanation = format!("no {}", text::queue(name, &self.vhost));
                Err(Violation::new(ReplyCode::NotFound, &explanation, method))
            }
        }
    }

    pub(super) fn queue_declare(
        &mut self,
        number: u16,
        declare: &QueueDeclare,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        const ID: MethodId = QueueDeclare::ID;
        let mut name = names::stripped(declare.queue.as_str());
        if declare.passive {
            if name.is_empty() {
                name = self.queue_name(number, &declare.queue, ID)?;
            }
            return self.count(number, Action::Describe, name, declare.no_wait, ctx);
        }
        let what = text::queue(&name, &self.vhost);
        if name.is_empty() {
            name = names::generated("amq.gen-", ctx.secret_rng);
        } else {
            self.refuse_reserved(&name, ctx)?;
        }
        self.permit(Action::Create, Thing::Queue(&name), ID, ctx)?;
        arguments::QUEUE.check(&declare.arguments, &what, ID)?;
        let declaration = Declaration {
            name,
            // What only one connection may use does not outlive it.
            durable: declare.durable && !declare.exclusive,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            no_wait: declare.no_wait,
        };
        match ctx.metadata.named(self.namespace, &declaration.name) {
            Some(Named::Queue(queue)) => {
                self.check_equivalent(&declaration, queue, ctx)?;
                let Declaration { name, no_wait, .. } = declaration;
                self.count(number, Action::Create, name, no_wait, ctx)
            }
            Some(Named::Topic(_)) => {
                let Declaration { name, no_wait, .. } = declaration;
                self.count(number, Action::Create, name, no_wait, ctx)
            }
            None => {
                let spec = QueueSpec {
                    durable: declaration.durable,
                    exclusive: declaration.exclusive.then(|| ctx.connection.raw()),
                    auto_delete: declaration.auto_delete,
                    arguments: arguments::list(&declare.arguments),
                };
                let command = Command::DeclareQueue {
                    namespace: self.namespace,
                    name: declaration.name.clone(),
                    spec,
                    id: names::object_id(ctx.rng),
                };
                let then = Then::QueueDeclared(declaration);
                self.ask(number, then, |token| Request::Propose { token, command }, ctx);
                Ok(())
            }
        }
    }

    /// A reserved name may be declared if it is there; who may not declare it does not learn that.
    fn refuse_reserved(&mut self, name: &str, ctx: &Context<'_>) -> Result<(), Violation> {
        const ID: MethodId = QueueDeclare::ID;
        let is_there = || ctx.metadata.named(self.namespace, name).is_some();
        if !names::is_reserved(name)
            || is_there() && self.permit(Action::Create, Thing::Queue(name), ID, ctx).is_ok()
        {
            return Ok(());
        }
        let explanation = text::reserved("queue", name);
        Err(Violation::new(ReplyCode::AccessRefused, &explanation, ID))
    }

    fn check_equivalent(
        &self,
        declaration: &Declaration,
        queue: &Queue,
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        const ID: MethodId = QueueDeclare::ID;
        let what = text::queue(&declaration.name, &self.vhost);
        let owner = declaration.exclusive.then(|| ctx.connection.raw());
        if queue.spec.exclusive != owner {
            return Err(Violation::new(ReplyCode::ResourceLocked, &text::locked(&what), ID));
        }
        equivalent("durable", &what, declaration.durable, queue.spec.durable, ID)?;
        equivalent("auto_delete", &what, declaration.auto_delete, queue.spec.auto_delete, ID)
    }

    pub(super) fn queue_declared(
        &mut self,
        number: u16,
        declaration: Declaration,
        answer: Result<Answer, Refusal>,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let what = text::queue(&declaration.name, &self.vhost);
        let answer =
            answer.map_err(|refusal| RefusedMethod(QueueDeclare::ID).violation(refusal, &what))?;
        if is_created(&answer) {
            return self.declare_ok(number, declaration.name, declaration.no_wait, (0, 0), ctx);
        }
        // Somebody else was faster.
        if let Some(queue) = ctx.metadata.queue(self.namespace, &declaration.name) {
            self.check_equivalent(&declaration, queue, ctx)?;
        }
        self.count(number, Action::Create, declaration.name, declaration.no_wait, ctx)
    }

    /// Answers a declare of what exists, with its counts.
    fn count(
        &mut self,
        number: u16,
        action: Action,
        name: String,
        no_wait: bool,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let streams = self.queue_streams(action, &name, QueueDeclare::ID, ctx)?;
        if no_wait {
            return self.declare_ok(number, name, no_wait, (0, 0), ctx);
        }
        let tokens: Vec<_> = streams.iter().map(|_| self.token()).collect();
        let requests = streams.iter().zip(&tokens);
        let requests = requests
            .map(|(stream, token)| Request::Status { token: *token, stream: *stream })
            .collect();
        let then = Then::QueueCounted { queue: name, no_wait };
        self.wait(number, then, requests, tokens, ctx);
        Ok(())
    }

    pub(super) fn queue_counted(
        &mut self,
        number: u16,
        name: &str,
        no_wait: bool,
        answers: Vec<Result<Answer, Refusal>>,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let (mut messages, mut consumers) = (0u64, 0u32);
        for answer in answers {
            match answer {
                Ok(Answer::Status(status)) => {
                    messages = messages.saturating_add(status.ready);
                    consumers = consumers.max(status.consumers);
                }
                Ok(_) => {}
                Err(refusal) => {
                    let what = text::queue(name, &self.vhost);
                    return Err(RefusedMethod(QueueDeclare::ID).violation(refusal, &what));
                }
            }
        }
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.declare_ok(number, name.to_owned(), no_wait, (messages, consumers), ctx)
    }

    fn declare_ok(
        &mut self,
        number: u16,
        name: String,
        no_wait: bool,
        (message_count, consumer_count): (u32, u32),
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let queue = ShortString::truncated(&name);
        if let Some(channel) = self.channel(number) {
            channel.last_queue = name;
        }
        let reply = QueueDeclareOk { queue, message_count, consumer_count };
        self.reply_unless(no_wait, number, reply, ctx);
        Ok(())
    }

    /// With neither queue nor key both mean the queue last declared.
    fn binding_key(
        &mut self,
        number: u16,
        queue: &ShortString,
        key: &ShortString,
        method: MethodId,
    ) -> Result<Vec<u8>, Violation> {
        if queue.is_empty() && key.is_empty() {
            return Ok(self.queue_name(number, queue, method)?.into_bytes());
        }
        Ok(key.as_bytes().to_vec())
    }

    pub(super) fn queue_bind(
        &mut self,
        number: u16,
        bind: &QueueBind,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let name = self.queue_name(number, &bind.queue, QueueBind::ID)?;
        let key = self.binding_key(number, &bind.queue, &bind.routing_key, QueueBind::ID)?;
        let method = BindingMethod {
            bind: true,
            source: bind.exchange.as_str(),
            target: BindingTarget::Queue(name),
            key: &key,
            arguments: &bind.arguments,
            no_wait: bind.no_wait,
            method: QueueBind::ID,
            reply: QueueBindOk {}.into(),
        };
        self.binding(number, method, ctx)
    }

    pub(super) fn queue_unbind(
        &mut self,
        number: u16,
        unbind: &QueueUnbind,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let name = self.queue_name(number, &unbind.queue, QueueUnbind::ID)?;
        let key = self.binding_key(number, &unbind.queue, &unbind.routing_key, QueueUnbind::ID)?;
        let method = BindingMethod {
            bind: false,
            source: unbind.exchange.as_str(),
            target: BindingTarget::Queue(name),
            key: &key,
            arguments: &unbind.arguments,
            no_wait: false,
            method: QueueUnbind::ID,
            reply: QueueUnbindOk {}.into(),
        };
        self.binding(number, method, ctx)
    }

    pub(super) fn queue_purge(
        &mut self,
        number: u16,
        purge: &QueuePurge,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let name = self.queue_name(number, &purge.queue, QueuePurge::ID)?;
        let streams = self.queue_streams(Action::Read, &name, QueuePurge::ID, ctx)?;
        if ctx.metadata.topic(self.namespace, &name).is_some() {
            // It skips records for whoever reads the topic so: more than reading it.
            self.permit(Action::Delete, Thing::Queue(&name), QueuePurge::ID, ctx)?;
        }
        let tokens: Vec<_> = streams.iter().map(|_| self.token()).collect();
        let requests = streams.iter().zip(&tokens);
        let requests = requests
            .map(|(stream, token)| Request::Purge { token: *token, stream: *stream })
            .collect();
        let what = text::queue(&name, &self.vhost);
        let then = Then::QueueEmptied { delete: false, no_wait: purge.no_wait, what };
        self.wait(number, then, requests, tokens, ctx);
        Ok(())
    }

    pub(super) fn queue_delete(
        &mut self,
        number: u16,
        delete: &QueueDelete,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        const ID: MethodId = QueueDelete::ID;
        let name = self.queue_name(number, &delete.queue, ID)?;
        self.permit(Action::Delete, Thing::Queue(&name), ID, ctx)?;
        self.check_queue_access(&name, ID, ctx)?;
        let what = text::queue(&name, &self.vhost);
        match ctx.metadata.named(self.namespace, &name) {
            Some(Named::Topic(_)) => {
                let explanation = format!("{what} is a topic, which is not deleted as a queue");
                Err(Violation::new(ReplyCode::PreconditionFailed, &explanation, ID))
            }
            None => {
                let reply = QueueDeleteOk { message_count: 0 };
                self.reply_unless(delete.no_wait, number, reply, ctx);
                Ok(())
            }
            Some(Named::Queue(_)) => {
                let (namespace, if_unused, if_empty) =
                    (self.namespace, delete.if_unused, delete.if_empty);
                let request =
                    |token| Request::DeleteQueue { token, namespace, name, if_unused, if_empty };
                let then = Then::QueueEmptied { delete: true, no_wait: delete.no_wait, what };
                self.ask(number, then, request, ctx);
                Ok(())
            }
        }
    }

    /// After a purge or delete: how many messages went.
    pub(super) fn queue_emptied(
        &mut self,
        number: u16,
        delete: bool,
        no_wait: bool,
        what: &str,
        answers: Vec<Result<Answer, Refusal>>,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let id = if delete { QueueDelete::ID } else { QueuePurge::ID };
        let mut count = 0u64;
        for answer in answers {
            match answer {
                Ok(Answer::Count(messages)) => count = count.saturating_add(messages),
                Ok(_) => {}
                // It went while we asked.
                Err(Refusal::NotFound) if delete => {}
                Err(refusal) => return Err(RefusedMethod(id).violation(refusal, what)),
            }
        }
        let message_count = u32::try_from(count).unwrap_or(u32::MAX);
        if delete {
            self.reply_unless(no_wait, number, QueueDeleteOk { message_count }, ctx);
        } else {
            self.reply_unless(no_wait, number, QueuePurgeOk { message_count }, ctx);
        }
        Ok(())
    }
}
