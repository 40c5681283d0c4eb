//! What every backend must do, as tests over the trait. A backend's own tests call [`run`] with a fresh store.

use bytes::Bytes;

use crate::{Change, Error, Expect, ListOptions, Store, VALUE_BYTES_MAX, Watch, Write};

/// Runs the whole suite on an empty store; panics at the first difference.
pub async fn run<S: Store>(store: &S) {
    create_and_read(store).await;
    a_refusal_can_be_looked_up(store).await;
    compare_and_swap(store).await;
    delete(store).await;
    writes_happen_together(store).await;
    of_two_that_claim_one_key_one_fails_whole(store).await;
    revisions_grow(store).await;
    lists_page_at_one_revision(store).await;
    watch_sees_every_change_in_order(store).await;
    watch_resumes(store).await;
    a_future_revision_is_refused(store).await;
    a_large_value_is_refused(store).await;
}

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn create_and_read<S: Store>(store: &S) {
    assert_eq!(store.get("/create/a").await, Ok(None));
    let entry = store.put("/create/a", value("1"), Expect::Absent).await.expect("a new key is created");
    assert_eq!(entry.created, entry.modified);
    assert_eq!(store.get("/create/a").await, Ok(Some(entry)));
    let again = store.put("/create/a", value("2"), Expect::Absent).await;
    assert_eq!(again, Err(Error::Exists { key: "/create/a".to_owned() }));
}

/// A write that is refused for another one finds that other one when it looks.
async fn a_refusal_can_be_looked_up<S: Store>(store: &S) {
    for n in 0..100 {
        let key = format!("/contract/race/{n}");
        let put = || store.put(&key, value("x"), Expect::Absent);
        let (one, two) = tokio::join!(put(), async {
            let refused = put().await;
            (refused, store.get(&key).await.expect("read"))
        });
        let (second, seen) = two;
        assert!(one.is_ok() != second.is_ok(), "one of them made it");
        assert!(seen.is_some(), "{key}");
    }
}

async fn compare_and_swap<S: Store>(store: &S) {
    let missing = store.put("/swap/a", value("1"), Expect::At(1)).await;
    assert_eq!(missing, Err(Error::NotFound { key: "/swap/a".to_owned() }));
    let first = store.put("/swap/a", value("1"), Expect::Absent).await.expect("created");
    let second = store.put("/swap/a", value("2"), Expect::At(first.modified)).await.expect("swapped");
    assert_eq!(second.created, first.created);
    assert!(second.modified > first.modified);
    let stale = store.put("/swap/a", value("3"), Expect::At(first.modified)).await;
    let conflict = Error::Conflict { key: "/swap/a".to_owned(), expected: first.modified, actual: second.modified };
    assert_eq!(stale, Err(conflict.clone()));
    assert_eq!(store.delete("/swap/a", first.modified).await, Err(conflict));
    assert_eq!(store.get("/swap/a").await, Ok(Some(second)));
}

async fn delete<S: Store>(store: &S) {
    assert_eq!(store.delete("/delete/a", 1).await, Err(Error::NotFound { key: "/delete/a".to_owned() }));
    let entry = store.put("/delete/a", value("1"), Expect::Absent).await.expect("created");
    let (deleted, revision) = store.delete("/delete/a", entry.modified).await.expect("deleted");
    assert_eq!(deleted, entry);
    assert!(revision > entry.modified);
    assert_eq!(store.get("/delete/a").await, Ok(None));
    let again = store.put("/delete/a", value("2"), Expect::Absent).await.expect("created again");
    assert!(again.created > revision);
}

async fn writes_happen_together<S: Store>(store: &S) {
    let old = store.put("/together/old", value("1"), Expect::Absent).await.expect("created");
    let guard = store.put("/together/guard", value("1"), Expect::Absent).await.expect("created");
    let check = |modified| Write::Check { key: "/together/guard".into(), expect: Expect::At(modified) };
    let writes = |modified| {
        vec![
            check(modified),
            Write::put("/together/new", value("2"), Expect::Absent),
            Write::delete("/together/old", old.modified),
        ]
    };
    let refused = store.commit(writes(guard.modified + 1)).await;
    assert!(matches!(&refused, Err(Error::Conflict { key, .. }) if key == "/together/guard"), "{refused:?}");
    assert_eq!(store.get("/together/new").await, Ok(None), "nothing of it happened");
    assert_eq!(store.get("/together/old").await, Ok(Some(old.clone())));
    let mut watch = store.watch("/together/", store.revision()).await.expect("watch");
    let changes = store.commit(writes(guard.modified)).await.expect("the guard holds");
    assert_eq!(changes.iter().map(Change::key).collect::<Vec<_>>(), ["/together/new", "/together/old"]);
    assert_eq!(collect(&mut watch, 2).await, changes);
    assert_eq!(store.get("/together/old").await, Ok(None));
    let absent = vec![Write::Check { key: "/together/guard".into(), expect: Expect::Absent }];
    assert!(matches!(store.commit(absent).await, Err(Error::Exists { .. })));
}

async fn of_two_that_claim_one_key_one_fails_whole<S: Store>(store: &S) {
    for n in 0..100 {
        let claim = |by: &'static str| {
            store.commit(vec![
                Write::put(&format!("/claim/{n}/{by}"), value(by), Expect::Absent),
                Write::put(&format!("/claim/{n}/address"), value(by), Expect::Absent),
            ])
        };
        let (one, two) = tokio::join!(claim("one"), claim("two"));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        let page = store.list(&format!("/claim/{n}/"), ListOptions::default()).await.expect("list");
        assert_eq!(page.entries.len(), 2, "the other left nothing");
    }
}

async fn revisions_grow<S: Store>(store: &S) {
    let mut newest = store.revision();
    for n in 0..10 {
        let entry = store.put(&format!("/grow/{n}"), value("x"), Expect::Absent).await.expect("created");
        assert!(entry.modified > newest);
        newest = entry.modified;
        assert!(store.revision() >= newest);
    }
}

async fn lists_page_at_one_revision<S: Store>(store: &S) {
    for name in ["a", "b", "c", "d", "e"] {
        store.put(&format!("/page/{name}"), value(name), Expect::Absent).await.expect("created");
    }
    // A neighbour that shares the letters but not the folder.
    store.put("/pages/x", value("x"), Expect::Absent).await.expect("created");
    let options = ListOptions { limit: Some(2), ..ListOptions::default() };
    let first = store.list("/page/", options).await.expect("first page");
    let keys = |page: &crate::Page| page.entries.iter().map(|e| e.key.to_string()).collect::<Vec<_>>();
    assert_eq!(keys(&first), ["/page/a", "/page/b"]);
    assert_eq!(first.remaining, 3);

    let b = store.get("/page/b").await.expect("read").expect("there");
    store.delete("/page/b", b.modified).await.expect("deleted");
    let c = store.get("/page/c").await.expect("read").expect("there");
    store.put("/page/c", value("changed"), Expect::At(c.modified)).await.expect("changed");
    store.put("/page/bb", value("new"), Expect::Absent).await.expect("created");

    let options = ListOptions { at: Some(first.revision), after: Some("/page/b".to_owned()), limit: None };
    let rest = store.list("/page/", options).await.expect("second page");
    assert_eq!(keys(&rest), ["/page/c", "/page/d", "/page/e"]);
    assert_eq!(rest.entries[0].value, value("c"), "the page is of the first page's revision");
    assert_eq!((rest.revision, rest.remaining), (first.revision, 0));
    let now = store.list("/page/", ListOptions::default()).await.expect("list");
    assert_eq!(keys(&now), ["/page/a", "/page/bb", "/page/c", "/page/d", "/page/e"]);
}

async fn watch_sees_every_change_in_order<S: Store>(store: &S) {
    let mut watch = store.watch("/watch/", store.revision()).await.expect("watch");
    let first = store.put("/watch/a", value("1"), Expect::Absent).await.expect("created");
    store.put("/elsewhere/a", value("1"), Expect::Absent).await.expect("created");
    let second = store.put("/watch/a", value("2"), Expect::At(first.modified)).await.expect("changed");
    let (deleted, revision) = store.delete("/watch/a", second.modified).await.expect("deleted");
    let seen = collect(&mut watch, 3).await;
    assert_eq!(
        seen,
        [
            Change::Put { entry: first.clone(), previous: None },
            Change::Put { entry: second, previous: Some(first) },
            Change::Deleted { previous: deleted, revision },
        ]
    );
}

async fn watch_resumes<S: Store>(store: &S) {
    let first = store.put("/resume/a", value("1"), Expect::Absent).await.expect("created");
    let second = store.put("/resume/b", value("1"), Expect::Absent).await.expect("created");
    let mut watch = store.watch("/resume/", first.modified).await.expect("watch from the past");
    assert_eq!(collect(&mut watch, 1).await, [Change::Put { entry: second, previous: None }]);
}

async fn a_future_revision_is_refused<S: Store>(store: &S) {
    let wanted = store.revision() + 1_000_000_000;
    let result = store.list("/", ListOptions { at: Some(wanted), ..ListOptions::default() }).await;
    assert!(matches!(result, Err(Error::Future { .. })), "{result:?}");
    assert!(matches!(store.watch("/", wanted).await, Err(Error::Future { .. })));
}

async fn a_large_value_is_refused<S: Store>(store: &S) {
    let size_bytes = VALUE_BYTES_MAX + 1;
    let result = store.put("/large", Bytes::from(vec![0; size_bytes]), Expect::Absent).await;
    assert_eq!(result, Err(Error::TooLarge { size_bytes }));
    assert_eq!(store.get("/large").await, Ok(None));
}

async fn collect<W: Watch>(watch: &mut W, count: usize) -> Vec<Change> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let (changes, _) = watch.next().await.expect("the watch goes on");
        seen.extend(changes);
    }
    seen
}
