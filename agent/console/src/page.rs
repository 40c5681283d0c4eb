//! The pages as HTML. Pure: everything on them is given.

#[cfg(test)]
mod tests;

use maud::{DOCTYPE, Markup, html};

use crate::health::{Health, Problem};
use crate::machine::{Machine, Used};

pub const STYLE: &str = include_str!("style.css");
/// While the box starts, the page looks again by itself.
const REFRESH_SECONDS: u32 = 5;

/// Who looks, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Over plain HTTP: nothing secret goes either way.
    Plain,
    Secure,
    SignedIn,
}

#[derive(Clone, Debug)]
pub struct State<'a> {
    pub viewer: Viewer,
    pub version: &'a str,
    /// `None`: the API does not answer.
    pub health: Option<Health>,
    pub machine: Machine,
    /// The box CA's, once it is there.
    pub fingerprint: Option<String>,
    /// `https://HOST[:PORT]`, as the client reaches this box.
    pub secure_origin: &'a str,
}

/// Something that went wrong, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    None,
    Said(&'a str),
}

fn document(title: &str, refresh: Refresh, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if refresh == Refresh::Soon { meta http-equiv="refresh" content=(REFRESH_SECONDS); }
                title { (title) }
                link rel="stylesheet" href="/console.css";
            }
            body { (body) }
        }
    };
    page.into_string()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refresh {
    Never,
    Soon,
}

pub fn front(state: &State<'_>) -> String {
    let health = state.health.clone().unwrap_or_default();
    let refresh = if health.ready { Refresh::Never } else { Refresh::Soon };
    let name = if health.node.is_empty() { "Your box" } else { &health.node };
    let body = html! {
        header {
            h1 { (name) }
            p { "Skiff " (state.version) }
        }
        main {
            (readiness(&health))
            (facts(&health, &state.machine))
            (problems(&health.problems, state.viewer))
            @match state.viewer {
                Viewer::Plain => (next_steps(&state.fingerprint, &format!("{}/sign-in", state.secure_origin), state.viewer)),
                Viewer::Secure => (next_steps(&state.fingerprint, "/sign-in", state.viewer)),
                Viewer::SignedIn => (downloads()),
            }
        }
    };
    document(&format!("{name} – Skiff"), refresh, &body)
}

fn readiness(health: &Health) -> Markup {
    let wrong = health.problems.len();
    html! {
        @if !health.ready {
            p class="state bad" role="status" { "The box is starting. This page looks again every few seconds." }
        } @else if wrong == 0 {
            p class="state good" role="status" { "The box is ready, and nothing is wrong." }
        } @else {
            p class="state bad" role="status" {
                "The box is ready, and " (wrong) @if wrong == 1 { " thing needs" } @else { " things need" } " a look."
            }
        }
    }
}

fn facts(health: &Health, machine: &Machine) -> Markup {
    let pods = &health.pods;
    html! {
        dl {
            div {
                dt { "Pods" }
                dd { (pods.running) " running" small { (pods.pending) " waiting, " (pods.failed) " failed" } }
            }
            div { dt { "Memory" } (used(machine.memory)) }
            div { dt { "Disk" } (used(machine.disk)) }
            div {
                dt { "Up for" }
                dd {
                    (duration(machine.uptime_seconds))
                    @if !health.address.is_empty() { small { (health.address) } }
                }
            }
        }
    }
}

fn used(used: Used) -> Markup {
    let percent = (used.used * 100).checked_div(used.total).unwrap_or(0);
    let text = format!("{} of {}", size(used.used), size(used.total));
    html! { dd { (percent) " %" small { (text) } meter min="0" max="100" high="85" value=(percent) aria-label=(text) {} } }
}

/// Binary units, as the kernel counts.
fn size(bytes: u64) -> String {
    match bytes >> 20 {
        mebibytes @ 0..1024 => format!("{mebibytes} MiB"),
        mebibytes @ 1024..102_400 => format!("{:.1} GiB", mebibytes as f64 / 1024.0),
        mebibytes => format!("{} GiB", mebibytes >> 10),
    }
}

fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Strangers learn what is wrong with the box, and how many applications have a problem, not which.
fn problems(problems: &[Problem], viewer: Viewer) -> Markup {
    let is_shown = |problem: &&Problem| match (problem, viewer) {
        (Problem::Box(_), _) | (Problem::Application(_), Viewer::SignedIn) => true,
        (Problem::Application(_), Viewer::Plain | Viewer::Secure) => false,
    };
    let shown: Vec<&Problem> = problems.iter().filter(is_shown).collect();
    let hidden = problems.len() - shown.len();
    html! {
        @if !problems.is_empty() {
            h2 { "What needs a look" }
            ul {
                @for problem in &shown { li { (problem.text()) } }
                @if hidden > 0 { li { "Applications with a problem: " (hidden) ". Sign in to see which." } }
            }
        }
    }
}

fn next_steps(fingerprint: &Option<String>, sign_in: &str, viewer: Viewer) -> Markup {
    html! {
        h2 { "What to do next" }
        ol {
            li {
                a href="/ca" { "Install this box's certificate" }
                " on your devices. Until then, browsers warn about its pages, as no public authority can vouch for a "
                "name in your home."
                @if let Some(fingerprint) = fingerprint {
                    details {
                        summary { "Its SHA-256 fingerprint" }
                        p class="fingerprint" { code { (fingerprint) } }
                        p { "The box's screen and " code { "skiff status" } " show the same, or somebody is in between." }
                    }
                }
            }
            li {
                a href=(sign_in) { "Sign in" }
                " with the one-time code on the box's screen"
                @if viewer == Viewer::Plain { ", over an encrypted connection" }
                ", and get the kubeconfig that lets " code { "kubectl" } " find the box."
            }
            li { "Install an application:" (example()) }
        }
    }
}

fn example() -> Markup {
    html! {
        pre { code { "kubectl apply -f app.yaml\nkubectl get pods,ingress" } }
        p { "Manifests and charts for Kubernetes work as they are. The README of Skiff has an example with a name of its own "
            "and a certificate." }
    }
}

fn downloads() -> Markup {
    html! {
        h2 { "Your access" }
        p { "Whoever has this file rules the box. Keep it like a password." }
        div class="actions" {
            a class="button" href="/kubeconfig" download="kubeconfig.yaml" { "Download kubeconfig" }
            a class="button quiet" href="/ca.pem" { "Download box-ca.pem" }
        }
        pre { code { "export KUBECONFIG=~/Downloads/kubeconfig.yaml\nkubectl get nodes" } }
        h2 { "What to do next" }
        ul {
            li { a href="/ca" { "Install this box's certificate" } " on your other devices." }
            li { "Install an application:" (example()) }
        }
        form method="post" action="/sign-out" { button class="quiet" type="submit" { "Sign out" } }
    }
}

pub fn sign_in(notice: &Notice<'_>) -> String {
    let body = html! {
        header { h1 { "Sign in" } p { a href="/" { "Back" } } }
        main {
            @if let Notice::Said(text) = notice { p class="notice" role="alert" { (text) } }
            form method="post" action="/sign-in" {
                label for="code" { "The one-time code" }
                div class="actions" {
                    input id="code" name="code" required autofocus maxlength="16" autocomplete="one-time-code"
                        autocapitalize="characters" spellcheck="false" placeholder="XXXX-XXXX";
                    button type="submit" { "Sign in" }
                }
            }
            p { "The code is on the box's screen. On the box, as root, " code { "skiff status" } " shows it too. It is good for "
                "one sign-in, and then there is another." }
        }
    };
    document("Sign in – Skiff", Refresh::Never, &body)
}

/// Instead of the form, over plain HTTP.
pub fn sign_in_elsewhere(secure: &str, fingerprint: Option<&str>) -> String {
    let body = html! {
        header { h1 { "Sign in over an encrypted connection" } p { a href="/" { "Back" } } }
        main {
            p { "What is sent to this page could be read on its way. " a href=(secure) { "Go on to " (secure) } "." }
            p { "Your browser warns there until you have " a href="/ca" { "installed this box's certificate" } "." }
            @if let Some(fingerprint) = fingerprint {
                p { "The certificate's SHA-256 fingerprint, which the box's screen shows too:" }
                p class="fingerprint" { code { (fingerprint) } }
            }
        }
    };
    document("Sign in – Skiff", Refresh::Never, &body)
}

pub fn message(title: &str, text: &str) -> String {
    let body = html! {
        header { h1 { (title) } p { a href="/" { "Back" } } }
        main { p { (text) } }
    };
    document(&format!("{title} – Skiff"), Refresh::Never, &body)
}
