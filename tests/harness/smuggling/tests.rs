//! The corpus against proxies that are known, and against one that forwards everything: it has to tell them apart.

use std::net::{TcpListener, TcpStream};

use crate::addresses::LOCALHOST;
use crate::certificate::Certificate;

use super::{HOST, Outcome, Recorder, Verdict, http2, peers, run_corpus, table};

fn lax(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|o| matches!(o.verdict, Verdict::TooLax(_))).count()
}

/// Also what the integration test prints, for the proxies that are here.
#[test]
fn known_proxies_are_mostly_safe() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::create(HOST, dir.path()).unwrap();
    let mut columns = Vec::new();
    for (name, start) in [("nginx", peers::nginx as fn(_, _) -> _), ("haproxy", peers::haproxy)] {
        let recorder = Recorder::start(LOCALHOST).unwrap();
        match start(recorder.port(), Some(&certificate)).unwrap() {
            Some(peer) => {
                let mut outcomes = run_corpus(peer.http, HOST, &recorder);
                outcomes.extend(http2::run_corpus(peer.https, peer.http, HOST, &recorder));
                columns.push((name, outcomes));
            }
            None => println!("{name} is not installed"),
        }
    }
    let shown: Vec<(&str, &[Outcome])> = columns.iter().map(|(name, outcomes)| (*name, &outcomes[..])).collect();
    println!("{}", table(&shown));
    for (name, outcomes) in &columns {
        let (lax, all) = (lax(outcomes), outcomes.len());
        assert!(lax * 4 < all, "{name} is lax in {lax} of {all}");
        for (case, verdict) in outcomes.iter().map(|o| (o.case, &o.verdict)) {
            let vital = [
                "length: plain",
                "coding: chunked",
                "row: two",
                "length: twice, differing",
                "coding: TE.CL",
                "h2: plain",
                "h2: body",
            ];
            assert!(!vital.contains(&case) || *verdict == Verdict::Safe, "{name}: {case}: {verdict:?}");
        }
    }
}

/// What copies bytes has to fail: otherwise the cases show nothing.
#[test]
fn a_proxy_that_copies_bytes_is_found_out() {
    let recorder = Recorder::start(LOCALHOST).unwrap();
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let port = recorder.port();
    // Ends with the program: nothing connects any more.
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(backend) = TcpStream::connect((LOCALHOST, port)) else { return };
            let copy = |mut from: TcpStream, mut to: TcpStream| {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                })
            };
            copy(client.try_clone().unwrap(), backend.try_clone().unwrap());
            copy(backend, client);
        }
    });
    let outcomes = run_corpus(address, HOST, &recorder);
    let unsafe_cases = lax(&outcomes);
    assert!(unsafe_cases * 2 > outcomes.len(), "{unsafe_cases} of {}", outcomes.len());
}
