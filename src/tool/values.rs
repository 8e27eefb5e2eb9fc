//! Values on the tool's command line.

use anyhow::{Result, bail};
use chronik_format::ids::PartitionId;
use clap::builder::{NonEmptyStringValueParser, RangedI64ValueParser};

/// A text, for clap: an empty one is most likely a variable of a shell that is not set.
pub fn not_empty() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

/// A partition's number, for clap.
pub fn partition() -> RangedI64ValueParser<PartitionId> {
    clap::value_parser!(i32).range(0..)
}

/// Refuses a value of `option` that was given twice: it may be a slip for another one.
pub fn named_once<T: PartialEq + std::fmt::Display>(option: &str, values: impl AsRef<[T]>) -> Result<()> {
    let values = values.as_ref();
    let mut places = values.iter().enumerate();
    match places.find(|(place, value)| values[..*place].contains(value)) {
        Some((_, value)) => bail!("{option} names {value} twice"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_twice_is_named() {
        assert!(named_once("--partition", [2, 0, 1]).is_ok());
        let told = named_once("--partition", [2, 0, 2]).map_err(|error| error.to_string());
        assert_eq!(told, Err("--partition names 2 twice".to_owned()));
    }
}
