//! The corpus against a rule for `/` that lets everybody pass and one for `/admin` that does not.

use expect_test::expect;

use super::super::tests::{options, table};
use super::super::{certificates::Certificates, routes::Routes};
use super::{Target, read};
use crate::table::{Options, Path};

/// Each line that is no comment: the path and what becomes of it.
fn corpus() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("corpus.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(" -> ").expect("PATH -> RESULT"))
}

fn routes() -> Routes {
    let mut all = table(&[], options());
    all.options.push(Options { allow: vec!["192.0.2.1/32".to_owned()], ..options() });
    let protected = Path { path: "/admin".to_owned(), options: 1, ..all.hosts[0].paths[0].clone() };
    all.hosts[0].paths.insert(0, protected);
    Routes::new(all, Certificates::default(), &Routes::default(), |_| std::sync::Arc::default())
}

#[test]
fn every_path_of_the_corpus_is_protected_or_refused() {
    let routes = routes();
    for (path, expected) in corpus() {
        let path = path.split('?').next().unwrap();
        let found = match routes.find("a.example", path) {
            Ok(Some(found)) if found.route.options.plain.allow.is_empty() => format!("open {}", found.path),
            Ok(Some(found)) => format!("admin {}", found.path),
            Ok(None) => "nothing".to_owned(),
            Err(refusal) => refusal.1.to_owned(),
        };
        let reason = match expected {
            "two readings" => "the request's path is not read by all in the same way",
            "dots" => "the request's path has dot segments that are not read by all in the same way",
            "control" => "the request's path has an encoded control character",
            "percent" => "the request's path has a percent sign without two digits",
            "UTF-8" => "the request's path is not valid UTF-8",
            "above" => "the request's path leads above its root",
            found => found,
        };
        assert_eq!(found, reason, "{path}");
    }
}

/// What is forwarded is read the same again: whoever is behind comes to the same rule.
#[test]
fn the_normal_form_is_its_own() {
    for (path, _) in corpus() {
        let Ok(Target { key, normal, .. }) = read(path.split('?').next().unwrap()) else { continue };
        let again = read(&normal).unwrap();
        assert_eq!((again.key, again.normal), (key, normal.clone()), "{path}");
    }
}

#[test]
fn other_readings() {
    let others = |path: &str| read(path).unwrap().others.join(" ");
    assert_eq!(others("/a/b.html"), "");
    assert_eq!(others("/a%20b"), "");
    expect!["/a /a;/b /a/b"].assert_eq(&others("/a;%2Fb"));
}

#[test]
fn rules_are_compared_as_requests_are() {
    assert_eq!(super::of_rule("/%61b%C3%a9/é/%40"), "/ab%C3%A9/%C3%A9/@");
    assert_eq!(super::of_rule("/x/%"), "/x/%");
}
