//! Paths on the wire: what a backend gets of them.

use super::backend::Backend;
use super::{Running, options, status, table};
use crate::table::{Options, Path};

#[test]
fn a_backend_gets_the_path_that_was_routed_by() {
    let backend = Backend::echo();
    let mut all = table(&[backend.address], options());
    all.options.push(Options { allow: vec!["192.0.2.1/32".to_owned()], ..options() });
    let protected = Path { path: "/admin".to_owned(), options: 1, ..all.hosts[0].paths[0].clone() };
    all.hosts[0].paths.insert(0, protected);
    let running = Running::start(all);
    for path in ["/%61dmin", "//admin", "/x/../admin", "/x/%2e%2e/admin", "http://a.example//admin"] {
        assert_eq!(status(&running.get(path)), 403, "{path}");
    }
    for path in ["/x%2f..%2fadmin", "/admin;x", "/x\\..\\admin", "/%00", "/%", "/.."] {
        assert_eq!(status(&running.get(path)), 400, "{path}");
    }
    assert_eq!(backend.count(), 0);
    for (path, forwarded) in [("/a/../b?c=/../d", "/b?c=/../d"), ("/%7E/a%2Fb//c?%61", "/~/a%2Fb//c?%61")] {
        assert_eq!(status(&running.get(path)), 200, "{path}");
        assert!(backend.last().head.starts_with(&format!("GET {forwarded} HTTP/1.1\r\n")), "{}", backend.last().head);
    }
}
