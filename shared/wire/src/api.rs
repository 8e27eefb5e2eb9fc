//! The APIs of the Kafka protocol that a client can ask a broker for.

use std::fmt;

macro_rules! api_keys {
    ($($name:ident = $key:literal, $flexible_from:expr;)*) => {
        /// One API of the protocol; the number is the key in a request's header.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        #[allow(missing_docs, reason = "the names are Kafka's")]
        pub enum ApiKey { $($name = $key,)* }

        impl ApiKey {
            /// The API with this key, if the table knows it.
            pub fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The first version whose bodies and headers have compact lengths and tagged fields;
            /// `i16::MAX` where there is none.
            pub fn flexible_from(self) -> i16 {
                match self {
                    $(Self::$name => $flexible_from,)*
                }
            }
        }
    };
}

impl ApiKey {
    /// The number in a request's header.
    pub fn key(self) -> i16 {
        self as i16
    }

    /// Whether bodies of this version have compact lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }

    /// The version of a request's header: 2 ends with tagged fields, 1 with the client id.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of a response's header: 1 ends with tagged fields, 0 with the correlation id.
    ///
    /// ApiVersions always answers with 0: its client does not yet know what the broker speaks.
    pub fn response_header_version(self, version: i16) -> i16 {
        if self != Self::ApiVersions && self.is_flexible(version) { 1 } else { 0 }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// Name, key, first flexible version, from Apache Kafka's message definitions.
api_keys! {
    Produce = 0, 9;
    Fetch = 1, 12;
    ListOffsets = 2, 6;
    Metadata = 3, 9;
    OffsetCommit = 8, 8;
    OffsetFetch = 9, 6;
    FindCoordinator = 10, 3;
    JoinGroup = 11, 6;
    Heartbeat = 12, 4;
    LeaveGroup = 13, 4;
    SyncGroup = 14, 4;
    DescribeGroups = 15, 5;
    ListGroups = 16, 3;
    SaslHandshake = 17, i16::MAX;
    ApiVersions = 18, 3;
    CreateTopics = 19, 5;
    DeleteTopics = 20, 4;
    DeleteRecords = 21, 2;
    InitProducerId = 22, 2;
    OffsetForLeaderEpoch = 23, 4;
    AddPartitionsToTxn = 24, 3;
    AddOffsetsToTxn = 25, 3;
    EndTxn = 26, 3;
    WriteTxnMarkers = 27, 1;
    TxnOffsetCommit = 28, 3;
    DescribeAcls = 29, 2;
    CreateAcls = 30, 2;
    DeleteAcls = 31, 2;
    DescribeConfigs = 32, 4;
    AlterConfigs = 33, 2;
    AlterReplicaLogDirs = 34, 2;
    DescribeLogDirs = 35, 2;
    SaslAuthenticate = 36, 2;
    CreatePartitions = 37, 2;
    CreateDelegationToken = 38, 2;
    RenewDelegationToken = 39, 2;
    ExpireDelegationToken = 40, 2;
    DescribeDelegationToken = 41, 2;
    DeleteGroups = 42, 2;
    ElectLeaders = 43, 2;
    IncrementalAlterConfigs = 44, 1;
    AlterPartitionReassignments = 45, 0;
    ListPartitionReassignments = 46, 0;
    OffsetDelete = 47, i16::MAX;
    DescribeClientQuotas = 48, 1;
    AlterClientQuotas = 49, 1;
    DescribeUserScramCredentials = 50, 0;
    AlterUserScramCredentials = 51, 0;
    DescribeQuorum = 55, 0;
    UpdateFeatures = 57, 0;
    DescribeCluster = 60, 0;
    DescribeProducers = 61, 0;
    UnregisterBroker = 64, 0;
    DescribeTransactions = 65, 0;
    ListTransactions = 66, 0;
    ConsumerGroupHeartbeat = 68, 0;
    ConsumerGroupDescribe = 69, 0;
    GetTelemetrySubscriptions = 71, 0;
    PushTelemetry = 72, 0;
    ListConfigResources = 74, 0;
    DescribeTopicPartitions = 75, 0;
    ShareGroupHeartbeat = 76, 0;
    ShareGroupDescribe = 77, 0;
    ShareFetch = 78, 0;
    ShareAcknowledge = 79, 0;
    AddRaftVoter = 80, 0;
    RemoveRaftVoter = 81, 0;
    InitializeShareGroupState = 83, 0;
    ReadShareGroupState = 84, 0;
    WriteShareGroupState = 85, 0;
    DeleteShareGroupState = 86, 0;
    ReadShareGroupStateSummary = 87, 0;
    StreamsGroupHeartbeat = 88, 0;
    StreamsGroupDescribe = 89, 0;
    DescribeShareGroupOffsets = 90, 0;
    AlterShareGroupOffsets = 91, 0;
    DeleteShareGroupOffsets = 92, 0;
    StreamsGroupTopologyDescriptionUpdate = 93, 0;
    UnregisterController = 94, 0;
}
