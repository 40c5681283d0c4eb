//! What a CA's refusal means, in one sentence that the owner of the name understands. Pure.

use instant_acme::Problem;

use crate::config::Challenge;

/// What was tried when the CA refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) directory: &'a str,
    /// The name that was to be proved; `None` where the CA refused the whole order.
    pub(crate) name: Option<&'a str>,
    /// The only name of the order, if it has but one: what the CA refuses as a whole may be about it.
    pub(crate) only_name: Option<&'a str>,
    pub(crate) challenge: Challenge,
}

/// Which attempts a sentence is for.
enum For {
    Any,
    Only(Challenge),
}

const PREFIX: &str = "urn:ietf:params:acme:error:";

/// The first row that fits is taken. `{name}`, `{ca}` and `{detail}` are filled in.
/// The types are those of RFC 8555, 6.7, RFC 9773 and the profiles draft.
#[rustfmt::skip]
const SENTENCES: &[(&str, For, &str)] = &[
    ("connection", For::Only(Challenge::Http01), "the CA could not reach port 80 of {name}; check that its address is this network's and that the router forwards port 80: {detail}"),
    ("connection", For::Only(Challenge::TlsAlpn01), "the CA could not reach port 443 of {name}; check that its address is this network's and that the router forwards port 443: {detail}"),
    ("connection", For::Only(Challenge::Dns01), "the CA could not reach a name server of {name}: {detail}"),
    ("dns", For::Any, "the CA could not look up {name} in DNS; check that the name has a public address: {detail}"),
    ("unauthorized", For::Only(Challenge::Http01), "another server than this box answered the CA at port 80 of {name}: {detail}"),
    ("unauthorized", For::Only(Challenge::TlsAlpn01), "another server than this box answered the CA at port 443 of {name}: {detail}"),
    ("unauthorized", For::Only(Challenge::Dns01), "the CA did not find the TXT record at _acme-challenge.{name}; the name servers may need more time (propagation_seconds): {detail}"),
    ("incorrectResponse", For::Any, "another server than this box answered the CA for {name}: {detail}"),
    ("tls", For::Only(Challenge::TlsAlpn01), "the CA could not make a TLS connection to port 443 of {name}; something between may end TLS: {detail}"),
    ("tls", For::Any, "the CA could not make a TLS connection to {name}; port 80 may redirect to another server: {detail}"),
    ("caa", For::Any, "a CAA record in DNS forbids {ca} to issue for {name}: {detail}"),
    ("rateLimited", For::Any, "{ca} has a rate limit that is used up: {detail}"),
    ("rejectedIdentifier", For::Any, "{ca} does not issue certificates for {name}: {detail}"),
    ("unsupportedIdentifier", For::Any, "{ca} does not issue certificates for names like {name}: {detail}"),
    ("badCSR", For::Any, "{ca} refused the request for the certificate, perhaps for too many or too long names: {detail}"),
    ("externalAccountRequired", For::Any, "{ca} wants an account to be bound to a customer's; set the external account's key ID and key: {detail}"),
    ("userActionRequired", For::Any, "{ca} wants something done by a person first: {detail}"),
    ("accountDoesNotExist", For::Any, "{ca} does not know our account any more; a new one is made: {detail}"),
    ("invalidContact", For::Any, "{ca} does not accept the e-mail address of the account: {detail}"),
    ("unsupportedContact", For::Any, "{ca} does not accept the e-mail address of the account: {detail}"),
    ("badNonce", For::Any, "{ca} did not take our requests, as its servers do not agree with each other; this passes: {detail}"),
    ("badPublicKey", For::Any, "{ca} does not accept our kind of key: {detail}"),
    ("badSignatureAlgorithm", For::Any, "{ca} does not accept our kind of signature: {detail}"),
    ("orderNotReady", For::Any, "{ca} says that the names of the order are not proved yet: {detail}"),
    ("alreadyReplaced", For::Any, "{ca} says that the certificate was renewed already: {detail}"),
    ("invalidProfile", For::Any, "{ca} has no such profile for certificates: {detail}"),
    ("unauthorized", For::Any, "{ca} refused our account: {detail}"),
    ("serverInternal", For::Any, "{ca} is out of order: {detail}"),
    ("malformed", For::Any, "{ca} did not understand our request: {detail}"),
];

pub(crate) fn problem(problem: &Problem, attempt: Attempt<'_>) -> String {
    if let [only] = problem.subproblems.as_slice() {
        let name = only.identifier.as_ref().map(|i| i.authorized(false).to_string());
        let kind = only.r#type.as_deref().or(problem.r#type.as_deref());
        let detail = only.detail.as_deref().or(problem.detail.as_deref());
        return sentence(kind, detail, Attempt { name: name.as_deref().or(attempt.name), ..attempt });
    }
    sentence(problem.r#type.as_deref(), problem.detail.as_deref(), attempt)
}

fn sentence(kind: Option<&str>, detail: Option<&str>, attempt: Attempt<'_>) -> String {
    let kind = kind.unwrap_or_default();
    let kind = kind.strip_prefix(PREFIX).unwrap_or(kind);
    let fits = |row: &&(&str, For, &str)| {
        let attempted = match row.1 {
            For::Any => true,
            // A CA that could not connect has tried to prove a name, whatever it says that of.
            For::Only(challenge) => (attempt.name.is_some() || row.0 == "connection") && challenge == attempt.challenge,
        };
        row.0 == kind && attempted
    };
    let template = SENTENCES.iter().find(fits).map_or("{ca} refused: {detail}", |row| row.2);
    let detail = detail.map(str::trim).filter(|d| !d.is_empty()).unwrap_or(if kind.is_empty() {
        "it does not say why"
    } else {
        kind
    });
    let name = attempt.name.or(attempt.only_name).unwrap_or("these names");
    // The detail comes last, as it is not ours and may hold braces.
    template.replace("{name}", name).replace("{ca}", host(attempt.directory)).replace("{detail}", detail)
}

/// Any failure of the ACME library.
pub(crate) fn error(error: &instant_acme::Error, attempt: Attempt<'_>) -> String {
    use instant_acme::Error;
    let ca = host(attempt.directory);
    match error {
        Error::Api(refusal) => problem(refusal, attempt),
        Error::Json(_) => format!("{ca} answered something that is not ACME; check the directory's address"),
        Error::Timeout(_) => format!("{ca} took too long"),
        Error::Unsupported(what) => format!("{ca} does not support {what}"),
        // Our own HTTP client says whole sentences.
        Error::Other(other) => other.to_string(),
        other => format!("{ca}: {other}"),
    }
}

/// The part of an ACME error type that says what it is.
pub(crate) fn kind(error: &instant_acme::Error) -> Option<&str> {
    match error {
        instant_acme::Error::Api(problem) => problem.r#type.as_deref()?.strip_prefix(PREFIX),
        _ => None,
    }
}

/// A CA is called by its host name.
pub(crate) fn host(directory: &str) -> &str {
    let rest = directory.split_once("://").map_or(directory, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Attempt, SENTENCES, problem};
    use crate::config::Challenge;

    fn check(json: &str, name: Option<&str>, challenge: Challenge, expected: Expect) {
        let refusal = serde_json::from_str(json).unwrap();
        let attempt = Attempt { directory: "https://ca.example/dir", name, only_name: None, challenge };
        expected.assert_eq(&problem(&refusal, attempt));
    }

    #[test]
    fn an_order_of_one_name_that_fails_as_a_whole_is_about_that_name() {
        let json = r#"{"type":"urn:ietf:params:acme:error:connection","detail":"refused"}"#;
        let refusal = serde_json::from_str(json).unwrap();
        let directory = "https://ca.example/dir";
        let attempt = Attempt { directory, name: None, only_name: Some("example.org"), challenge: Challenge::Http01 };
        expect![
            "the CA could not reach port 80 of example.org; check that its address is this network's and that the router forwards port 80: refused"
        ]
        .assert_eq(&problem(&refusal, attempt));
    }

    #[test]
    fn a_port_that_is_not_reached_is_named() {
        let json = r#"{"type":"urn:ietf:params:acme:error:connection","detail":"192.0.2.1: Timeout during connect"}"#;
        check(
            json,
            Some("example.org"),
            Challenge::Http01,
            expect![
                "the CA could not reach port 80 of example.org; check that its address is this network's and that the router forwards port 80: 192.0.2.1: Timeout during connect"
            ],
        );
        check(
            json,
            Some("example.org"),
            Challenge::TlsAlpn01,
            expect![
                "the CA could not reach port 443 of example.org; check that its address is this network's and that the router forwards port 443: 192.0.2.1: Timeout during connect"
            ],
        );
        check(
            json,
            Some("example.org"),
            Challenge::Dns01,
            expect!["the CA could not reach a name server of example.org: 192.0.2.1: Timeout during connect"],
        );
    }

    #[test]
    fn a_refused_account_is_not_said_of_a_name() {
        let json = r#"{"type":"urn:ietf:params:acme:error:unauthorized","detail":"account is deactivated"}"#;
        check(json, None, Challenge::Http01, expect!["ca.example refused our account: account is deactivated"]);
    }

    #[test]
    fn a_subproblem_names_its_name() {
        let json = r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"some","subproblems":[{
            "type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"policy {name}",
            "identifier":{"type":"dns","value":"bad.example"}}]}"#;
        check(
            json,
            None,
            Challenge::Http01,
            expect!["ca.example does not issue certificates for bad.example: policy {name}"],
        );
    }

    #[test]
    fn what_is_unknown_is_quoted() {
        check(r#"{"type":"about:blank","detail":"no"}"#, None, Challenge::Http01, expect!["ca.example refused: no"]);
        check(r#"{"type":"urn:x"}"#, None, Challenge::Http01, expect!["ca.example refused: urn:x"]);
        check("{}", None, Challenge::Http01, expect!["ca.example refused: it does not say why"]);
    }

    #[test]
    fn each_sentence_ends_with_the_detail_and_can_be_taken() {
        for (index, (kind, _, sentence)) in SENTENCES.iter().enumerate() {
            assert!(sentence.ends_with("{detail}"), "{sentence}");
            let hidden = SENTENCES[..index].iter().any(|row| row.0 == *kind && matches!(row.1, super::For::Any));
            assert!(!hidden, "{sentence}");
        }
    }
}
