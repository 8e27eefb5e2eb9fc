use chronik_core::ids::Incarnation;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The version of `identity.json`.
pub(super) const VERSION: u32 = 0;

/// Whose data lies in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub(super) v: u32,
    /// The cluster.
    pub cluster: Uuid,
    /// The claim under which it was written.
    pub incarnation: Incarnation,
    /// Whether all that belongs to it is there. If not, its start ended before anything was served.
    pub(super) complete: bool,
    /// Whether the last stop gave the bucket up: then nothing is served before the claims have been read.
    pub released: bool,
}

impl Identity {
    /// Of a start that is laying down what belongs to it.
    pub fn begun(cluster: Uuid, incarnation: Incarnation) -> Self {
        Self { v: VERSION, cluster, incarnation, complete: false, released: false }
    }

    /// Of a running broker.
    pub fn held(cluster: Uuid, incarnation: Incarnation) -> Self {
        Self { complete: true, ..Self::begun(cluster, incarnation) }
    }

    /// Of a broker that stopped in good order and gave the bucket up.
    pub fn given_up(self) -> Self {
        Self { released: true, ..self }
    }
}
