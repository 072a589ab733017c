//! The one table of Kafka error codes. A handler names an error; only here does it get its number,
//! and only here are the broker's reasons turned into Kafka's.

use koine_broker::batch::BatchError;
use koine_broker::membership::GroupError;
use koine_broker::metadata::Refusal;

/// Errors that this broker sends. Numbers and names are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum ErrorCode {
    UnknownServerError = -1,
    None = 0,
    OffsetOutOfRange = 1,
    CorruptMessage = 2,
    UnknownTopicOrPartition = 3,
    InvalidFetchSize = 4,
    LeaderNotAvailable = 5,
    NotLeaderOrFollower = 6,
    RequestTimedOut = 7,
    BrokerNotAvailable = 8,
    MessageTooLarge = 10,
    OffsetMetadataTooLarge = 12,
    CoordinatorLoadInProgress = 14,
    CoordinatorNotAvailable = 15,
    NotCoordinator = 16,
    InvalidTopicException = 17,
    RecordListTooLarge = 18,
    NotEnoughReplicas = 19,
    InvalidRequiredAcks = 21,
    IllegalGeneration = 22,
    InconsistentGroupProtocol = 23,
    InvalidGroupId = 24,
    UnknownMemberId = 25,
    InvalidSessionTimeout = 26,
    RebalanceInProgress = 27,
    InvalidCommitOffsetSize = 28,
    TopicAuthorizationFailed = 29,
    GroupAuthorizationFailed = 30,
    ClusterAuthorizationFailed = 31,
    InvalidTimestamp = 32,
    UnsupportedSaslMechanism = 33,
    IllegalSaslState = 34,
    UnsupportedVersion = 35,
    TopicAlreadyExists = 36,
    InvalidPartitions = 37,
    InvalidReplicationFactor = 38,
    InvalidReplicaAssignment = 39,
    InvalidConfig = 40,
    NotController = 41,
    InvalidRequest = 42,
    UnsupportedForMessageFormat = 43,
    PolicyViolation = 44,
    OutOfOrderSequenceNumber = 45,
    DuplicateSequenceNumber = 46,
    InvalidProducerEpoch = 47,
    InvalidTxnState = 48,
    InvalidTransactionTimeout = 50,
    TransactionalIdAuthorizationFailed = 53,
    SecurityDisabled = 54,
    KafkaStorageError = 56,
    SaslAuthenticationFailed = 58,
    UnknownProducerId = 59,
    NonEmptyGroup = 68,
    GroupIdNotFound = 69,
    FetchSessionIdNotFound = 70,
    InvalidFetchSessionEpoch = 71,
    FencedLeaderEpoch = 74,
    UnknownLeaderEpoch = 75,
    UnsupportedCompressionType = 76,
    OffsetNotAvailable = 78,
    MemberIdRequired = 79,
    GroupMaxSizeReached = 81,
    FencedInstanceId = 82,
    GroupSubscribedToTopic = 86,
    InvalidRecord = 87,
    UnstableOffsetCommit = 88,
    ThrottlingQuotaExceeded = 89,
    ProducerFenced = 90,
    ResourceNotFound = 91,
    DuplicateResource = 92,
    UnacceptableCredential = 93,
    UnknownTopicId = 100,
    FetchSessionTopicIdError = 106,
    MismatchedEndpointType = 114,
    UnsupportedEndpointType = 115,
}

impl ErrorCode {
    pub fn code(self) -> i16 {
        self as i16
    }
}

impl From<Refusal> for ErrorCode {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => ErrorCode::UnknownTopicOrPartition,
            Refusal::AlreadyExists | Refusal::OtherKind => ErrorCode::TopicAlreadyExists,
            Refusal::InvalidName => ErrorCode::InvalidTopicException,
            Refusal::InvalidPartitions => ErrorCode::InvalidPartitions,
            Refusal::InvalidSettings => ErrorCode::InvalidConfig,
            Refusal::InUse | Refusal::NotEmpty | Refusal::Predeclared | Refusal::QuotaExceeded => {
                ErrorCode::PolicyViolation
            }
            Refusal::Exclusive | Refusal::NotAuthorized => ErrorCode::TopicAuthorizationFailed,
            Refusal::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
            // Both are retried by clients, after a look at the metadata.
            Refusal::Corrupt | Refusal::Busy => ErrorCode::KafkaStorageError,
            Refusal::NotLeader => ErrorCode::NotLeaderOrFollower,
            Refusal::Cancelled => ErrorCode::RequestTimedOut,
            Refusal::DuplicateSequence { .. } => ErrorCode::DuplicateSequenceNumber,
            Refusal::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
            Refusal::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
            Refusal::TooLarge => ErrorCode::MessageTooLarge,
        }
    }
}

impl From<GroupError> for ErrorCode {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
            GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
            GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
            GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
            GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
            GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
            GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
            GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
            GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
            GroupError::TooManyOffsets => ErrorCode::InvalidCommitOffsetSize,
            GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
            GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        }
    }
}

/// A batch that a producer sent.
impl From<BatchError> for ErrorCode {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::BadCrc | BatchError::Truncated | BatchError::BadLength => {
                ErrorCode::CorruptMessage
            }
            BatchError::TooLarge | BatchError::DecompressedTooLarge => ErrorCode::MessageTooLarge,
            BatchError::UnknownCodec(_) => ErrorCode::UnsupportedCompressionType,
            BatchError::OldFormat(_)
            | BatchError::BadMagic(_)
            | BatchError::NotOneBatch
            | BatchError::BadRecordCount
            | BatchError::BadOffsetDelta
            | BatchError::UnknownAttributes(_)
            | BatchError::ControlFromProducer
            | BatchError::AppendTimeFromProducer
            | BatchError::BadProducer
            | BatchError::BadVarint
            | BatchError::BadRecord
            | BatchError::UnknownOrigin(_)
            | BatchError::Decompression => ErrorCode::InvalidRecord,
        }
    }
}
