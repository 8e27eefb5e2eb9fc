//! Values of settings: sizes and durations with units, and names that earlier systems used.
//!
//! Settings structs live in their services; each value type here says what it accepts when it refuses.

mod earlier;
mod period;
mod size;

pub use earlier::{EarlierName, earlier_names_in};
pub use period::{Period, PeriodError};
pub use size::{ByteSize, ByteSizeError};

/// Splits a quantity into its number and its unit: `64 MiB` → (`64`, `MiB`).
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number, unit.trim())
}
