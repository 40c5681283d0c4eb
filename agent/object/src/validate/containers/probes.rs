//! What is asked of containers while they run: probes, and hooks at their start and end.
//!
//! Owns the actions both have.

use super::super::errors::Errors;
use super::super::names;
use super::super::node::Node;
use super::super::services::port_reference;
use super::Pod;

pub fn lifecycle(lifecycle: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    for hook in ["postStart", "preStop"].map(|name| lifecycle.get(name)) {
        if !hook.is_missing() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], pod.grace_seconds, errors);
        }
    }
}

const COUNTS: &[&str] =
    &["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];

pub fn probes(container: &Node<'_>, errors: &mut Errors) {
    for (name, must_be_one) in [("livenessProbe", true), ("readinessProbe", false), ("startupProbe", true)] {
        let probe = container.get(name);
        if probe.is_missing() {
            continue;
        }
        handler(&probe, &["exec", "httpGet", "tcpSocket", "grpc"], None, errors);
        COUNTS.iter().for_each(|field| errors.non_negative(&probe.get(field)));
        let grace = probe.get("terminationGracePeriodSeconds");
        errors.positive(&grace);
        let success = probe.get("successThreshold");
        if must_be_one && success.int().is_some_and(|threshold| threshold != 1) {
            errors.invalid(&success, "must be 1");
        }
        if !must_be_one && !grace.is_missing() {
            errors.invalid(&grace, "must not be set for readinessProbes");
        }
    }
}

fn handler(handler: &Node<'_>, allowed: &[&str], grace_seconds: Option<i64>, errors: &mut Errors) {
    let mut found = allowed.iter().filter(|name| handler.has(name));
    let Some(first) = found.next() else {
        errors.required(handler, "must specify a handler type");
        return;
    };
    let action = handler.get(first);
    match *first {
        "exec" if action.get("command").is_empty() => errors.required(&action.get("command"), ""),
        "httpGet" => http_get(&action, errors),
        "tcpSocket" | "grpc" => required_port(&action, errors),
        "sleep" => sleep(&action, grace_seconds, errors),
        _ => {}
    }
    for other in found {
        errors.forbidden(&handler.get(other), "may not specify more than 1 handler type");
    }
}

fn http_get(action: &Node<'_>, errors: &mut Errors) {
    if action.get("path").is_empty() {
        errors.required(&action.get("path"), "");
    }
    required_port(action, errors);
    errors.supported(&action.get("scheme"), &["HTTP", "HTTPS"]);
    for header in action.get("httpHeaders").items() {
        let name = Node { path: action.get("httpHeaders").path, ..header.get("name") };
        errors.formed(&name, names::http_header);
    }
}

fn required_port(action: &Node<'_>, errors: &mut Errors) {
    let port = action.get("port");
    if port.is_missing() {
        errors.invalid_value(&port, &0.into(), &names::range(1, 65535));
    }
    port_reference(&port, errors);
}

fn sleep(action: &Node<'_>, grace_seconds: Option<i64>, errors: &mut Errors) {
    let seconds = action.get("seconds").int().unwrap_or(0);
    if let Some(grace) = grace_seconds
        && !(0..=grace).contains(&seconds)
    {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid_value(action, &seconds.into(), &detail);
    }
}
