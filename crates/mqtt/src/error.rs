//! Why a packet or a request is not served, and the one table that turns it into reason codes.
//! Never holds text for a peer to match on: the enums are the contract.

use koine_broker::metadata::Refusal;
use std::fmt;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $byte:literal,)*) => {
        /// The reason codes of MQTT 5 §2.4. Code 0x00 is also `Granted QoS 0` and `Normal
        /// disconnection`, depending on the packet that carries it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $byte,)*
        }

        impl ReasonCode {
            pub fn from_byte(byte: u8) -> Option<ReasonCode> {
                match byte {
                    $($byte => Some(ReasonCode::$name),)*
                    _ => None,
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00,
    GrantedQos1 = 0x01,
    GrantedQos2 = 0x02,
    DisconnectWithWill = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8A,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9A,
    QosNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    ServerMoved = 0x9D,
    SharedSubscriptionsNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
    MaximumConnectTime = 0xA0,
    SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// 0x80 and above mean that the request was not served.
    pub fn is_failure(self) -> bool {
        self.byte() >= 0x80
    }

    /// The CONNACK return code of MQTT 3.1.1 §3.2.2.3 (the same in 3.1).
    pub fn connack_return_code(self) -> u8 {
        match self {
            ReasonCode::Success => 0,
            ReasonCode::UnsupportedProtocolVersion => 1,
            ReasonCode::ClientIdentifierNotValid => 2,
            ReasonCode::BadUserNameOrPassword => 4,
            ReasonCode::NotAuthorized
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod => 5,
            _ => 3,
        }
    }

    /// The SUBACK return code of MQTT 3.1.1 §3.9.3: a granted QoS or 0x80.
    pub fn suback_return_code(self) -> u8 {
        if self.is_failure() {
            0x80
        } else {
            self.byte()
        }
    }
}

/// Bytes that are no MQTT packet (MQTT 5 §4.13.1, "malformed packet").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The fourth length byte announces a fifth (§1.5.5).
    RemainingLength,
    /// Packet type 0, or AUTH before version 5.
    PacketType(u8),
    FixedHeaderFlags(u8),
    /// A field reaches past the end of its packet.
    Truncated,
    /// The packet is longer than its fields.
    TrailingBytes,
    /// Not UTF-8, a surrogate, or U+0000 (§1.5.4).
    Text,
    VariableByteInteger,
    ProtocolName,
    ConnectFlags(u8),
    ConnackFlags(u8),
    Qos,
    /// DUP on a QoS 0 publish (§3.3.1.1).
    DuplicateFlag,
    SubscriptionOptions(u8),
    /// An unknown property, or one that its packet may not carry (§2.2.2.2).
    Property(u8),
    ReasonCode(u8),
}

/// Well-formed bytes that break a rule (MQTT 5 §4.13.1, "protocol error").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    DuplicateProperty(u8),
    /// The value is of the right type and not permitted, such as a receive maximum of 0.
    PropertyValue(u8),
    PacketIdentifierZero,
    /// SUBSCRIBE or UNSUBSCRIBE without a topic filter.
    NoTopicFilter,
    RetainHandling,
    /// Authentication data without an authentication method (§3.1.2.11.10).
    AuthenticationMethodMissing,
    /// AUTH with another authentication method than CONNECT (§4.12.1).
    AuthenticationMethod,
    /// An empty topic and no alias to stand for it (§3.3.2.1).
    TopicMissing,
    /// A wildcard or too many levels in a topic name.
    TopicName,
    TopicFilter,
    /// Alias 0, above the announced maximum, or not yet bound to a topic.
    TopicAlias,
    /// `No Local` on a shared subscription (§3.8.3.1).
    SharedNoLocal,
    /// The first packet is not CONNECT, or a later one is.
    UnexpectedConnect,
    /// A packet that only a server sends.
    UnexpectedPacket,
    /// More unacknowledged QoS 1 and 2 publishes than the announced receive maximum.
    ReceiveMaximum,
    /// DISCONNECT raises a session expiry interval of 0 (§3.14.2.2.2).
    SessionExpiry,
    KeepAlive,
}

impl Violation {
    pub fn reason(self) -> ReasonCode {
        match self {
            Violation::PropertyValue(0x23) | Violation::TopicAlias => ReasonCode::TopicAliasInvalid,
            Violation::TopicName => ReasonCode::TopicNameInvalid,
            Violation::TopicFilter => ReasonCode::TopicFilterInvalid,
            Violation::ReceiveMaximum => ReasonCode::ReceiveMaximumExceeded,
            Violation::KeepAlive => ReasonCode::KeepAliveTimeout,
            _ => ReasonCode::ProtocolError,
        }
    }
}

/// Why the input of a connection cannot be read on. The connection ends in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    Malformed(Malformed),
    Violation(Violation),
    /// Larger than the announced maximum packet size.
    PacketTooLarge,
    /// CONNECT with a protocol level that is not served.
    ProtocolLevel(u8),
}

impl DecodeError {
    pub fn reason(self) -> ReasonCode {
        match self {
            DecodeError::Malformed(_) => ReasonCode::MalformedPacket,
            DecodeError::Violation(violation) => violation.reason(),
            DecodeError::PacketTooLarge => ReasonCode::PacketTooLarge,
            DecodeError::ProtocolLevel(_) => ReasonCode::UnsupportedProtocolVersion,
        }
    }
}

impl From<Malformed> for DecodeError {
    fn from(malformed: Malformed) -> Self {
        DecodeError::Malformed(malformed)
    }
}

impl From<Violation> for DecodeError {
    fn from(violation: Violation) -> Self {
        DecodeError::Violation(violation)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Malformed(malformed) => write!(f, "malformed packet: {malformed:?}"),
            DecodeError::Violation(violation) => write!(f, "protocol error: {violation:?}"),
            DecodeError::PacketTooLarge => f.write_str("packet too large"),
            DecodeError::ProtocolLevel(level) => write!(f, "unsupported protocol level {level}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Why a session ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer broke the protocol.
    Peer(DecodeError),
    /// The broker said no, or says goodbye.
    Reason(ReasonCode),
}

impl End {
    pub fn reason(self) -> ReasonCode {
        match self {
            End::Peer(error) => error.reason(),
            End::Reason(reason) => reason,
        }
    }
}

impl From<DecodeError> for End {
    fn from(error: DecodeError) -> Self {
        End::Peer(error)
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        End::Peer(violation.into())
    }
}

/// The reason code of a PUBACK or PUBREC for what the broker refused (MQTT 5 §3.4.2.1).
pub fn publish_refused(refusal: Refusal) -> ReasonCode {
    match refusal {
        // Busy: there is no room for it.
        Refusal::QuotaExceeded | Refusal::TooLarge | Refusal::Busy => ReasonCode::QuotaExceeded,
        Refusal::InvalidName => ReasonCode::TopicNameInvalid,
        Refusal::NotAuthorized => ReasonCode::NotAuthorized,
        Refusal::NotLeader | Refusal::Cancelled => ReasonCode::ImplementationSpecificError,
        _ => ReasonCode::UnspecifiedError,
    }
}

/// The reason code of a CONNACK (§3.2.2.2).
pub fn connect_refused(refusal: Refusal) -> ReasonCode {
    match refusal {
        Refusal::QuotaExceeded => ReasonCode::QuotaExceeded,
        Refusal::InvalidName => ReasonCode::ClientIdentifierNotValid,
        Refusal::NotAuthorized => ReasonCode::NotAuthorized,
        Refusal::Busy | Refusal::Cancelled => ReasonCode::ServerBusy,
        _ => ReasonCode::ServerUnavailable,
    }
}

/// The reason code of a SUBACK or UNSUBACK (§3.9.3).
pub fn subscribe_refused(refusal: Refusal) -> ReasonCode {
    match refusal {
        Refusal::QuotaExceeded => ReasonCode::QuotaExceeded,
        Refusal::InvalidName => ReasonCode::TopicFilterInvalid,
        Refusal::NotAuthorized => ReasonCode::NotAuthorized,
        Refusal::Busy | Refusal::NotLeader | Refusal::Cancelled => {
            ReasonCode::ImplementationSpecificError
        }
        _ => ReasonCode::UnspecifiedError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_byte_maps_back_to_itself() {
        let mut known = 0;
        for byte in 0..=255u8 {
            if let Some(code) = ReasonCode::from_byte(byte) {
                assert_eq!(code.byte(), byte);
                known += 1;
            }
        }
        assert_eq!(known, 43);
    }

    #[test]
    fn version_3_codes() {
        assert_eq!(ReasonCode::BadUserNameOrPassword.connack_return_code(), 4);
        assert_eq!(ReasonCode::ServerBusy.connack_return_code(), 3);
        assert_eq!(ReasonCode::GrantedQos2.suback_return_code(), 2);
        assert_eq!(ReasonCode::NotAuthorized.suback_return_code(), 0x80);
    }
}
