//! Values of settings, the groups that several services share, names that earlier systems used, and settings of what
//! is not there yet. A service's own settings live with it; nothing reads the environment later.

mod absent;
mod cache;
mod earlier;
mod endpoints;
mod http;
mod period;
mod secret;
mod size;
mod value;

pub use absent::{AbsentSetting, absent_setting_in};
pub use cache::{CacheSettings, CacheShares, CacheUses};
pub use earlier::{EarlierName, earlier_names_in};
pub use endpoints::{Endpoint, EndpointError, Endpoints, IngestEndpointSettings, QueryEndpointSettings, without_user};
pub use http::{HttpPlace, HttpRefused, HttpSettings};
pub use period::{Period, PeriodError};
pub use secret::Secret;
pub use size::{ByteSize, ByteSizeError};
pub use value::{address, port, switch};

/// Splits a quantity into its number and its unit: `64 MiB` → (`64`, `MiB`).
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number, unit.trim())
}
