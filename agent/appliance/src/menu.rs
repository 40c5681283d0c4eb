//! The recovery menu of the screen: a pure state machine from lines that a person types to what is to be done.
//!
//! Nothing that is typed ends it; what is done is done by whoever holds the terminal.

use std::net::IpAddr;

use skiff_settings::{Conflict, HostNetwork, InterfaceAddress};

/// Longer lines are no answers.
const LINE_BYTES_MAX: usize = 256;
const PASSWORD_CHARS_MIN: usize = 8;

/// What the menu needs to know of the box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub name: String,
    pub has_password: bool,
}

/// Where the conversation is: what the next line answers.
#[derive(Clone, PartialEq, Eq)]
pub enum Menu {
    /// The frame is shown; Enter opens the menu.
    Closed,
    Choice,
    /// There is no password to log in with: set one first?
    PasswordFirst,
    Password,
    /// The same again; it holds the first.
    PasswordAgain(String),
    Network,
    Address,
    Gateway(InterfaceAddress),
    Dns(InterfaceAddress, Option<IpAddr>),
    ConfirmSlot,
    ConfirmReset,
    ConfirmRestart,
    ConfirmPowerOff,
}

/// What a person asked for.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    None,
    LogIn,
    SetPassword(String),
    ShowNetwork,
    UseDhcp,
    UseAddress { address: InterfaceAddress, gateway: Option<IpAddr>, dns: Vec<IpAddr> },
    BootOtherSlot,
    SupportBundle,
    FactoryReset,
    Restart,
    PowerOff,
}

/// The answer to a line.
pub struct Step {
    pub menu: Menu,
    pub action: Action,
    /// Said before the next question.
    pub say: String,
}

const CHOICES: &str = "\n  Recovery menu\n
  1  Log in
  2  Set a new administrator's password
  3  Network
  4  Start the other system (the one before the last update)
  5  Write a support bundle to the boot partition
  6  Factory reset: delete everything on this box
  7  Restart
  8  Power off
  0  Back\n";
const NETWORK: &str = "\n  1  Show
  2  Get the address by DHCP
  3  Use a fixed address
  0  Back\n";
const LEFT: &str = "Nothing was changed.";

impl Menu {
    /// What is asked now.
    pub fn prompt(&self) -> String {
        match self {
            Self::Closed => String::new(),
            Self::Choice => format!("{CHOICES}\nYour choice: "),
            Self::PasswordFirst => "There is no administrator's password yet. Set one now? (yes/no) ".to_owned(),
            Self::Password => format!("New password, at least {PASSWORD_CHARS_MIN} characters (empty: back): "),
            Self::PasswordAgain(_) => "The same again: ".to_owned(),
            Self::Network => format!("{NETWORK}\nYour choice: "),
            Self::Address => "Address, such as 192.168.1.10/24 (empty: back): ".to_owned(),
            Self::Gateway(_) => "Router, such as 192.168.1.1 (empty: none): ".to_owned(),
            Self::Dns(_, _) => "DNS servers, with blanks between (empty: the router): ".to_owned(),
            Self::ConfirmSlot => "The box restarts into its other system. Go on? (yes/no) ".to_owned(),
            Self::ConfirmReset => {
                "This deletes all applications, their data and all settings but skiff.toml.\nType the \
                                   name of this box to go on: "
                    .to_owned()
            }
            Self::ConfirmRestart => "Restart now? (yes/no) ".to_owned(),
            Self::ConfirmPowerOff => "Power off now? (yes/no) ".to_owned(),
        }
    }

    /// Whether what is typed must not be shown.
    pub fn is_secret(&self) -> bool {
        match self {
            Self::Password | Self::PasswordAgain(_) => true,
            Self::Closed
            | Self::Choice
            | Self::PasswordFirst
            | Self::Network
            | Self::Address
            | Self::Gateway(_)
            | Self::Dns(_, _)
            | Self::ConfirmSlot
            | Self::ConfirmReset
            | Self::ConfirmRestart
            | Self::ConfirmPowerOff => false,
        }
    }

    /// The answer to a line, without its end.
    pub fn next(self, line: &[u8], facts: &Facts) -> Step {
        let text = match std::str::from_utf8(line) {
            Ok(text) if text.len() <= LINE_BYTES_MAX && !text.chars().any(char::is_control) => text,
            Ok(_) | Err(_) if self == Self::Closed => "",
            Ok(_) | Err(_) => return ask(self, "That was not understood: use letters, digits and punctuation."),
        };
        // Blanks belong to a password.
        let word = text.trim();
        match self {
            Self::Closed => ask(Self::Choice, ""),
            Self::Choice => choose(word, facts),
            Self::PasswordFirst => confirm(self, word, Self::Password, Action::None),
            Self::Password => first_password(text),
            Self::PasswordAgain(first) if first == text => act(Action::SetPassword(first), ""),
            Self::PasswordAgain(_) => ask(Self::Password, "The two were not the same. Again."),
            Self::Network => choose_network(word),
            Self::Address => match (word, InterfaceAddress::try_from(word.to_owned())) {
                ("", _) => ask(Self::Choice, LEFT),
                (_, Ok(address)) => ask(Self::Gateway(address), ""),
                (_, Err(error)) => ask(Self::Address, &format!("{error}.")),
            },
            Self::Gateway(address) => gateway(address, word),
            Self::Dns(address, gateway) => dns(address, gateway, word),
            Self::ConfirmSlot => confirm(self, word, Self::Choice, Action::BootOtherSlot),
            Self::ConfirmReset if word == facts.name => act(Action::FactoryReset, ""),
            Self::ConfirmReset => ask(Self::Choice, &format!("That is not \"{}\". Nothing was deleted.", facts.name)),
            Self::ConfirmRestart => confirm(self, word, Self::Choice, Action::Restart),
            Self::ConfirmPowerOff => confirm(self, word, Self::Choice, Action::PowerOff),
        }
    }
}

fn ask(menu: Menu, say: &str) -> Step {
    Step { menu, action: Action::None, say: say.to_owned() }
}

fn act(action: Action, say: &str) -> Step {
    Step { menu: Menu::Choice, action, say: say.to_owned() }
}

fn choose(word: &str, facts: &Facts) -> Step {
    match word {
        "" => ask(Menu::Choice, ""),
        "0" => ask(Menu::Closed, ""),
        "1" if facts.has_password => act(Action::LogIn, ""),
        "1" => ask(Menu::PasswordFirst, ""),
        "2" => ask(Menu::Password, ""),
        "3" => ask(Menu::Network, ""),
        "4" => ask(Menu::ConfirmSlot, ""),
        "5" => act(Action::SupportBundle, "Writing the support bundle; this takes a moment."),
        "6" => ask(Menu::ConfirmReset, ""),
        "7" => ask(Menu::ConfirmRestart, ""),
        "8" => ask(Menu::ConfirmPowerOff, ""),
        _ => ask(Menu::Choice, "Type a number from 0 to 8 and Enter."),
    }
}

fn choose_network(word: &str) -> Step {
    match word {
        "" | "0" => ask(Menu::Choice, ""),
        "1" => Step { menu: Menu::Network, action: Action::ShowNetwork, say: String::new() },
        "2" => act(Action::UseDhcp, ""),
        "3" => ask(Menu::Address, ""),
        _ => ask(Menu::Network, "Type a number from 0 to 3 and Enter."),
    }
}

/// Only a whole "yes" is one.
fn confirm(asked: Menu, word: &str, then: Menu, action: Action) -> Step {
    match word.to_ascii_lowercase().as_str() {
        "yes" => Step { menu: then, action, say: String::new() },
        "no" | "n" | "" => ask(Menu::Choice, LEFT),
        _ => ask(asked, "Type yes or no."),
    }
}

fn first_password(text: &str) -> Step {
    match text.chars().count() {
        0 => ask(Menu::Choice, LEFT),
        count if count < PASSWORD_CHARS_MIN => ask(Menu::Password, "That is too short."),
        _ => ask(Menu::PasswordAgain(text.to_owned()), ""),
    }
}

fn gateway(address: InterfaceAddress, word: &str) -> Step {
    if word.is_empty() {
        return ask(Menu::Dns(address, None), "");
    }
    let Ok(gateway) = word.parse() else {
        return ask(Menu::Gateway(address), &format!("\"{word}\" is not an address such as 192.168.1.1."));
    };
    let network = HostNetwork { address: Some(address), gateway: Some(gateway), ..HostNetwork::default() };
    match network.conflict() {
        Some(Conflict { message, .. }) => ask(Menu::Gateway(address), &format!("{message}.")),
        None => ask(Menu::Dns(address, Some(gateway)), ""),
    }
}

fn dns(address: InterfaceAddress, gateway: Option<IpAddr>, word: &str) -> Step {
    let servers: Result<Vec<IpAddr>, _> =
        word.split([' ', ',']).filter(|w| !w.is_empty()).map(str::parse::<IpAddr>).collect();
    match servers {
        Err(_) => ask(Menu::Dns(address, gateway), &format!("\"{word}\" is not a list of addresses.")),
        Ok(given) => {
            let dns = if given.is_empty() { gateway.into_iter().collect() } else { given };
            act(Action::UseAddress { address, gateway, dns }, "")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts() -> Facts {
        Facts { name: "cellar".to_owned(), has_password: true }
    }

    fn name(action: &Action) -> String {
        match action {
            Action::None => "-".to_owned(),
            Action::LogIn => "log in".to_owned(),
            Action::SetPassword(password) => format!("password {password:?}"),
            Action::ShowNetwork => "show network".to_owned(),
            Action::UseDhcp => "dhcp".to_owned(),
            Action::UseAddress { address, gateway, dns } => format!("{address} {gateway:?} {dns:?}"),
            Action::BootOtherSlot => "other slot".to_owned(),
            Action::SupportBundle => "bundle".to_owned(),
            Action::FactoryReset => "reset".to_owned(),
            Action::Restart => "restart".to_owned(),
            Action::PowerOff => "power off".to_owned(),
        }
    }

    /// The last action and what was said, after these lines.
    fn check(lines: &[&str], facts: &Facts, action: &str, say: &str) {
        let mut step = ask(Menu::Closed, "");
        for line in lines {
            step = step.menu.next(line.as_bytes(), facts);
        }
        assert_eq!((name(&step.action).as_str(), step.say.as_str()), (action, say), "{lines:?}");
    }

    #[test]
    fn what_is_asked_for_is_done() {
        let cases: &[(&[&str], &str)] = &[
            (&["", "1"], "log in"),
            (&["", "2", "correct horse", "correct horse"], "password \"correct horse\""),
            (&["", "3", "1"], "show network"),
            (&["", "3", "2"], "dhcp"),
            (&["", "3", "3", "192.168.1.10/24", "192.168.1.1", ""], "192.168.1.10/24 Some(192.168.1.1) [192.168.1.1]"),
            (&["", "3", "3", "192.168.1.10/24", "", "9.9.9.9, 1.1.1.1"], "192.168.1.10/24 None [9.9.9.9, 1.1.1.1]"),
            (&["", "4", "yes"], "other slot"),
            (&["", "6", "cellar"], "reset"),
            (&["", "7", "Yes"], "restart"),
            (&["", "8", "yes"], "power off"),
            (&["anything", "0", "x"], "-"),
        ];
        for (lines, action) in cases {
            check(lines, &facts(), action, "");
        }
        check(&["", "5"], &facts(), "bundle", "Writing the support bundle; this takes a moment.");
        let without = Facts { has_password: false, ..facts() };
        check(&["", "1", "yes", "12345678", "12345678"], &without, "password \"12345678\"", "");
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let cases: &[(&[&str], &str)] = &[
            (&["", "9"], "Type a number from 0 to 8 and Enter."),
            (&["", "\u{3}"], "That was not understood: use letters, digits and punctuation."),
            (&["", "2", ""], LEFT),
            (&["", "2", "short"], "That is too short."),
            (&["", "2", "12345678", "87654321"], "The two were not the same. Again."),
            (
                &["", "3", "3", "192.168.1.10"],
                "\"192.168.1.10\" is not an address with its network's length such as \"192.168.1.10/24\"; at home it is mostly /24.",
            ),
            (&["", "3", "3", "192.168.1.10/24", "router"], "\"router\" is not an address such as 192.168.1.1."),
            (&["", "3", "3", "192.168.1.10/24", "", "x"], "\"x\" is not a list of addresses."),
            (&["", "4", "y"], "Type yes or no."),
            (&["", "6", "yes"], "That is not \"cellar\". Nothing was deleted."),
            (&["", "7", ""], LEFT),
        ];
        for (lines, say) in cases {
            check(lines, &facts(), "-", say);
        }
    }

    proptest! {
        #[test]
        fn garbage_neither_ends_it_nor_does_harm(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40)) {
            let mut menu = Menu::Closed;
            for line in lines {
                let step = menu.next(&line, &facts());
                let harm = matches!(step.action, Action::FactoryReset | Action::Restart | Action::PowerOff | Action::BootOtherSlot);
                prop_assert!(!harm);
                menu = step.menu;
                menu.prompt();
            }
        }
    }
}
