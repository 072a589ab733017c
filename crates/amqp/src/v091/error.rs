//! Every way a peer can be told "no": the reply codes with their reach, and the mapping of malformed
//! bytes to them. No other file names a number.

use super::wire::ShortString;

/// Reply codes (0-9-1 section 1.2, with RabbitMQ's reading of their reach).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyCode {
    Success = 200,
    ContentTooLarge = 311,
    NoRoute = 312,
    NoConsumers = 313,
    ConnectionForced = 320,
    InvalidPath = 402,
    AccessRefused = 403,
    NotFound = 404,
    ResourceLocked = 405,
    PreconditionFailed = 406,
    FrameError = 501,
    SyntaxError = 502,
    CommandInvalid = 503,
    ChannelError = 504,
    UnexpectedFrame = 505,
    ResourceError = 506,
    NotAllowed = 530,
    NotImplemented = 540,
    InternalError = 541,
}

/// What an error closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Channel,
    Connection,
}

impl ReplyCode {
    pub const ALL: [ReplyCode; 19] = [
        ReplyCode::Success,
        ReplyCode::ContentTooLarge,
        ReplyCode::NoRoute,
        ReplyCode::NoConsumers,
        ReplyCode::ConnectionForced,
        ReplyCode::InvalidPath,
        ReplyCode::AccessRefused,
        ReplyCode::NotFound,
        ReplyCode::ResourceLocked,
        ReplyCode::PreconditionFailed,
        ReplyCode::FrameError,
        ReplyCode::SyntaxError,
        ReplyCode::CommandInvalid,
        ReplyCode::ChannelError,
        ReplyCode::UnexpectedFrame,
        ReplyCode::ResourceError,
        ReplyCode::NotAllowed,
        ReplyCode::NotImplemented,
        ReplyCode::InternalError,
    ];

    pub fn number(self) -> u16 {
        self as u16
    }

    /// The upper-case name that RabbitMQ puts in front of every reply text; clients match on it.
    pub fn name(self) -> &'static str {
        match self {
            ReplyCode::Success => "SUCCESS",
            ReplyCode::ContentTooLarge => "CONTENT_TOO_LARGE",
            ReplyCode::NoRoute => "NO_ROUTE",
            ReplyCode::NoConsumers => "NO_CONSUMERS",
            ReplyCode::ConnectionForced => "CONNECTION_FORCED",
            ReplyCode::InvalidPath => "INVALID_PATH",
            ReplyCode::AccessRefused => "ACCESS_REFUSED",
            ReplyCode::NotFound => "NOT_FOUND",
            ReplyCode::ResourceLocked => "RESOURCE_LOCKED",
            ReplyCode::PreconditionFailed => "PRECONDITION_FAILED",
            ReplyCode::FrameError => "FRAME_ERROR",
            ReplyCode::SyntaxError => "SYNTAX_ERROR",
            ReplyCode::CommandInvalid => "COMMAND_INVALID",
            ReplyCode::ChannelError => "CHANNEL_ERROR",
            ReplyCode::UnexpectedFrame => "UNEXPECTED_FRAME",
            ReplyCode::ResourceError => "RESOURCE_ERROR",
            ReplyCode::NotAllowed => "NOT_ALLOWED",
            ReplyCode::NotImplemented => "NOT_IMPLEMENTED",
            ReplyCode::InternalError => "INTERNAL_ERROR",
        }
    }

    pub fn reach(self) -> Reach {
        match self {
            ReplyCode::ContentTooLarge
            | ReplyCode::NoRoute
            | ReplyCode::NoConsumers
            | ReplyCode::AccessRefused
            | ReplyCode::NotFound
            | ReplyCode::ResourceLocked
            | ReplyCode::PreconditionFailed => Reach::Channel,
            ReplyCode::Success
            | ReplyCode::ConnectionForced
            | ReplyCode::InvalidPath
            | ReplyCode::FrameError
            | ReplyCode::SyntaxError
            | ReplyCode::CommandInvalid
            | ReplyCode::ChannelError
            | ReplyCode::UnexpectedFrame
            | ReplyCode::ResourceError
            | ReplyCode::NotAllowed
            | ReplyCode::NotImplemented
            | ReplyCode::InternalError => Reach::Connection,
        }
    }
}

/// Why a frame, method or content ended a channel or the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub code: ReplyCode,
    /// `NAME - explanation`, at most 255 bytes.
    pub reply_text: ShortString,
    /// Class and method id of the culprit; 0, 0 when no method is to blame.
    pub method: (u16, u16),
}

impl Violation {
    pub fn new(code: ReplyCode, explanation: &str, method: (u16, u16)) -> Self {
        let reply_text = ShortString::truncated(&format!("{} - {explanation}", code.name()));
        Violation { code, reply_text, method }
    }
}

/// Bytes that are not AMQP 0-9-1. Always ends the connection: the stream has lost its sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A frame larger than negotiated: payload size and payload limit, in bytes.
    FrameTooLarge {
        size: u32,
        limit: u32,
    },
    /// The octet after the payload is not 0xCE.
    FrameEnd(u8),
    FrameType(u8),
    /// A heartbeat with a payload.
    HeartbeatPayload,
    /// A header frame too short for its fixed fields.
    ContentHeader,
    UnknownMethod {
        class_id: u16,
        method_id: u16,
    },
    /// A field reaches past the end of what holds it.
    FieldPastEnd,
    /// Bytes are left after the last field.
    TrailingBytes,
    ShortStringNotUtf8,
    /// A field-table value of a type that does not exist.
    ValueType(u8),
    /// Tables and arrays nested deeper than [`super::table::DEPTH_MAX`].
    TooDeep,
    /// Content property flags that class basic does not define.
    PropertyFlags(u16),
}

impl Malformed {
    pub fn code(self) -> ReplyCode {
        match self {
            Malformed::FrameTooLarge { .. }
            | Malformed::FrameEnd(_)
            | Malformed::FrameType(_)
            | Malformed::HeartbeatPayload
            | Malformed::ContentHeader
            | Malformed::ShortStringNotUtf8 => ReplyCode::FrameError,
            Malformed::UnknownMethod { .. } => ReplyCode::NotImplemented,
            Malformed::FieldPastEnd
            | Malformed::TrailingBytes
            | Malformed::ValueType(_)
            | Malformed::TooDeep
            | Malformed::PropertyFlags(_) => ReplyCode::SyntaxError,
        }
    }

    pub fn violation(self, method: (u16, u16)) -> Violation {
        let explanation = match self {
            Malformed::FrameTooLarge { size, limit } => {
                format!("frame_too_large: {size} octets, at most {limit} are allowed")
            }
            Malformed::FrameEnd(octet) => format!("invalid_frame_end_marker: {octet}"),
            Malformed::FrameType(kind) => format!("unknown_frame: type {kind}"),
            Malformed::HeartbeatPayload => "a heartbeat carries no payload".to_string(),
            Malformed::ContentHeader => "content header frame too short".to_string(),
            Malformed::UnknownMethod { class_id, method_id } => {
                format!("unknown method {method_id} of class {class_id}")
            }
            Malformed::FieldPastEnd => "a field reaches past the end of its frame".to_string(),
            Malformed::TrailingBytes => "bytes after the last field".to_string(),
            Malformed::ShortStringNotUtf8 => "Malformed UTF-8 in shortstr".to_string(),
            Malformed::ValueType(tag) => format!("unknown field value type {tag}"),
            Malformed::TooDeep => "field table nested too deeply".to_string(),
            Malformed::PropertyFlags(flags) => format!("unknown property flags {flags:#06x}"),
        };
        Violation::new(self.code(), &explanation, method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_errors_close_the_channel_and_hard_errors_the_connection() {
        let soft: Vec<u16> = ReplyCode::ALL
            .iter()
            .filter(|code| code.reach() == Reach::Channel)
            .map(|code| code.number())
            .collect();
        assert_eq!(soft, [311, 312, 313, 403, 404, 405, 406]);
    }

    #[test]
    fn malformed_bytes_are_always_a_hard_error() {
        for malformed in [
            Malformed::FrameTooLarge { size: 9, limit: 8 },
            Malformed::FrameEnd(0),
            Malformed::UnknownMethod { class_id: 1, method_id: 2 },
            Malformed::TrailingBytes,
        ] {
            assert_eq!(malformed.code().reach(), Reach::Connection);
        }
    }

    #[test]
    fn reply_text_is_cut_at_a_character_border() {
        let violation = Violation::new(ReplyCode::NotFound, &"é".repeat(200), (50, 10));
        assert!(violation.reply_text.len() <= 255);
        assert!(violation.reply_text.as_str().starts_with("NOT_FOUND - é"));
    }
}
