//! Canonical forms as apimachinery writes them, and the laws of exact arithmetic.

use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;

fn check(inputs: &[&str], expected: Expect) {
    let lines: Vec<String> = inputs
        .iter()
        .map(|input| match Quantity::parse(input) {
            Ok(quantity) => {
                format!("{input} = {quantity}, value {}, milli {}", quantity.value(), quantity.milli_value())
            }
            Err(error) => format!("{input}: {error}"),
        })
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn canonical() {
    check(
        &[
            "0",
            "0Ki",
            "1",
            "1.5",
            "1000m",
            "0.1",
            "100m",
            "1500",
            "1024",
            "1024Ki",
            "1.5Gi",
            "1000Ki",
            "0.5Ki",
            "0.0001Ki",
            "12e6",
            "1E",
            "1e3",
            "1E3",
            "1e-3",
            "-1.5",
            "+5",
            "1.",
            ".5",
            "100000",
            "1Mi",
            "1e100",
            "0.1n",
            "1e-30",
            "9223372036854775807",
            "99999999999999999999999999999999999999999999",
            "1.2345678999",
            "1.23456789012345678901234567890",
        ],
        expect![[r#"
            0 = 0, value 0, milli 0
            0Ki = 0, value 0, milli 0
            1 = 1, value 1, milli 1000
            1.5 = 1500m, value 2, milli 1500
            1000m = 1, value 1, milli 1000
            0.1 = 100m, value 1, milli 100
            100m = 100m, value 1, milli 100
            1500 = 1500, value 1500, milli 1500000
            1024 = 1024, value 1024, milli 1024000
            1024Ki = 1Mi, value 1048576, milli 1048576000
            1.5Gi = 1536Mi, value 1610612736, milli 1610612736000
            1000Ki = 1000Ki, value 1024000, milli 1024000000
            0.5Ki = 512, value 512, milli 512000
            0.0001Ki = 102400u, value 1, milli 103
            12e6 = 12e6, value 12000000, milli 12000000000
            1E = 1E, value 1000000000000000000, milli 9223372036854775807
            1e3 = 1e3, value 1000, milli 1000000
            1E3 = 1e3, value 1000, milli 1000000
            1e-3 = 1e-3, value 1, milli 1
            -1.5 = -1500m, value -1, milli -1500
            +5 = 5, value 5, milli 5000
            1. = 1, value 1, milli 1000
            .5 = 500m, value 1, milli 500
            100000 = 100k, value 100000, milli 100000000
            1Mi = 1Mi, value 1048576, milli 1048576000
            1e100 = 9223372036854775807, value 9223372036854775807, milli 9223372036854775807
            0.1n = 1n, value 1, milli 1
            1e-30 = 1e-9, value 1, milli 1
            9223372036854775807 = 9223372036854775807, value 9223372036854775807, milli 9223372036854775807
            99999999999999999999999999999999999999999999 = 9223372036854775807, value 9223372036854775807, milli 9223372036854775807
            1.2345678999 = 1234567900n, value 2, milli 1235
            1.23456789012345678901234567890 = 1234567891n, value 2, milli 1235"#]],
    );
}

#[test]
fn refused() {
    check(
        &["", "a", "1x", "1kk", "1.1.1", "1 ", " 1", "--1", "1Ki2", "1e", "e3", ".", "1K", "1é"],
        expect![[r#"
            : quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            a: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            1x: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            1kk: unable to parse quantity's suffix
            1.1.1: unable to parse numeric part of quantity
            1 : quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
             1: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            --1: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            1Ki2: unable to parse quantity's suffix
            1e: unable to parse quantity's suffix
            e3: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            .: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            1K: unable to parse quantity's suffix
            1é: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#]],
    );
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,40}") {
        let _ = Quantity::parse(&text).map(|q| q.to_string());
    }

    #[test]
    fn canonical_form_is_a_fixed_point(text in "[+-]?[0-9]{1,25}(\\.[0-9]{0,15})?(m|n|u|k|M|G|T|P|E|Ki|Mi|Gi|Ti|e[0-9]{1,2}|e-[0-9]{1,2})?") {
        let quantity = Quantity::parse(&text).expect("is well formed");
        let canonical = quantity.to_string();
        let again = Quantity::parse(&canonical).expect("canonical forms parse");
        prop_assert_eq!(again.to_string(), canonical);
        if quantity.format() != Format::BinarySi {
            prop_assert_eq!(again, quantity);
        }
    }

    #[test]
    fn sub_undoes_add(a in -1_000_000_000_000_i64..1_000_000_000_000, b in -1_000_000_000_000_i64..1_000_000_000_000) {
        let (a, b) = (Quantity::from_milli(a, Format::DecimalSi), Quantity::from_milli(b, Format::BinarySi));
        prop_assert_eq!((a + b) - b, a);
        prop_assert_eq!((a + b) > a, b > Quantity::ZERO);
    }
}
