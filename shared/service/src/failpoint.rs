//! Points at which tests let the process die, stop or dawdle. A build without the feature `failpoints`, which is every
//! build but that of the end-to-end suite, has none of them and refuses the variable.
//!
//! `CHRONIK_FAILPOINTS` names what happens where, several with `;` between them:
//!
//! ```text
//! NAME=abort[@HIT][:FILE]   the process ends at once, as by kill -9; with FILE only if that does not exist yet, so
//!                           that it happens once however often the process is started, and the test sees that it did
//! NAME=stop[@HIT]:FILE      creates FILE and goes on when the test has removed it
//! NAME=delay[@HIT]:TIME     goes on after TIME (5s)
//! NAME=limit:NUMBER         is no step, but a bound that is so small then
//! ```
//!
//! With a HIT only that visit counts (`@3`), otherwise each. While a point stops or delays, other tasks go on.

/// The variable that says what happens where.
pub const VARIABLE: &str = "CHRONIK_FAILPOINTS";

/// Marks a step at which tests can make the process die, stop or wait; nothing at all in other builds.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::failpoint::reach($name)
    };
}

/// What [`failpoint!`](crate::failpoint!) does in builds without the feature: nothing.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_name: &'static str) {}

/// What [`limit`] gives in builds without the feature: the default.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn limit(_name: &'static str, default: usize) -> usize {
    default
}

#[cfg(feature = "failpoints")]
pub use active::{limit, reach};

#[cfg(feature = "failpoints")]
mod active {
    use std::fs::File;
    use std::path::{Path, PathBuf};
    use std::str::FromStr;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use tokio::runtime::{Handle, RuntimeFlavor};

    use super::VARIABLE;
    use crate::setting::Period;

    /// How often a stopped point looks whether it may go on.
    const LOOK_EVERY: Duration = Duration::from_millis(5);

    static POINTS: LazyLock<Vec<Point>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        match parse(&text) {
            Ok(points) => points,
            // A test that believes in a point that never comes would prove nothing.
            Err(reason) => {
                eprintln!("{VARIABLE}={text}: {reason}");
                std::process::abort()
            }
        }
    });

    /// Does what the environment says about the point.
    pub fn reach(name: &'static str) {
        for point in POINTS.iter().filter(|point| point.name == name) {
            let hit = point.visits.fetch_add(1, Ordering::Relaxed) + 1;
            if point.hit.is_none_or(|wanted| wanted == hit) {
                point.action.take(name);
            }
        }
    }

    /// A bound that tests make small, so that they reach it; the default if the environment does not name it.
    pub fn limit(name: &'static str, default: usize) -> usize {
        let named = POINTS.iter().filter(|point| point.name == name);
        let limit = named.map(|point| &point.action).find_map(|action| match action {
            Action::Limit(limit) => Some(*limit),
            _ => None,
        });
        limit.unwrap_or(default)
    }

    #[derive(Debug)]
    struct Point {
        name: String,
        hit: Option<u32>,
        visits: AtomicU32,
        action: Action,
    }

    #[derive(Debug, PartialEq)]
    enum Action {
        Abort(Option<PathBuf>),
        Stop(PathBuf),
        Delay(Duration),
        Limit(usize),
    }

    impl Action {
        fn take(&self, name: &str) {
            match self {
                Self::Abort(Some(file)) if File::create_new(file).is_err() => {}
                Self::Abort(_) => {
                    eprintln!("fail point {name}: abort");
                    std::process::abort()
                }
                Self::Stop(file) => {
                    eprintln!("fail point {name}: stop");
                    if let Err(error) = File::create(file) {
                        eprintln!("{}: {error}", file.display());
                        std::process::abort()
                    }
                    aside(|| wait_until_removed(file));
                }
                Self::Delay(time) => {
                    eprintln!("fail point {name}: delay");
                    let end = Instant::now() + *time;
                    aside(|| wait_until(end));
                }
                Self::Limit(_) => {}
            }
        }
    }

    /// Blocks the thread without holding up other tasks, where the runtime can do that.
    fn aside(block: impl FnOnce()) {
        match Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(block),
            _ => block(),
        }
    }

    fn wait_until_removed(file: &Path) {
        while file.exists() {
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    fn wait_until(end: Instant) {
        while let Some(rest) = end.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(rest);
        }
    }

    fn parse(text: &str) -> Result<Vec<Point>, String> {
        text.split(';')
            .filter(|part| !part.trim().is_empty())
            .map(|part| point(part).ok_or_else(|| format!("{part:?} is no fail point")))
            .collect()
    }

    fn point(text: &str) -> Option<Point> {
        let (name, rest) = text.trim().split_once('=')?;
        let (action, argument) = match rest.split_once(':') {
            Some((action, argument)) => (action, Some(argument)),
            None => (rest, None),
        };
        let (action, hit) = match action.split_once('@') {
            Some((action, hit)) => (action, Some(hit.parse().ok()?)),
            None => (action, None),
        };
        let action = match (action, argument) {
            ("abort", file) => Action::Abort(file.map(PathBuf::from)),
            ("stop", Some(file)) => Action::Stop(PathBuf::from(file)),
            ("delay", Some(time)) => Action::Delay(Period::from_str(time).ok()?.0),
            ("limit", Some(number)) if hit.is_none() => Action::Limit(number.parse().ok()?),
            _ => return None,
        };
        Some(Point { name: name.to_owned(), hit, visits: AtomicU32::new(0), action })
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used)]
        use super::*;

        #[test]
        fn points_are_read_with_hit_and_file() {
            let points = parse("a=abort; b=abort@3:/tmp/x;c=stop:/tmp/y ;d=delay:250ms;e=limit:4").unwrap();
            let read: Vec<_> = points.iter().map(|point| (point.name.as_str(), point.hit, &point.action)).collect();
            let expected = [
                ("a", None, &Action::Abort(None)),
                ("b", Some(3), &Action::Abort(Some("/tmp/x".into()))),
                ("c", None, &Action::Stop("/tmp/y".into())),
                ("d", None, &Action::Delay(Duration::from_millis(250))),
                ("e", None, &Action::Limit(4)),
            ];
            assert_eq!(read, expected);
        }

        #[test]
        fn what_is_no_point_is_refused() {
            for text in ["a", "a=", "a=stop", "a=delay:soon", "a=abort@x", "a=explode", "a=limit:x", "a=limit@2:3"] {
                assert!(parse(text).is_err_and(|told| told.contains(text)), "{text}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::VARIABLE;
    use crate::setting::absent_setting_in;

    #[test]
    fn only_builds_for_tests_have_fail_points() {
        failpoint!("a point that is not named");
        let refused = absent_setting_in([], [VARIABLE.to_owned()]);
        assert_eq!(refused.is_some(), cfg!(not(feature = "failpoints")));
    }
}
