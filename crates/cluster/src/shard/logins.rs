//! Who is logged in as whom, on shard 0 for all of the node: grants and refuses logins, counts the
//! connections of each user, and holds a refusal back for a while, so that guessing is slow and the time
//! of the answer says nothing. Passwords are checked by the host, elsewhere.
//!
//! And on every shard: telling sessions that users or rules have changed.

use super::Shard;
use koine_base::{ConnectionId, Moment};
use koine_broker::access::{PasswordCheck, Principal};
use koine_broker::session::{Credentials, Event, LoginRefusal, Protocol, Token};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// A login on its way.
struct Login {
    from: ConnectionId,
    token: Token,
    address: IpAddr,
    user: String,
    /// Of the user when its password was taken for checking.
    generation: u64,
}

#[derive(Default)]
pub(super) struct Logins {
    users: HashMap<ConnectionId, String>,
    connection_counts: HashMap<String, u32>,
    /// By ticket.
    checks: HashMap<u64, Login>,
    last_ticket: u64,
    /// For the host.
    ready: Vec<PasswordCheck>,
    /// One for each login that failed a moment ago, told when its time has come.
    refused: BTreeMap<(Moment, u64), (ConnectionId, Token, LoginRefusal)>,
}

impl Logins {
    pub fn deadline(&self) -> Moment {
        self.refused.first_key_value().map_or(Moment::NEVER, |((at, _), _)| *at)
    }

    /// The connection is gone.
    pub fn forget(&mut self, connection: ConnectionId) {
        self.checks.retain(|_, login| login.from != connection);
        self.leave(connection);
    }

    fn leave(&mut self, connection: ConnectionId) {
        let Some(user) = self.users.remove(&connection) else { return };
        if let Some(count) = self.connection_counts.get_mut(&user) {
            *count -= 1;
            if *count == 0 {
                self.connection_counts.remove(&user);
            }
        }
    }

    fn enter(&mut self, connection: ConnectionId, user: &str) {
        self.leave(connection);
        self.users.insert(connection, user.to_owned());
        *self.connection_counts.entry(user.to_owned()).or_default() += 1;
    }

    /// Connections of the user beside this one.
    fn others(&self, user: &str, connection: ConnectionId) -> u32 {
        let all = self.connection_counts.get(user).copied().unwrap_or_default();
        let is_one = self.users.get(&connection).is_some_and(|of| of == user);
        all - u32::from(is_one)
    }
}

impl Shard {
    /// Passwords to be checked, by a thread that may take its time; each is answered by
    /// [`Self::password_checked`].
    pub fn take_password_checks(&mut self) -> Vec<PasswordCheck> {
        std::mem::take(&mut self.logins.ready)
    }

    /// A check is through.
    pub fn password_checked(&mut self, now: koine_base::Now, ticket: u64, is_right: bool) {
        self.now = now;
        // Without one its connection is gone.
        if let Some(login) = self.logins.checks.remove(&ticket) {
            match is_right {
                true => self.grant(login),
                false => self.refuse_login(login.from, login.token, LoginRefusal::Wrong),
            }
        }
        self.run();
    }

    pub(super) fn authenticate(
        &mut self,
        from: ConnectionId,
        token: Token,
        address: IpAddr,
        credentials: Credentials,
    ) {
        let (user, is_right) = match credentials {
            Credentials::Password { user, password } => {
                if self.logins.checks.len() >= self.config.limits.logins_waiting_max {
                    return self.refuse_login(from, token, LoginRefusal::Busy);
                }
                let known = self.metadata.access().user(&user);
                let generation = known.map_or(0, |known| known.generation);
                let verifiers = known.map(|known| known.verifiers.clone());
                self.logins.last_ticket += 1;
                let ticket = self.logins.last_ticket;
                self.logins.ready.push(PasswordCheck::new(ticket, password, verifiers));
                let login = Login { from, token, address, user, generation };
                self.logins.checks.insert(ticket, login);
                return;
            }
            Credentials::Scram { user, is_right } => (user, is_right),
            Credentials::Certificate { user } => (user, true),
        };
        let generation = self.metadata.access().user(&user).map(|user| user.generation);
        match generation.filter(|_| is_right) {
            Some(generation) => self.grant(Login { from, token, address, user, generation }),
            None => self.refuse_login(from, token, LoginRefusal::Wrong),
        }
    }

    fn grant(&mut self, login: Login) {
        let Login { from, token, address, user, generation } = login;
        // Its password may have changed while it was checked.
        let known = self.metadata.access().user(&user).filter(|u| u.generation == generation);
        let Some(known) = known else {
            return self.refuse_login(from, token, LoginRefusal::Wrong);
        };
        let connections_max = known.limits.connections_max;
        let is_counted = self.protocol_of(from) != Some(Protocol::Admin);
        if let Some(connections_max) = connections_max.filter(|_| is_counted) {
            if self.logins.others(&user, from) >= connections_max {
                let refusal = LoginRefusal::TooManyConnections { connections_max };
                return self.refuse_login(from, token, refusal);
            }
        }
        if is_counted {
            self.logins.enter(from, &user);
        }
        let principal = Principal {
            user: Some(user.into()),
            generation,
            address: Some(address),
            client_id: None,
        };
        self.tell(from, Event::Authenticated { token, result: Ok(principal) });
    }

    fn refuse_login(&mut self, from: ConnectionId, token: Token, refusal: LoginRefusal) {
        let at = self.now.moment.after_ms(self.config.limits.login_delay_ms);
        self.logins.last_ticket += 1;
        self.logins.refused.insert((at, self.logins.last_ticket), (from, token, refusal));
    }

    pub(super) fn tick_logins(&mut self) {
        while let Some(entry) = self.logins.refused.first_entry() {
            if entry.key().0 > self.now.moment {
                return;
            }
            let (to, token, refusal) = entry.remove();
            self.tell(to, Event::Authenticated { token, result: Err(refusal) });
        }
    }

    /// Of a connection of this shard.
    fn protocol_of(&self, connection: ConnectionId) -> Option<Protocol> {
        self.connections.get(&connection).map(|connection| connection.protocol)
    }

    /// Tells sessions if users or rules have changed. True if they have.
    pub(super) fn note_access(&mut self) -> bool {
        let epoch = self.metadata.access().epoch();
        if std::mem::replace(&mut self.told_access, epoch) == epoch {
            return false;
        }
        for id in self.connection_ids() {
            self.step(id, |session, ctx| session.access_changed(ctx));
        }
        true
    }
}
