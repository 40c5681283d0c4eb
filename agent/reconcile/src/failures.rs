//! Many objects in one pass: one that fails does not stop the rest, and all that failed is reported together.

use std::fmt::Display;

use crate::BoxError;
use crate::driver::Chain;

/// Failures that are told one by one; more than these are counted.
const TOLD_MAX: usize = 5;

/// What failed so far.
#[derive(Debug, Default)]
pub struct Failures {
    told: Vec<String>,
    count: usize,
}

impl Failures {
    /// Takes the result of one object, which `name` names if it failed.
    pub fn keep<T, E: Into<BoxError>>(&mut self, name: impl Display, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.count += 1;
                if self.told.len() < TOLD_MAX {
                    self.told.push(format!("{name}: {}", Chain(&*error.into())));
                }
                None
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them as one error.
    pub fn into_result(self) -> Result<(), BoxError> {
        match self.count - self.told.len() {
            _ if self.count == 0 => Ok(()),
            0 => Err(self.told.join("; ").into()),
            more => Err(format!("{}; and {more} more", self.told.join("; ")).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_failures_are_told_and_many_are_counted() {
        let mut failures = Failures::default();
        assert_eq!(failures.keep("a", Ok::<_, BoxError>(1)), Some(1));
        assert!(failures.is_empty());
        assert_eq!(failures.keep("b", Err::<u8, _>("no")), None);
        failures.keep("c", Err::<u8, _>("never"));
        let error = failures.into_result().expect_err("two failed");
        assert_eq!(error.to_string(), "b: no; c: never");
        let mut failures = Failures::default();
        (0..8).for_each(|n| assert_eq!(failures.keep(n, Err::<u8, _>("no")), None));
        assert!(failures.into_result().expect_err("all failed").to_string().ends_with("4: no; and 3 more"));
        assert!(Failures::default().into_result().is_ok());
    }
}
