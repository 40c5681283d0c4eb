//! The security contexts of containers, and what pods have of them, too.
//!
//! Owns users, profiles and privileges.

use super::super::errors::Errors;
use super::super::names;
use super::super::node::Node;
use super::super::{structs, volumes};

/// User and group ids, as the runtimes take them.
pub const ID_MAX: i64 = i32::MAX as i64;

pub fn ids(context: &Node<'_>, fields: &[&str], errors: &mut Errors) {
    for field in fields {
        errors.in_range(&context.get(field), 0, ID_MAX);
    }
}

pub fn context(context: &Node<'_>, host_users: bool, errors: &mut Errors) {
    ids(context, &["runAsUser", "runAsGroup"], errors);
    let mount = context.get("procMount");
    errors.optional_supported(&mount, &["Default", "Unmasked"]);
    if host_users && mount.text() == "Unmasked" {
        errors.invalid(&mount, "`hostUsers` must be false to use `Unmasked`");
    }
    seccomp(&context.get("seccompProfile"), errors);
    let escalation = context.get("allowPrivilegeEscalation");
    if escalation.value.as_bool() == Some(false) {
        if context.get("privileged").is_true() {
            errors.invalid_struct(
                context,
                structs::SECURITY_CONTEXT,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        if context.at(&["capabilities", "add"]).items().iter().any(|name| name.text() == "CAP_SYS_ADMIN") {
            errors.invalid_struct(
                context,
                structs::SECURITY_CONTEXT,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    windows(&context.get("windowsOptions"), errors);
    app_armor(&context.get("appArmorProfile"), errors);
}

const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

/// Checks a seccomp profile.
pub fn seccomp(profile: &Node<'_>, errors: &mut Errors) {
    if profile.is_missing() {
        return;
    }
    let (ty, local) = (profile.get("type"), profile.get("localhostProfile"));
    if ty.is_empty() {
        errors.required(&ty, "type is required when seccompProfile is set");
    } else {
        errors.supported(&ty, PROFILES);
    }
    match (ty.text() == "Localhost", local.is_missing()) {
        (true, true) => errors.required(&local, "must be set when seccomp type is Localhost"),
        (true, false) => volumes::descending_path(&local, local.text(), errors),
        (false, false) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.invalid_struct(&Node { path: local.path, ..*profile }, structs::PROFILE, detail);
        }
        (false, true) => {}
    }
}

/// A path has at most this many bytes.
const PROFILE_MAX: usize = 4095;

/// Checks an AppArmor profile.
pub fn app_armor(profile: &Node<'_>, errors: &mut Errors) {
    if profile.is_missing() {
        return;
    }
    let (ty, local) = (profile.get("type"), profile.get("localhostProfile"));
    match (ty.text(), local.value.as_str()) {
        ("Localhost", None | Some("")) => errors.required(&local, "must be set when AppArmor type is Localhost"),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.invalid(&local, "must not be padded with whitespace");
            }
            if name.len() > PROFILE_MAX {
                errors.too_long(&local.path, PROFILE_MAX);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(_)) => {
            errors.invalid(&local, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.required(&ty, "type is required when appArmorProfile is set"),
        (_, _) => errors.not_supported(&ty, PROFILES),
    }
}

const CREDENTIALS_KIB_MAX: usize = 64;
const DOMAIN_MAX: usize = 256;
const USER_MAX: usize = 104;

/// Checks the options of Windows.
pub fn windows(options: &Node<'_>, errors: &mut Errors) {
    let (name, spec, user) =
        (options.get("gmsaCredentialSpecName"), options.get("gmsaCredentialSpec"), options.get("runAsUserName"));
    if !name.is_missing() {
        errors.formed(&name, names::dns_subdomain);
    }
    match spec.value.as_str().map(str::len) {
        Some(0) => errors.invalid(&spec, "gmsaCredentialSpec cannot be an empty string"),
        Some(length) if length > CREDENTIALS_KIB_MAX * 1024 => {
            errors.invalid(&spec, &format!("gmsaCredentialSpec size must be under {CREDENTIALS_KIB_MAX} KiB"));
        }
        Some(_) | None => {}
    }
    if let Some(text) = user.value.as_str() {
        user_name(&user, text, errors);
    }
}

/// `user` or `DOMAIN\user`.
fn user_name(node: &Node<'_>, text: &str, errors: &mut Errors) {
    if text.is_empty() {
        return errors.invalid(node, "runAsUserName cannot be an empty string");
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return errors.invalid(node, "runAsUserName cannot contain control characters");
    }
    if text.matches('\\').count() > 1 {
        return errors.invalid(node, "runAsUserName cannot contain more than one backslash");
    }
    let (domain, user) = text.split_once('\\').map_or((None, text), |(domain, user)| (Some(domain), user));
    if domain.is_some_and(|domain| domain.len() >= DOMAIN_MAX) {
        errors.invalid(node, &format!("runAsUserName's Domain length must be under {DOMAIN_MAX} characters"));
    }
    if domain.is_some_and(|domain| !is_net_bios(domain) && !is_dns(domain)) {
        errors.invalid(node, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        errors.invalid(node, "runAsUserName's User cannot be empty");
    } else if user.len() > USER_MAX {
        errors.invalid(node, &format!("runAsUserName's User length must not be longer than {USER_MAX} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| ". ".contains(c)) {
        errors.invalid(node, "runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        let detail = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]";
        errors.invalid(node, detail);
    }
}

fn is_net_bios(domain: &str) -> bool {
    let length = domain.chars().count();
    (1..=15).contains(&length) && !domain.starts_with('.') && !domain.contains(|c| "\\/:*?\"<>|".contains(c))
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| names::dns_label(&label.to_lowercase()).is_empty())
}
