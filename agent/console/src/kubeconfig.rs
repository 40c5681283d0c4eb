//! The administrator's kubeconfig for a client elsewhere: the same, with an address that reaches the box from there.

use std::net::IpAddr;

use crate::Config;

/// `host` is how the client called the box. One that the API's certificate is not valid for becomes the box's address.
pub fn render(kubeconfig: &str, host: &str, config: &Config) -> String {
    let is_known = config.api_names.iter().any(|name| name.eq_ignore_ascii_case(host));
    let server = if is_known { host.to_owned() } else { config.node_address.to_string() };
    let server = match server.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(_)) | Err(_) => server,
    };
    let replace = |line: &str| match line.split_once("server: ") {
        Some((indent, _)) if indent.trim().is_empty() => {
            format!("{indent}server: https://{server}:{}\n", config.api_port)
        }
        Some(_) | None => format!("{line}\n"),
    };
    kubeconfig.lines().map(replace).collect()
}
