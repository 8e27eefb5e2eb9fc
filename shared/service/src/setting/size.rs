//! Sizes in bytes.

use std::fmt;
use std::str::FromStr;

use super::split_unit;

/// A number of bytes, written with a unit (`64MiB`, `10 GB`) or plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a size; accepted are bytes (67108864) and numbers with B, KiB, MiB, GiB, TiB, KB, MB, GB or TB (64MiB)"
)]
pub struct ByteSizeError {
    /// What was given.
    pub text: String,
}

/// Largest first, so that printing takes the first that divides.
const BINARY: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl ByteSize {
    /// A size in mebibytes.
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    /// The size as a length in memory, capped at what memory can address.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ByteSizeError { text: text.to_owned() };
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(refuse()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(refuse);
        }
        let bytes = number.parse::<f64>().map_err(|_| refuse())? * factor as f64;
        if factor > 1 && bytes.is_finite() && bytes < 2f64.powi(63) { Ok(Self(bytes as u64)) } else { Err(refuse()) }
    }
}

impl fmt::Display for ByteSize {
    /// The largest unit that leaves a whole number: `64MiB`, `1000B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BINARY.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes)) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_and_plain_bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("67108864", 64 << 20),
            ("64MiB", 64 << 20),
            (" 64 mib ", 64 << 20),
            ("1.5KiB", 1536),
            ("10GB", 10_000_000_000),
            ("7B", 7),
            ("2k", 2048),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap(), ByteSize(bytes), "{text}");
        }
    }

    #[test]
    fn a_refusal_names_the_value_and_what_is_accepted() {
        for text in ["", "MiB", "64 parsecs", "-1", "1.5", "99999999999TiB", "1e999", "."] {
            let message = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(message.contains(&format!("{text:?}")) && message.contains("64MiB"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse::<ByteSize>().unwrap(), ByteSize(bytes));
        }
    }
}
