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
    rules(options(), Options { allow: vec!["192.0.2.1/32".to_owned()], ..options() })
}

fn rules(root: Options, admin: Options) -> Routes {
    let mut all = table(&[], root);
    all.options.push(admin);
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

/// A program that reads paths in its own way.
#[derive(Clone, Copy, Debug)]
struct Reader {
    decodings: usize,
    cuts_parameters: Cut,
    takes_backslashes: bool,
    merges_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Never,
    BeforeDecoding,
    AfterDecoding,
}

impl Reader {
    fn all() -> impl Iterator<Item = Self> {
        let cuts = [Cut::Never, Cut::BeforeDecoding, Cut::AfterDecoding];
        (0..24 * 2).map(move |n| Self {
            decodings: n % 4,
            cuts_parameters: cuts[n / 4 % 3],
            takes_backslashes: n / 12 % 2 == 0,
            merges_first: n / 24 == 0,
        })
    }

    /// The names from the root on.
    fn read(self, path: &str) -> Vec<String> {
        let cut = |text: &str| text.split('/').map(|s| s.split(';').next().unwrap()).collect::<Vec<_>>().join("/");
        let mut text = path.to_owned();
        if self.cuts_parameters == Cut::BeforeDecoding {
            text = cut(&text);
        }
        for _ in 0..self.decodings {
            text = super::decode(&text, |_| true);
        }
        if self.takes_backslashes {
            text = text.replace('\\', "/");
        }
        if self.cuts_parameters == Cut::AfterDecoding {
            text = cut(&text);
        }
        let mut found: Vec<&str> = Vec::new();
        for segment in text.split('/').skip(1) {
            match segment {
                "" if self.merges_first => {}
                "." => {}
                ".." => drop(found.pop()),
                segment => found.push(segment),
            }
        }
        found.into_iter().map(str::to_owned).collect()
    }
}

/// Every path of so many parts.
fn paths() -> impl Iterator<Item = String> {
    const PARTS: [&str; 12] = ["/", ".", "..", "%2e", "%2f", "%5C", ";", "%3b", "admin", "%61dmin", "%252f", "%252e"];
    const LENGTH: u32 = 4;
    (0..PARTS.len().pow(LENGTH)).map(|number| {
        let parts = (0..LENGTH).map(|at| PARTS[number / PARTS.len().pow(at) % PARTS.len()]);
        ["/"].into_iter().chain(parts).collect()
    })
}

/// Those that everybody may ask for, as they are forwarded, fulfil this for every reader.
fn check_open(routes: &Routes, is_right: impl Fn(&[String]) -> bool) {
    let mut open = 0;
    for path in paths() {
        let Ok(Some(found)) = routes.find("a.example", &path) else { continue };
        if found.route.options.plain.allow.is_empty() {
            open += 1;
            for reader in Reader::all() {
                let read = reader.read(&found.path);
                assert!(is_right(&read), "{path} is forwarded as {} and read as {read:?} by {reader:?}", found.path);
            }
        }
    }
    assert!(open > 200, "only {open} paths pass");
}

#[test]
fn no_reader_finds_what_is_protected() {
    check_open(&routes(), |read| read.iter().find(|segment| !segment.is_empty()).is_none_or(|first| first != "admin"));
}

/// The same where only `/admin` is open.
#[test]
fn no_reader_leaves_what_is_open() {
    let nobody = Options { allow: vec!["192.0.2.1/32".to_owned()], ..options() };
    check_open(&rules(nobody, options()), |read| read.first().is_some_and(|first| first == "admin"));
}
