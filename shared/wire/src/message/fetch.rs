//! Fetch (1): reads record batches, waiting for them if there are none; up to version 3, message sets of magic 0 and 1.

use uuid::Uuid;

use super::{LeaderIdAndEpoch, NodeEndpoint};
use crate::ErrorCode;
use crate::field::RecordChunks;
use crate::schema::{api, schema};

api!(Fetch, 0..=17, FetchRequest => FetchResponse);

schema! {
    /// Reads record batches.
    FetchRequest {
        /// The cluster that the sender believes in.
        cluster_id: Option<String> = None, 12.., tag 0;
        /// The follower that asks; -1 for a consumer.
        replica_id: i32 = -1, 0..=14;
        /// The follower that asks.
        replica_state: ReplicaState = ReplicaState::default(), 15.., tag 1;
        /// Milliseconds to wait for `min_bytes`.
        max_wait_ms: i32 = 0, 0..;
        /// Bytes worth answering for.
        min_bytes: i32 = 0, 0..;
        /// Bytes to answer with at most; one whole batch is always allowed.
        max_bytes: i32 = i32::MAX, 3..;
        /// 0: read uncommitted, 1: read committed.
        isolation_level: i8 = 0, 4..;
        /// The fetch session, 0 for none.
        session_id: i32 = 0, 7..;
        /// The request's place in the session; -1 without, 0 asks for one.
        session_epoch: i32 = -1, 7..;
        /// The topics; in a session, those that changed.
        topics: Vec<FetchTopic> = Vec::new(), 0..;
        /// Partitions that leave the session.
        forgotten_topics_data: Vec<ForgottenTopic> = Vec::new(), 7..;
        /// The consumer's rack.
        rack_id: String = String::new(), 11..;
    }

    /// A follower and its epoch.
    ReplicaState {
        /// The follower; -1 for a consumer.
        replica_id: i32 = -1, 15..;
        /// Its epoch, or -1.
        replica_epoch: i64 = -1, 15..;
    }

    /// What is read of one topic.
    FetchTopic {
        /// The name, up to version 12.
        topic: String = String::new(), 0..=12;
        /// The id, from version 13 on.
        topic_id: Uuid = Uuid::nil(), 13..;
        /// The partitions.
        partitions: Vec<FetchPartition> = Vec::new(), 0..;
    }

    /// What is read of one partition.
    FetchPartition {
        /// The partition.
        partition: i32 = 0, 0..;
        /// The leader's epoch as the consumer knows it, or -1.
        current_leader_epoch: i32 = -1, 9..;
        /// The first offset wanted.
        fetch_offset: i64 = 0, 0..;
        /// The epoch of the last record read, or -1.
        last_fetched_epoch: i32 = -1, 12..;
        /// The follower's first offset; -1 from a consumer.
        log_start_offset: i64 = -1, 5..;
        /// Bytes to answer with at most; one whole batch is always allowed.
        partition_max_bytes: i32 = 0, 0..;
        /// The follower's directory.
        replica_directory_id: Uuid = Uuid::nil(), 17.., tag 0;
    }

    /// Partitions of one topic that leave the session.
    ForgottenTopic {
        /// The name, up to version 12.
        topic: String = String::new(), 7..=12;
        /// The id, from version 13 on.
        topic_id: Uuid = Uuid::nil(), 13..;
        /// The partitions.
        partitions: Vec<i32> = Vec::new(), 7..;
    }

    /// Record batches.
    FetchResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 1..;
        /// Of the whole request.
        error_code: ErrorCode = ErrorCode::NONE, 7..;
        /// The fetch session, 0 for none.
        session_id: i32 = 0, 7..;
        /// The topics.
        responses: Vec<FetchableTopicResponse> = Vec::new(), 0..;
        /// Where the leaders named in the partitions are found.
        node_endpoints: Vec<NodeEndpoint> = Vec::new(), 16.., tag 0;
    }

    /// What was read of one topic.
    FetchableTopicResponse {
        /// The name, up to version 12.
        topic: String = String::new(), 0..=12;
        /// The id, from version 13 on.
        topic_id: Uuid = Uuid::nil(), 13..;
        /// The partitions.
        partitions: Vec<PartitionData> = Vec::new(), 0..;
    }

    /// What was read of one partition.
    PartitionData {
        /// The partition.
        partition_index: i32 = 0, 0..;
        /// Of the partition.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// The offset after the last readable record.
        high_watermark: i64 = 0, 0..;
        /// All transactions below it are decided.
        last_stable_offset: i64 = -1, 4..;
        /// The first offset there is.
        log_start_offset: i64 = -1, 5..;
        /// Where the reader's log leaves the leader's, if it does.
        diverging_epoch: EpochEndOffset = EpochEndOffset::default(), 12.., tag 0;
        /// With NOT_LEADER_OR_FOLLOWER: who leads.
        current_leader: LeaderIdAndEpoch = LeaderIdAndEpoch::default(), 12.., tag 1;
        /// A snapshot to read instead, for followers of Kafka's own metadata.
        snapshot_id: SnapshotId = SnapshotId::default(), 12.., tag 2;
        /// Aborted transactions in what was read, by first offset; null for read uncommitted.
        aborted_transactions: Option<Vec<AbortedTransaction>> = Some(Vec::new()), 4..;
        /// The broker to read from next time, or -1.
        preferred_read_replica: i32 = -1, 11..;
        /// Whole record batches; the first may begin before the offset asked for.
        records: RecordChunks = RecordChunks::default(), 0..;
    }

    /// The end of an epoch in the leader's log.
    EpochEndOffset {
        /// The epoch, or -1.
        epoch: i32 = -1, 12..;
        /// The offset after its last record, or -1.
        end_offset: i64 = -1, 12..;
    }

    /// A snapshot of Kafka's own metadata.
    SnapshotId {
        /// The offset after its last record, or -1.
        end_offset: i64 = -1, 4..;
        /// Its epoch, or -1.
        epoch: i32 = -1, 4..;
    }

    /// A transaction whose records a consumer leaves out.
    AbortedTransaction {
        /// The producer.
        producer_id: i64 = 0, 4..;
        /// The transaction's first offset in the partition.
        first_offset: i64 = 0, 4..;
    }
}
