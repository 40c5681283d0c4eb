//! What the box answers itself: errors, redirects, challenges, and the page of its CA.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};

use super::body::ResponseBody;
use super::request::Refusal;
use crate::table::Own;

pub type Answer = Response<ResponseBody>;

const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";
/// What `skiff ingress check` asks for: answered with a word that only this box knows.
pub const CHECK_PATH: &str = "/.well-known/acme-challenge/skiff-check";

fn with(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(ResponseBody::Own(Some(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// One sentence for a person, plain enough for a program.
pub fn error(status: StatusCode, reason: &str) -> Answer {
    let text = format!("{} {}: {reason}\n", status.as_u16(), status.canonical_reason().unwrap_or("Error"));
    let mut answer = with(status, "text/plain; charset=utf-8", text);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

pub fn refusal(refusal: Refusal) -> Answer {
    error(refusal.0, refusal.1)
}

pub fn too_many(seconds: u64) -> Answer {
    let mut answer = error(StatusCode::TOO_MANY_REQUESTS, "more requests than this application allows");
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    answer
}

/// 308 keeps the method and the body.
pub fn redirect_to_https(host: &str, port: u16, path_and_query: &str) -> Answer {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let location = match port {
        443 => format!("https://{host}{path_and_query}"),
        port => format!("https://{host}:{port}{path_and_query}"),
    };
    redirect(StatusCode::PERMANENT_REDIRECT, &location)
}

pub fn redirect(status: StatusCode, location: &str) -> Answer {
    let mut answer = Response::new(ResponseBody::Empty);
    *answer.status_mut() = status;
    match HeaderValue::from_str(location) {
        Ok(location) => drop(answer.headers_mut().insert(LOCATION, location)),
        Err(_) => return error(StatusCode::BAD_REQUEST, "the address cannot be redirected"),
    }
    answer
}

/// RFC 8555, 8.3: answers that a CA comes for, and our own test of the way to here.
pub fn challenge(path: &str, token_answer: impl Fn(&str) -> Option<String>, own: &Own) -> Option<Answer> {
    let token = path.strip_prefix(CHALLENGE_PATH)?;
    let text = match token_answer(token) {
        Some(answer) => answer,
        None if path == CHECK_PATH && !own.check_token.is_empty() => own.check_token.clone(),
        None => return None,
    };
    Some(with(StatusCode::OK, "application/octet-stream", text))
}

/// `http://BOX/ca`: the box CA's certificate in every form, and what it is.
pub fn box_ca(host: &str, path: &str, own: &Own) -> Option<Answer> {
    if own.ca_pem.is_empty() || !(path == "/ca" || path.starts_with("/ca/") || path.starts_with("/ca.")) {
        return None;
    }
    if !own.names.iter().any(|name| name == host) {
        return None;
    }
    let file = |content_type, name: &str, body: Bytes| {
        let mut answer = with(StatusCode::OK, content_type, body);
        let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
        if let Ok(disposition) = disposition {
            answer.headers_mut().insert(CONTENT_DISPOSITION, disposition);
        }
        answer
    };
    Some(match path {
        "/ca" | "/ca/" => with(StatusCode::OK, "text/html; charset=utf-8", page(host)),
        "/ca.pem" => file("application/x-pem-file", "box-ca.pem", own.ca_pem.clone().into()),
        "/ca.crt" | "/ca.der" => file("application/x-x509-ca-cert", "box-ca.crt", der(&own.ca_pem)),
        "/ca.mobileconfig" => {
            file("application/x-apple-aspen-config", "box-ca.mobileconfig", own.ca_profile.clone().into())
        }
        _ => error(StatusCode::NOT_FOUND, "there is /ca, /ca.pem, /ca.crt and /ca.mobileconfig"),
    })
}

fn der(pem: &str) -> Bytes {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).map(|der| Bytes::copy_from_slice(&der)).unwrap_or_default()
}

fn page(host: &str) -> String {
    include_str!("ca.html").replace("{{host}}", host)
}
