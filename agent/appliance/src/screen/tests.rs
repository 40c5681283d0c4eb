//! Frames as they look.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn view() -> View {
    View {
        name: "cellar".to_owned(),
        version: "0.1.0".to_owned(),
        addresses: vec!["192.168.1.10".parse().unwrap(), "fd00::5".parse().unwrap()],
        state: State::Ready,
        code: Some("7KQ2-M4XD".to_owned()),
        has_ssh: false,
        ca_fingerprint: None,
        problems: Vec::new(),
    }
}

fn check(view: &View, expected: Expect) {
    // The bar keeps the blanks that lines begin with.
    let shown: String = render(view).iter().map(|line| format!("|{line}\n")).collect();
    expected.assert_eq(&shown);
}

#[test]
fn a_box_that_starts() {
    let nothing = View { addresses: Vec::new(), state: State::Starting, code: None, ..view() };
    check(
        &nothing,
        expect![[r#"
            |  cellar   Skiff 0.1.0
            |
            |  Open        http://cellar.local
            |  Addresses   none: is the network cable plugged in?
            |  State       starting
            |  Code        ...
            |  Kubeconfig  on the page above
            |
            |  Press Enter for the menu
        "#]],
    );
}

#[test]
fn a_box_without_its_state() {
    let view = View { state: State::NoState, code: None, problems: vec![NO_STATE.to_owned()], ..view() };
    check(
        &view,
        expect![[r#"
        |  cellar   Skiff 0.1.0
        |
        |  State       stopped
        |
        |  Problems
        |  - The partition skiff-state, which holds all applications and their data,
        |    cannot be mounted. Restart first: menu, 7. The menu's login needs no
        |    password now; `journalctl -b -p warning` says why it cannot. Save what can
        |    be saved from the disk before a factory reset makes the partition anew:
        |    menu, 6.
        |
        |  Press Enter for the menu
    "#]],
    );
}

#[test]
fn a_box_that_is_ready() {
    check(
        &view(),
        expect![[r#"
            |  cellar   Skiff 0.1.0
            |
            |  Open        http://cellar.local
            |  Addresses   192.168.1.10, fd00::5
            |  State       ready
            |  Code        7KQ2-M4XD
            |  Kubeconfig  on the page above
            |
            |  Press Enter for the menu
        "#]],
    );
}

#[test]
fn a_box_with_everything() {
    let fingerprint = (0..32).map(|n| format!("{n:02X}")).collect::<Vec<_>>().join(":");
    let problem = "line 3: host.network.address: \"192.168.1.10\" is not an address with its network's length such as \
                   \"192.168.1.10/24\"; at home it is mostly /24";
    let everything = View {
        has_ssh: true,
        ca_fingerprint: Some(fingerprint),
        problems: vec![problem.to_owned(), "pod default/web: ImagePullBackOff: „x“ is not there…\u{1b}[2J".to_owned()],
        ..view()
    };
    check(
        &everything,
        expect![[r#"
            |  cellar   Skiff 0.1.0
            |
            |  Open        http://cellar.local
            |  Addresses   192.168.1.10, fd00::5
            |  State       ready, with problems
            |  Code        7KQ2-M4XD
            |  Kubeconfig  ssh root@cellar.local skiff kubeconfig
            |  Box CA      SHA-256
            |              00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:
            |              16:17:18:19:1A:1B:1C:1D:1E:1F
            |
            |  Problems
            |  - line 3: host.network.address: "192.168.1.10" is not an address with its
            |    network's length such as "192.168.1.10/24"; at home it is mostly /24
            |  - pod default/web: ImagePullBackOff: "x" is not there...?[2J
            |
            |  Press Enter for the menu
        "#]],
    );
}

#[test]
fn an_agent_that_is_gone() {
    let silent = View { state: State::Silent, problems: vec!["x".to_owned(); 9], ..view() };
    check(
        &silent,
        expect![[r#"
            |  cellar   Skiff 0.1.0
            |
            |  Open        http://cellar.local
            |  Addresses   192.168.1.10, fd00::5
            |  State       the agent does not answer
            |  Code        7KQ2-M4XD
            |  Kubeconfig  on the page above
            |
            |  Problems
            |  - x
            |  - x
            |  - x
            |  - x
            |  - x
            |  - x
            |  - and 3 more: see `skiff status`
            |
            |  Press Enter for the menu
        "#]],
    );
}

proptest! {
    #[test]
    fn every_frame_fits(name in "\\PC{0,200}", problems in prop::collection::vec("(?s).{0,400}", 0..12), code in ".{0,300}") {
        for line in render(&View { name, problems, code: Some(code), ..view() }) {
            prop_assert!(line.len() <= COLUMNS && line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{line:?}");
        }
    }
}
