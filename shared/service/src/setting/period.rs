//! Durations.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::split_unit;

/// A duration, written with a unit (`10s`, `5 min`) or as plain seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration; accepted are seconds (10) and numbers with ms, s, min, h or d (10s)")]
pub struct PeriodError {
    /// What was given.
    pub text: String,
}

/// Largest first, so that printing takes the first that divides; milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

impl Period {
    /// A duration in whole seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || PeriodError { text: text.to_owned() };
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit {
            "ms" => 1,
            "" | "s" | "sec" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(refuse()),
        };
        let milliseconds = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(factor).ok_or_else(refuse)?,
            Err(_) => {
                let scaled = number.parse::<f64>().map_err(|_| refuse())? * factor as f64;
                if scaled.is_finite() && scaled < 2f64.powi(63) {
                    scaled as u64
                } else {
                    return Err(refuse());
                }
            }
        };
        Ok(Self(Duration::from_millis(milliseconds)))
    }
}

impl fmt::Display for Period {
    /// The largest unit that leaves a whole number: `10s`, `90s`, `250ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        match UNITS.iter().find(|(_, unit)| milliseconds >= *unit && milliseconds.is_multiple_of(*unit)) {
            Some((unit, length)) => write!(f, "{}{unit}", milliseconds / length),
            None => write!(f, "0s"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_and_plain_seconds() {
        for (text, milliseconds) in
            [("10", 10_000), ("10s", 10_000), ("250ms", 250), ("1.5 s", 1_500), ("5min", 300_000), ("2h", 7_200_000)]
        {
            assert_eq!(text.parse::<Period>().unwrap(), Period(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn a_refusal_names_the_value_and_what_is_accepted() {
        for text in ["", "s", "10 fortnights", "-1s", "99999999999999999d"] {
            let message = text.parse::<Period>().unwrap_err().to_string();
            assert!(message.contains(&format!("{text:?}")) && message.contains("10s"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(milliseconds in 0..u64::MAX / 2) {
            let period = Period(Duration::from_millis(milliseconds));
            prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }
    }
}
