//! The time of day, as pods' back-off and deadlines see it. Tests that pause tokio's time pause this one with it.

use jiff::Timestamp;

#[derive(Clone, Copy, Debug)]
pub enum Clock {
    Wall,
    /// Follows tokio's time, from a time of day at one of its instants on.
    #[cfg(test)]
    Tokio(Timestamp, tokio::time::Instant),
}

impl Clock {
    #[cfg(test)]
    pub fn tokio() -> Self {
        Clock::Tokio(Timestamp::now(), tokio::time::Instant::now())
    }

    pub fn now(self) -> Timestamp {
        match self {
            Clock::Wall => Timestamp::now(),
            #[cfg(test)]
            Clock::Tokio(start, instant) => start + instant.elapsed(),
        }
    }

    /// Nanoseconds since the epoch.
    pub fn now_ns(self) -> i64 {
        i64::try_from(self.now().as_nanosecond()).unwrap_or(i64::MAX)
    }
}
