//! The code, its limits and sessions, under a clock of the test's own.

use super::*;

const HOST: &str = "skiff.local";

const WRONG: &str = "0000-0000";

fn client(last: u8) -> IpAddr {
    IpAddr::from([192, 168, 1, last])
}

fn id(answer: Answer) -> String {
    match answer {
        Answer::Right(id) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_code_is_good_once() {
    let now = Instant::now();
    let mut access = Access::new(now);
    let code = access.code().to_owned();
    let session = id(access.sign_in(client(1), HOST, &code.to_lowercase(), now));
    assert!(access.is_signed_in(&session, HOST, now));
    assert_ne!(access.code(), code);
    assert_eq!(access.sign_in(client(2), HOST, &code, now), Answer::Wrong { is_replaced: false });
}

#[test]
fn a_client_waits_longer_and_longer() {
    let mut now = Instant::now();
    let mut access = Access::new(now);
    for _ in 0..5 {
        assert_eq!(access.sign_in(client(1), HOST, WRONG, now), Answer::Wrong { is_replaced: false });
    }
    let mut waits = Vec::new();
    for _ in 0..12 {
        let Answer::Wait(wait) = access.sign_in(client(1), HOST, WRONG, now) else { panic!("no wait") };
        waits.push(wait.as_secs());
        now += wait;
        assert!(matches!(access.sign_in(client(1), HOST, WRONG, now), Answer::Wrong { .. }));
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]);
    // The right code does not get past the wait either; somebody else is not kept waiting.
    let code = access.code().to_owned();
    assert!(matches!(access.sign_in(client(1), HOST, &code, now), Answer::Wait(_)));
    id(access.sign_in(client(2), HOST, &code, now));
}

#[test]
fn a_network_of_clients_is_one_guesser() {
    let now = Instant::now();
    let mut access = Access::new(now);
    for n in 0..20 {
        assert_eq!(access.sign_in(client(n), HOST, WRONG, now), Answer::Wrong { is_replaced: false });
    }
    for n in 0..20 {
        assert_eq!(access.sign_in(client(n), HOST, WRONG, now), Answer::Wait(MINUTE));
    }
    // The owner is none of them.
    let code = access.code().to_owned();
    id(access.sign_in(client(200), HOST, &code, now));
    assert_eq!(access.sign_in(client(1), HOST, WRONG, now + MINUTE), Answer::Wrong { is_replaced: false });

    // Addresses of one IPv6 network are one client.
    let mut access = Access::new(now);
    for n in 0..5 {
        access.sign_in(IpAddr::from([0xfd00, 0, 0, 1, n, 0, 0, 7]), HOST, WRONG, now);
    }
    assert!(matches!(access.sign_in("fd00::1:9:9:9:9".parse().unwrap(), HOST, WRONG, now), Answer::Wait(_)));
    assert!(matches!(access.sign_in("fd00::2:9:9:9:9".parse().unwrap(), HOST, WRONG, now), Answer::Wrong { .. }));
}

#[test]
fn the_code_changes_when_it_is_guessed_at() {
    let mut now = Instant::now();
    let mut access = Access::new(now);
    let code = access.code().to_owned();
    for n in 1..=50_u8 {
        now += MINUTE;
        assert_eq!(access.sign_in(client(n), HOST, WRONG, now), Answer::Wrong { is_replaced: n == 50 });
    }
    assert_ne!(access.code(), code);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut now = Instant::now();
    let mut access = Access::new(now);
    for n in 0..3000_u32 {
        now += Duration::from_secs(4);
        access.sign_in(IpAddr::from(n.to_be_bytes()), HOST, WRONG, now);
    }
    assert_eq!(access.clients.len(), CLIENTS_MAX);
    now += FORGOTTEN_AFTER;
    access.sign_in(client(1), HOST, WRONG, now);
    assert_eq!(access.clients.len(), 1);
}

#[test]
fn sessions_end() {
    let mut now = Instant::now();
    let mut access = Access::new(now);
    let mut open = |now| {
        let code = access.code().to_owned();
        id(access.sign_in(client(1), HOST, &code, now))
    };
    let sessions: Vec<String> = (0..=SESSIONS_MAX)
        .map(|_| {
            now += MINUTE;
            open(now)
        })
        .collect();
    assert!(!access.is_signed_in(&sessions[0], HOST, now), "the oldest made room");
    assert!(access.is_signed_in(&sessions[1], HOST, now));
    access.sign_out(&sessions[1]);
    assert!(!access.is_signed_in(&sessions[1], HOST, now));
    let last = &sessions[SESSIONS_MAX];
    assert!(access.is_signed_in(last, HOST, now + SESSION_TIME - Duration::from_secs(1)));
    assert!(!access.is_signed_in(last, HOST, now + SESSION_TIME));
    for bad in ["", "x", &last[1..]] {
        assert!(!access.is_signed_in(bad, HOST, now));
    }
}
