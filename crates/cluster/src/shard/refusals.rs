//! What is not carried out here because this replica does not lead: every request and everybody who
//! waits gets the answer that was due, with the refusal in it.

use super::Shard;
use crate::group::Waiter;
use crate::mail::Mail;
use koine_base::{ConnectionId, GroupId, StreamId};
use koine_broker::membership::{Answer, GroupError, JoinRefused, Request as GroupRequest};
use koine_broker::metadata::{Queue, Refusal};
use koine_broker::session::{Event, LoginRefusal, Request};

impl Shard {
    /// The request is answered here if its group is not led from here; `None` if it was.
    pub(super) fn admit(&mut self, from: ConnectionId, request: Request) -> Option<Request> {
        if self.is_alone {
            return Some(request);
        }
        let admitted = match self.needs(&request) {
            None => true,
            Some((group, Need::Write)) => self.may_serve(group),
            Some((group, Need::Read)) => self.may_read(group),
        };
        if admitted {
            return Some(request);
        }
        self.refuse_request(from, request, Refusal::NotLeader);
        None
    }

    /// Which group has to be led from here for the request; `None` if none has.
    fn needs(&self, request: &Request) -> Option<(GroupId, Need)> {
        let of = |stream: &StreamId, need| Some((stream.group(), need));
        match request {
            Request::Propose { .. } => Some((GroupId::METADATA, Need::Write)),
            Request::Retained { .. } => Some((GroupId::METADATA, Need::Read)),
            Request::Append { stream, .. }
            | Request::Trim { stream, .. }
            | Request::Credit { stream, .. }
            | Request::Settle { stream, .. }
            | Request::Sync { stream, .. }
            | Request::Purge { stream, .. }
            | Request::Stop { stream, .. }
            | Request::Detach { stream, .. } => of(stream, Need::Write),
            Request::Read { stream, .. }
            | Request::Watch { stream, .. }
            | Request::Bounds { stream, .. }
            | Request::Locate { stream, .. }
            | Request::EpochEnd { stream, .. }
            | Request::Pull { stream, .. }
            | Request::Status { stream, .. } => of(stream, Need::Read),
            Request::Attach { attach, .. } => of(&attach.stream, Need::Read),
            Request::DeleteQueue { namespace, name, .. } => {
                let stream = self.metadata.queue(*namespace, name).map(Queue::stream);
                stream.and_then(|stream| of(&stream, Need::Read))
            }
            Request::Group { request, .. } => {
                Some((self.metadata.coordinator(request.group()), Need::Read))
            }
            Request::CommitOffsets { group, .. } | Request::DeleteOffsets { group, .. } => {
                Some((self.metadata.coordinator(group), Need::Write))
            }
            Request::FetchOffsets { group, .. } => {
                Some((self.metadata.coordinator(group), Need::Read))
            }
            Request::Publish { .. }
            | Request::Unwatch { .. }
            | Request::ListGroups { .. }
            | Request::Authenticate { .. } => None,
        }
    }

    pub(super) fn refuse_request(
        &mut self,
        from: ConnectionId,
        request: Request,
        refusal: Refusal,
    ) {
        let result = refusal;
        let event = match request {
            Request::Propose { token, .. } => Event::Proposed { token, result: Err(result) },
            Request::Append { token: Some(token), .. } => {
                Event::Appended { token, result: Err(result) }
            }
            Request::Publish { token: Some(token), .. } => {
                Event::Published { token, result: Err(result) }
            }
            Request::Read { token, .. } => Event::Read { token, result: Err(result) },
            Request::Watch { token, .. } => Event::Grown { token },
            Request::Bounds { token, .. } | Request::Trim { token, .. } => {
                Event::Bounds { token, result: Err(result) }
            }
            Request::Locate { token, .. } => Event::Located { token, result: Err(result) },
            Request::EpochEnd { token, .. } => Event::EpochEnd { token, result: Err(result) },
            Request::Attach { token, .. } => Event::Attached { token, result: Err(result) },
            Request::Stop { token, .. } => Event::Stopped { token },
            Request::Detach { token, .. } => Event::Detached { token },
            Request::Pull { token, .. } => Event::Pulled { token, result: Err(result) },
            Request::Purge { token, .. } => Event::Purged { token, result: Err(result) },
            Request::Status { token, .. } => Event::Status { token, result: Err(result) },
            Request::DeleteQueue { token, .. } => {
                Event::QueueDeleted { token, result: Err(result) }
            }
            Request::Sync { token, .. } => Event::Synced { token, result: Err(result) },
            Request::Group { token, request } => {
                Event::Group { token, answer: refused_answer(&request, GroupError::NotCoordinator) }
            }
            Request::CommitOffsets { token, .. } | Request::DeleteOffsets { token, .. } => {
                Event::Committed { token, result: Err(GroupError::NotCoordinator) }
            }
            Request::FetchOffsets { token, .. } => {
                Event::Offsets { token, result: Err(GroupError::NotCoordinator) }
            }
            Request::Retained { token, .. } => Event::Retained { token, result: Err(result) },
            Request::ListGroups { token } => Event::Groups { token, groups: Vec::new() },
            Request::Authenticate { token, .. } => {
                Event::Authenticated { token, result: Err(LoginRefusal::Busy) }
            }
            Request::Append { token: None, .. }
            | Request::Publish { token: None, .. }
            | Request::Credit { .. }
            | Request::Settle { .. }
            | Request::Unwatch { .. } => return,
        };
        self.tell(from, event);
    }

    pub(super) fn refuse_waiter(&mut self, waiter: Waiter, refusal: Refusal) {
        match waiter {
            Waiter::Stored { home, ticket } => {
                self.post(home, Mail::Stored { ticket, result: Err(refusal) });
            }
            Waiter::Appended { connection, token, .. } => {
                self.tell(connection, Event::Appended { token, result: Err(refusal) });
            }
            Waiter::Purged { connection, token, .. } => {
                self.tell(connection, Event::Purged { token, result: Err(refusal) });
            }
            Waiter::Trimmed { connection, token, .. } => {
                self.tell(connection, Event::Bounds { token, result: Err(refusal) });
            }
            Waiter::Committed { connection, token } => {
                let result = Err(GroupError::NotCoordinator);
                self.tell(connection, Event::Committed { token, result });
            }
            Waiter::Synced { connection, token } => {
                self.tell(connection, Event::Synced { token, result: Err(refusal) });
            }
            Waiter::Ask { connection, request } => {
                self.refuse_request(connection, *request, refusal);
            }
        }
    }
}

/// What leadership a request needs.
enum Need {
    /// What it does is void if another leads.
    Write,
    /// Its answer could be stale if another may lead by now.
    Read,
}

pub(super) fn refused_answer(request: &GroupRequest, error: GroupError) -> Answer {
    match request {
        GroupRequest::Join(join) => {
            Answer::Join(Err(JoinRefused { error, member_id: join.member.member_id.clone() }))
        }
        GroupRequest::Sync(_) => Answer::Sync(Err(error)),
        GroupRequest::Heartbeat { .. } => Answer::Heartbeat(Err(error)),
        GroupRequest::Leave { .. } => Answer::Leave(Err(error)),
        GroupRequest::Describe { .. } => Answer::Describe(Err(error)),
        GroupRequest::Delete { .. } => Answer::Delete(Err(error)),
    }
}
