//! What every program of Chronik is around its work: typed settings and its command line, log and metrics, an HTTP
//! server and client, and an end in good order. It knows nothing of records.

pub mod admission;
pub mod backoff;
pub mod cli;
pub mod failpoint;
pub mod handles;
pub mod held;
pub mod http_client;
pub mod http_server;
#[cfg(any(test, feature = "testing"))]
pub mod loopback;
pub mod problem;
pub mod process;
pub mod setting;
pub mod shutdown;
pub mod telemetry;
