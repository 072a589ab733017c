//! Tokens of a session's requests: what each answer is for.

use koine_broker::session::Token;

/// What a token of a request stands for: the top byte. The rest is a number of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Ignored = 0,
    Open = 1,
    Publish = 2,
    Subscribe = 3,
    Unsubscribe = 4,
    Retained = 5,
    Attach = 6,
    Stop = 7,
    Notes = 8,
    Sync = 9,
    Login = 10,
    Revoke = 11,
}

const KIND_SHIFT: u32 = 56;

pub(crate) fn token(kind: Kind, number: u64) -> Token {
    (kind as u64) << KIND_SHIFT | number
}

pub(super) fn kind_of(token: Token) -> (Kind, u64) {
    let kind = match token >> KIND_SHIFT {
        1 => Kind::Open,
        2 => Kind::Publish,
        3 => Kind::Subscribe,
        4 => Kind::Unsubscribe,
        5 => Kind::Retained,
        6 => Kind::Attach,
        7 => Kind::Stop,
        8 => Kind::Notes,
        9 => Kind::Sync,
        10 => Kind::Login,
        11 => Kind::Revoke,
        _ => Kind::Ignored,
    };
    (kind, token & ((1 << KIND_SHIFT) - 1))
}
