//! The steps between units.

use super::*;
use expect_test::expect;

#[test]
fn steps() {
    let seconds = [
        -5,
        -1,
        0,
        59,
        119,
        120,
        121,
        599,
        600,
        3 * HOUR - 1,
        3 * HOUR,
        3 * HOUR + 61,
        8 * HOUR,
        48 * HOUR,
        49 * HOUR,
        8 * DAY,
        800 * DAY,
        9 * YEAR,
    ];
    let lines: Vec<String> = seconds.iter().map(|s| human(*s)).collect();
    expect!["<invalid> 0s 0s 59s 119s 2m 2m1s 9m59s 10m 179m 3h 3h1m 8h 2d 2d1h 8d 2y70d 9y"]
        .assert_eq(&lines.join(" "));
}

#[test]
fn ages() {
    let now: Timestamp = "2024-01-01T00:01:00Z".parse().expect("is a time");
    assert_eq!(age(Some("2024-01-01T00:00:00Z"), now), "60s");
    assert_eq!(age(None, now), "<unknown>");
}
