//! What stands on a page, for whom.

use super::*;
use crate::health::Pods;

const SECRETIVE: &str = "pod private/diary: CrashLoopBackOff: back-off";

fn state(viewer: Viewer) -> State<'static> {
    let gibibytes = |used: u64, total: u64| Used { used: used << 30, total: total << 30 };
    State {
        viewer,
        version: "0.1.0",
        health: Some(Health {
            node: "skiff".to_owned(),
            ready: true,
            address: "192.168.1.10".to_owned(),
            runtime: "containerd://1.7".to_owned(),
            pods: Pods { running: 3, pending: 1, ..Pods::default() },
            problems: vec![
                Problem::Box("node: DiskPressure is True: the disk is nearly full".to_owned()),
                Problem::Application(SECRETIVE.to_owned()),
            ],
        }),
        machine: Machine { uptime_seconds: 93_784, memory: gibibytes(1, 4), disk: gibibytes(9, 10) },
        fingerprint: Some("AB:CD".to_owned()),
        secure_origin: "https://skiff.local:18443",
    }
}

#[test]
fn strangers_learn_no_names_of_applications() {
    for viewer in [Viewer::Plain, Viewer::Secure] {
        let page = front(&state(viewer));
        assert!(!page.contains("diary") && !page.contains("private"), "{page}");
        assert!(page.contains("Applications with a problem: 1"));
        assert!(page.contains("the disk is nearly full"));
        assert!(!page.contains("/kubeconfig"));
    }
    let page = front(&state(Viewer::SignedIn));
    assert!(page.contains(SECRETIVE) && page.contains("href=\"/kubeconfig\""));
}

#[test]
fn plain_pages_lead_to_encrypted_ones() {
    let page = front(&state(Viewer::Plain));
    assert!(page.contains("href=\"https://skiff.local:18443/sign-in\"") && page.contains("AB:CD"), "{page}");
    assert!(!page.contains("<form"), "nothing is sent over plain HTTP");
    assert!(!sign_in_elsewhere("https://skiff.local/sign-in", None).contains("<form"));
}

#[test]
fn a_starting_box_looks_again() {
    let starting = State { health: None, fingerprint: None, ..state(Viewer::Plain) };
    let page = front(&starting);
    assert!(page.contains("http-equiv=\"refresh\"") && page.contains("The box is starting"), "{page}");
    assert!(!front(&state(Viewer::Plain)).contains("http-equiv=\"refresh\""));
}

#[test]
fn what_comes_from_elsewhere_is_text() {
    let mut state = state(Viewer::SignedIn);
    if let Some(health) = &mut state.health {
        health.problems = vec![Problem::Application("<script>alert(1)</script>".to_owned())];
    }
    assert!(front(&state).contains("&lt;script&gt;"));
    assert!(sign_in(&Notice::Said("<b>")).contains("&lt;b&gt;"));
}

#[test]
fn nothing_is_fetched_from_elsewhere() {
    for page in [front(&state(Viewer::SignedIn)), sign_in(&Notice::None), message("a", "b")] {
        assert!(!page.contains("<script") && !page.contains("style=") && !page.contains("http:"), "{page}");
        assert!(page.contains("<html lang=\"en\">") && page.contains("name=\"viewport\"") && page.contains("<h1>"));
    }
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
}

#[test]
fn numbers_are_for_people() {
    assert_eq!([59, 3_700, 93_784].map(duration), ["0 min", "1 h 1 min", "1 d 2 h"]);
    assert_eq!([0, 512 << 20, 3 << 30, 252 << 30].map(size), ["0 MiB", "512 MiB", "3.0 GiB", "252 GiB"]);
}
