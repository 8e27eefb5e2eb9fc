//! Whose an object or a file is.

use bytes::{Buf, BufMut, BytesMut};
use uuid::Uuid;

use crate::ids::{Incarnation, LaneId};

/// The cluster, the owner that wrote it, by its claim, and the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// As in `cluster.json`.
    pub cluster: Uuid,
    pub incarnation: Incarnation,
    pub lane: LaneId,
}

impl Origin {
    /// 24 bytes: the cluster's id, incarnation and lane.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_slice(self.cluster.as_bytes());
        out.put_u32_le(self.incarnation.0);
        out.put_u32_le(self.lane.0);
    }

    /// Takes it from the start of `fields`, which are long enough.
    pub(crate) fn decode(fields: &mut &[u8]) -> Self {
        let mut cluster = [0; 16];
        fields.copy_to_slice(&mut cluster);
        let (incarnation, lane) = (Incarnation(fields.get_u32_le()), LaneId(fields.get_u32_le()));
        Self { cluster: Uuid::from_bytes(cluster), incarnation, lane }
    }
}
