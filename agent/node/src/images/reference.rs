//! Whether a text names an image: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, the grammar of
//! https://pkg.go.dev/github.com/distribution/reference. Pure.

/// The whole name, without tag and digest.
const NAME_CHARS_MAX: usize = 255;
const TAG_CHARS_MAX: usize = 128;

pub fn is_valid(image: &str) -> bool {
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    let last = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[last..].find(':') {
        Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
        None => (rest, None),
    };
    // Docker refuses it, too: it reads as the identifier of an image.
    let is_identifier = name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    !is_identifier && is_name(name) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest)
}

fn is_name(name: &str) -> bool {
    let path = match name.split_once('/') {
        Some((host, path)) if is_domain_like(host) => {
            if !is_domain(host) {
                return false;
            }
            path
        }
        Some(_) | None => name,
    };
    name.len() <= NAME_CHARS_MAX && path.split('/').all(is_component)
}

/// What stands before the first slash is a host if it cannot be a part of a path.
fn is_domain_like(host: &str) -> bool {
    host.contains(['.', ':', '[']) || host == "localhost" || host.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_domain(host: &str) -> bool {
    let (host, port) = match (host.strip_prefix('['), host.rsplit_once(':')) {
        (Some(rest), _) => match rest.split_once(']') {
            Some((v6, "")) => return v6.parse::<std::net::Ipv6Addr>().is_ok(),
            Some((v6, port)) if v6.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port.strip_prefix(':')),
            Some(_) | None => return false,
        },
        (None, Some((host, port))) => (host, Some(port)),
        (None, None) => (host, None),
    };
    let is_label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

/// Words of small letters and digits, joined by one dot, one or two underscores, or dashes.
fn is_component(component: &str) -> bool {
    let is_word = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = component.as_bytes();
    let ends = bytes.first().is_some_and(is_word) && bytes.last().is_some_and(is_word);
    ends && bytes
        .split(is_word)
        .all(|join| matches!(join, b"" | b"." | b"_" | b"__") || join.iter().all(|b| *b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let bytes = tag.as_bytes();
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    bytes.first().is_some_and(is_word)
        && tag.len() <= TAG_CHARS_MAX
        && bytes.iter().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let starts = algorithm.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    let named = algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || b"+._-".contains(&b));
    let length = if algorithm == "sha256" { hex.len() == 64 } else { hex.len() >= 32 };
    starts && named && length && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn references_are_told_from_other_texts() {
        let digest = format!("app@sha256:{}", "a".repeat(64));
        for good in [
            "app",
            "app:1",
            "a/b/c",
            "localhost:5000/app",
            "reg.example/team/app_x:v1.2-3",
            "a__b",
            "a--b",
            "Host/app",
            &digest,
            "[::1]:5000/app",
            "localhost/skiff/pause:1",
        ] {
            assert!(is_valid(good), "{good}");
        }
        let identifier = "0".repeat(64);
        for bad in [
            "",
            "App",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:b:c",
            "a b",
            "a@sha256:xyz",
            "-a",
            "a___b",
            "a..b",
            "host:x/app",
            "a:-tag",
            "UPPER/Case",
            &identifier,
            "http://reg/app",
            "app\n",
            "a@",
            "x:\u{e9}",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
