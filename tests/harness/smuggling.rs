//! Requests that are ambiguous, malformed or meant to be smuggled past a proxy (RFC 9112, section 11.2), what a safe
//! proxy does with each, and a runner that tries them against any proxy in front of a `Recorder`.

mod cases;
pub mod http2;
pub mod peers;
mod recorder;
mod runner;
#[cfg(test)]
mod tests;

pub use recorder::{Received, Recorder};
pub use runner::{answers, run_cases, run_corpus};

/// The host that cases name; the runner puts the proxy's in its place.
pub const HOST: &str = "smuggle.example";

/// Something to send, and what has to come of it.
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub expected: Expected,
}

/// What a safe proxy does.
#[derive(Clone, Copy)]
pub enum Expected {
    /// Answers with an error or closes, and nothing reaches the backend.
    Refuse,
    /// The same, but what is wrong comes after the head: a proxy that streams may have begun to pass it on, and gives up.
    Abort,
    /// Passes it on, and what reaches the backend holds to the check.
    Pass(Check),
    /// Both are safe: the standard allows to refuse it or to repair it.
    Either(Check),
}

/// What has to hold for the requests that reached the backend, besides that each is without fault.
#[derive(Clone, Copy, Default)]
pub struct Check {
    pub requests: usize,
    /// So few are right too: a proxy may close instead of reading on.
    pub requests_least: usize,
    /// The bodies of all requests in a row.
    pub body: Option<&'static [u8]>,
    /// The targets of all requests, in order.
    pub targets: Option<&'static [&'static str]>,
    /// Header and trailer names that must not be there.
    pub absent: &'static [&'static str],
    pub present: &'static [&'static str],
    /// Text that must be nowhere in heads or trailers.
    pub nowhere: &'static [&'static str],
}

impl Check {
    pub const fn requests(requests: usize) -> Self {
        Self { requests, requests_least: requests, body: None, targets: None, absent: &[], present: &[], nowhere: &[] }
    }

    const fn at_least(mut self, requests: usize) -> Self {
        self.requests_least = requests;
        self
    }

    const fn body(mut self, body: &'static [u8]) -> Self {
        self.body = Some(body);
        self
    }

    const fn targets(mut self, targets: &'static [&'static str]) -> Self {
        self.targets = Some(targets);
        self
    }

    const fn absent(mut self, names: &'static [&'static str]) -> Self {
        self.absent = names;
        self
    }

    const fn present(mut self, names: &'static [&'static str]) -> Self {
        self.present = names;
        self
    }

    const fn nowhere(mut self, texts: &'static [&'static str]) -> Self {
        self.nowhere = texts;
        self
    }

    /// What does not hold, if anything.
    fn fault(&self, reached: &[Received]) -> Option<String> {
        if !(self.requests_least..=self.requests).contains(&reached.len()) {
            return Some(format!("{} requests reached the backend instead of {}", reached.len(), self.requests));
        }
        if let Some(broken) = reached.iter().find(|r| !r.complete) {
            return Some(format!("{} did not reach the backend whole", broken.target()));
        }
        let targets: Vec<String> = reached.iter().map(Received::target).collect();
        if self.targets.is_some_and(|wanted| wanted != targets) {
            return Some(format!("the targets are {targets:?}"));
        }
        let body = reached.iter().flat_map(|r| r.body.iter().copied()).collect::<Vec<u8>>();
        if self.body.is_some_and(|wanted| wanted != body) {
            return Some(format!("the body is {:?}", String::from_utf8_lossy(&body)));
        }
        let trailer = |r: &Received, name: &str| {
            let text = String::from_utf8_lossy(&r.trailers).to_ascii_lowercase();
            text.lines().any(|line| line.starts_with(&format!("{name}:")))
        };
        for received in reached {
            let has = |name: &str| !received.values(name).is_empty() || trailer(received, name);
            if let Some(name) = self.absent.iter().find(|name| has(name)) {
                return Some(format!("{name} reached the backend"));
            }
            if let Some(name) = self.present.iter().find(|name| !has(name)) {
                return Some(format!("{name} is gone"));
            }
            let all = [&received.head[..], &received.trailers[..]].concat();
            let all = String::from_utf8_lossy(&all).into_owned();
            if let Some(text) = self.nowhere.iter().find(|text| all.contains(**text)) {
                return Some(format!("{text:?} reached the backend"));
            }
        }
        None
    }
}

/// What a proxy did.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub case: &'static str,
    /// The status codes that were answered, in order.
    pub statuses: Vec<u16>,
    pub closed: bool,
    pub reached: Vec<Received>,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Safe,
    /// Not what is expected, and not dangerous: refused what has to pass, or said nothing.
    TooStrict(String),
    /// Let through what has to be refused or changed.
    TooLax(String),
}

impl Outcome {
    fn judge(case: &Case, statuses: Vec<u16>, closed: bool, reached: Vec<Received>, poisoned: Option<String>) -> Self {
        let verdict = poisoned.map_or_else(|| verdict(case.expected, &statuses, closed, &reached), Verdict::TooLax);
        Self { case: case.name, statuses, closed, reached, verdict }
    }

    /// In a few words, for a table.
    pub fn summary(&self) -> String {
        let statuses: Vec<String> = self.statuses.iter().map(u16::to_string).collect();
        let answer = match (statuses.is_empty(), self.closed) {
            (true, true) => "closed".to_owned(),
            (true, false) => "no answer".to_owned(),
            (false, _) => statuses.join("+"),
        };
        let whole = self.reached.iter().filter(|r| r.complete).count();
        let begun = self.reached.len() - whole;
        let begun = if begun == 0 { String::new() } else { format!(", {begun} begun") };
        let reason = match &self.verdict {
            Verdict::Safe => String::new(),
            Verdict::TooStrict(reason) => format!(" STRICT: {reason}"),
            Verdict::TooLax(reason) => format!(" LAX: {reason}"),
        };
        format!("{answer}, {whole} reached{begun}{reason}")
    }
}

fn verdict(expected: Expected, statuses: &[u16], closed: bool, reached: &[Received]) -> Verdict {
    match expected {
        Expected::Refuse => refused(statuses, closed, reached, |_| true),
        Expected::Abort => refused(statuses, closed, reached, |r| r.complete),
        Expected::Pass(check) => passed(check, statuses, reached),
        Expected::Either(check) => match refused(statuses, closed, reached, |r| r.complete) {
            Verdict::Safe => Verdict::Safe,
            Verdict::TooStrict(_) | Verdict::TooLax(_) => passed(check, statuses, reached),
        },
    }
}

fn refused(statuses: &[u16], closed: bool, reached: &[Received], counts: impl Fn(&Received) -> bool) -> Verdict {
    if let Some(received) = reached.iter().find(|r| counts(r)) {
        let violations: String = received.violations.iter().map(|v| format!(", {v}")).collect();
        return Verdict::TooLax(format!("{:?} reached the backend{violations}", received.target()));
    }
    match statuses.iter().find(|s| **s < 400 && **s != 100) {
        Some(status) => Verdict::TooLax(format!("answered {status}")),
        None if statuses.is_empty() && !closed => Verdict::TooStrict("waits".to_owned()),
        None => Verdict::Safe,
    }
}

fn passed(check: Check, statuses: &[u16], reached: &[Received]) -> Verdict {
    if let Some(received) = reached.iter().find(|r| !r.violations.is_empty()) {
        return Verdict::TooLax(received.violations.join(", "));
    }
    let Some(fault) = check.fault(reached) else {
        return Verdict::Safe;
    };
    let answered = statuses.iter().any(|s| (200..400).contains(s));
    if reached.is_empty() && !answered { Verdict::TooStrict(fault) } else { Verdict::TooLax(fault) }
}

/// A column of outcomes for each proxy, a line for each case in which they differ or one is not safe.
pub fn table(columns: &[(&str, &[Outcome])]) -> String {
    let mut text = String::from("case");
    for (name, _) in columns {
        text.push_str(&format!(" | {name}"));
    }
    text.push('\n');
    let Some((_, first)) = columns.first() else { return text };
    for (index, outcome) in first.iter().enumerate() {
        let row: Vec<&Outcome> = columns.iter().filter_map(|(_, outcomes)| outcomes.get(index)).collect();
        let alike = row.iter().all(|o| o.statuses == outcome.statuses && o.reached.len() == outcome.reached.len());
        if alike && row.iter().all(|o| o.verdict == Verdict::Safe) {
            continue;
        }
        let cells: Vec<String> = row.iter().map(|o| o.summary()).collect();
        text.push_str(&format!("{} | {}\n", outcome.case, cells.join(" | ")));
    }
    text
}
