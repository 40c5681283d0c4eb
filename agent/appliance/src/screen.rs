//! What the box's own screen shows: one frame of plain text, from what is known. Pure.
//!
//! Plain ASCII in 80 columns: a serial line and the kernel's font show no more.

use std::net::IpAddr;

#[cfg(test)]
mod tests;

pub const COLUMNS: usize = 80;
/// Half a screen: who has more problems reads them with `skiff status`.
const PROBLEMS_MAX: usize = 6;
const PROBLEM_LINES_MAX: usize = 5;
const ADDRESSES_MAX: usize = 6;

/// What a box without its state says, and all it can say.
pub const NO_STATE: &str = "The partition skiff-state, which holds all applications and their data, cannot be mounted. \
    Restart first: menu, 7. The menu's login needs no password now; `journalctl -b -p warning` says why it cannot. \
    Save what can be saved from the disk before a factory reset makes the partition anew: menu, 6.";

/// How the box is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    /// Its state partition cannot be mounted.
    NoState,
    /// The agent ran and does not answer any more.
    Silent,
    NotReady,
    Ready,
}

/// Everything a frame depends on: two equal ones look the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub name: String,
    pub version: String,
    pub addresses: Vec<IpAddr>,
    pub state: State,
    pub code: Option<String>,
    pub has_ssh: bool,
    pub ca_fingerprint: Option<String>,
    pub problems: Vec<String>,
}

/// The lines of a frame, none wider than the screen.
pub fn render(view: &View) -> Vec<String> {
    let mut lines = vec![fit(&format!("  {}   Skiff {}", view.name, view.version)), String::new()];
    if view.state == State::NoState {
        lines.extend(field("State", state(view)));
    } else {
        lines.extend(field("Open", &format!("http://{}.local", view.name)));
        lines.extend(field("Addresses", &addresses(&view.addresses)));
        lines.extend(field("State", state(view)));
        lines.extend(field("Code", view.code.as_deref().unwrap_or("...")));
        lines.extend(field("Kubeconfig", &kubeconfig(view)));
    }
    if let Some(fingerprint) = &view.ca_fingerprint {
        lines.extend(field("Box CA", &format!("SHA-256 {fingerprint}")));
    }
    if !view.problems.is_empty() {
        lines.push(String::new());
        lines.push("  Problems".to_owned());
        lines.extend(view.problems.iter().take(PROBLEMS_MAX).flat_map(|problem| item(problem)));
        if view.problems.len() > PROBLEMS_MAX {
            lines.push(format!("  - and {} more: see `skiff status`", view.problems.len() - PROBLEMS_MAX));
        }
    }
    lines.extend([String::new(), "  Press Enter for the menu".to_owned()]);
    lines
}

fn state(view: &View) -> &'static str {
    match (&view.state, view.problems.is_empty()) {
        (State::Starting, _) => "starting",
        (State::NoState, _) => "stopped",
        (State::Silent, _) => "the agent does not answer",
        (State::NotReady, _) => "not ready",
        (State::Ready, true) => "ready",
        (State::Ready, false) => "ready, with problems",
    }
}

fn addresses(all: &[IpAddr]) -> String {
    if all.is_empty() {
        return "none: is the network cable plugged in?".to_owned();
    }
    all.iter().take(ADDRESSES_MAX).map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn kubeconfig(view: &View) -> String {
    if view.has_ssh { format!("ssh root@{}.local skiff kubeconfig", view.name) } else { "on the page above".to_owned() }
}

fn field(name: &str, value: &str) -> Vec<String> {
    const INDENT: usize = 14;
    let wrapped = wrap(&ascii(value), COLUMNS - INDENT);
    let heads = std::iter::once(format!("  {name:<12}")).chain(std::iter::repeat(" ".repeat(INDENT)));
    heads.zip(wrapped).map(|(head, text)| format!("{head}{text}")).collect()
}

fn item(text: &str) -> Vec<String> {
    let wrapped = wrap(&ascii(text), COLUMNS - 4);
    let heads = std::iter::once("  - ").chain(std::iter::repeat("    "));
    heads.zip(wrapped).take(PROBLEM_LINES_MAX).map(|(head, text)| format!("{head}{text}")).collect()
}

/// What a terminal shows as it is: no control sequence passes.
pub fn ascii(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '…' => shown.push_str("..."),
            '“' | '”' | '„' => shown.push('"'),
            c if c.is_ascii_graphic() || c == ' ' => shown.push(c),
            c if c.is_whitespace() => shown.push(' '),
            _ => shown.push('?'),
        }
    }
    shown
}

fn fit(text: &str) -> String {
    ascii(text).chars().take(COLUMNS).collect()
}

/// Lines of at most `width` columns, at blanks where there are some. Never empty.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word = word;
        loop {
            let line = lines.last_mut().expect("it begins with one");
            let blank = usize::from(!line.is_empty());
            if line.len() + blank + word.len() <= width {
                line.push_str(&" ".repeat(blank));
                line.push_str(word);
                break;
            }
            if line.is_empty() {
                let (head, tail) = word.split_at(width);
                line.push_str(head);
                word = tail;
            }
            lines.push(String::new());
        }
    }
    lines
}
