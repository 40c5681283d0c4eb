//! Expressions by example, and their bound.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::custom::Schema;

fn eval(source: &str, object: &Value) -> Result<String, String> {
    let program = Program::compile(source, &["self", "oldSelf"]).map_err(|error| error.to_string())?;
    let schema = Schema::read(&json!({"type": "object", "properties": {
        "at": {"type": "string", "format": "date-time"}, "half": {"type": "number"},
        "a-b": {"type": "string"}, "namespace": {"type": "string"}}}));
    let variables = [("self", Val::of(object, Some(&schema)))];
    let mut budget = BUDGET;
    program.evaluate(&variables, &mut budget).map(|value| value.show()).map_err(|error| error.to_string())
}

#[test]
fn expressions_have_the_values_of_the_language() {
    let object = json!({"n": 3, "half": 1, "name": "web-1", "list": [3, 1, 2], "map": {"x.y": "z", "k": "v"}, "a-b": "c",
        "items": [{"name": "a", "v": 1}, {"name": "b", "v": 2}], "at": "2026-03-01T10:00:00Z", "none": null, "namespace": "ns"});
    for (source, value) in [
        ("1 + 2 * 3", "7"),
        ("self.n > 2 && self.name.startsWith('web')", "true"),
        ("has(self.missing) || self.n == 3", "true"),
        ("has(self.none)", "false"),
        ("self.missing == 1 || true", "true"),
        ("self.list.all(x, x > 0) && self.list.exists(x, x == 2) && self.list.exists_one(x, x == 3)", "true"),
        ("self.list.map(x, x * 2)", "[6, 2, 4]"),
        ("self.list.filter(x, x > 1).size()", "2"),
        ("self.list.map(x, x > 1, x + 1)", "[4, 3]"),
        ("self.items.map(i, i.name).join('-')", "a-b"),
        ("self.list.isSorted() || self.list.max() == 3 && self.list.min() == 1 && self.list.sum() == 6", "true"),
        ("'x.y' in self.map && self.map['k'] == 'v' && !('q' in self.map)", "true"),
        ("self.map.all(k, self.map[k].size() == 1)", "true"),
        ("self.a__dash__b + self.__namespace__", "cns"),
        ("self.name.matches('^[a-z]+-[0-9]$') ? 'y' : 'n'", "y"),
        ("self.name.split('-')[1] + self.name.substring(0, 2) + self.name.upperAscii()", "1weWEB-1"),
        ("self.list.all(i, v, i <= v) && !self.list.exists(i, v, i > v)", "true"),
        ("self.map.exists(k, v, k == 'k' && v == 'v') && self.map.existsOne(k, v, v == 'z')", "true"),
        ("self.list.transformList(i, v, i + v)", "[3, 2, 4]"),
        ("self.list.transformList(i, v, v > 1, [i, v].map(x, x * 2))", "[[0, 6], [4, 4]]"),
        ("self.map.transformMap(k, v, k == 'k', v + '!') == {'k': 'v!'}", "true"),
        ("self.list.transformMap(i, v, v).size() == 3 && self.list.transformMap(i, v, v)[2] == 2", "true"),
        ("self.half == 1.0 && self.half / 2.0 == 0.5", "true"),
        ("self.at < timestamp('2026-03-02T00:00:00Z') && self.at.getHours() == 10", "true"),
        ("duration('90m') > duration('1h') && duration('90m').getMinutes() == 90", "true"),
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && isQuantity('1x') == false", "true"),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && ip('::1').family() == 6 && !isIP('x')", "true"),
        ("sets.contains([1, 2, 3], [3]) && !sets.intersects([1], [2])", "true"),
        ("self.?missing.orValue(7) + self.?n.orValue(0)", "10"),
        ("type(1) == int && string(1) == '1' && int('2') == 2 && double(1) == 1.0", "true"),
        ("[1, 2] + [3] == [1, 2, 3] && {'a': 1} == {'a': 1}", "true"),
        ("1 == 1.0 && 1u < 2 && b'a' == b'a'", "true"),
        ("'%s is %d'.format(['n', 3])", "n is 3"),
        ("dyn(1) == 'a'", "false"),
    ] {
        assert_eq!(eval(source, &object), Ok(value.to_owned()), "{source}");
    }
}

#[test]
fn what_has_no_value_says_why() {
    let object = json!({"n": 1, "list": []});
    for (source, why) in [
        ("self.missing > 1", "no such key: missing"),
        ("self.list[0]", "index out of bounds: 0"),
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("'a' < 1", "no such overload: string and int"),
        ("nobody.x", "compilation failed: undeclared reference to 'nobody' (in container '')"),
        ("'('.matches('(')", "error parsing regexp: \"(\""),
    ] {
        assert_eq!(eval(source, &object), Err(why.to_owned()), "{source}");
    }
    for wrong in ["1 +", "self.", "", "(((", "self.list.all(x)"] {
        assert!(Program::compile(wrong, &["self"]).is_err(), "{wrong}");
    }
}

#[test]
fn no_expression_takes_longer_than_its_budget() {
    let object = json!({"list": (0..2000).collect::<Vec<_>>(), "text": "a".repeat(100_000)});
    let cost = Err("operation cancelled: actual cost limit exceeded".to_owned());
    let all = "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c >= 0)))";
    assert_eq!(eval(all, &object), cost);
    assert_eq!(eval("self.list.all(x, self.text.matches('^(a+)+$'))", &object), cost);
    assert_eq!(eval("self.list.map(x, self.text).size() > 0", &object), Ok("true".to_owned()));
    assert_eq!(eval("self.list.all(x, self.list == self.list)", &object), cost);
    let four = "self.list.all(a, self.list.all(b, self.list.all(c, self.list.all(d, true))))";
    assert!(matches!(Program::compile(four, &["self"]).map(drop), Err(CompileError::Cost)));
    let doubled = (0..40).fold("'aaaaaaaa'".to_owned(), |text, _| format!("{text}.replace('a', 'aa')"));
    assert!(eval(&doubled, &object).is_err());
    for part in ["(", "[", "!", "-", "1+", "self.a.", "true ? 1 : ", "{'a':", "1 == ", "a && ", "[0][", "size("] {
        for count in [100, 1300, 3900, 30_000] {
            let _ = eval(&part.repeat(count), &object);
            let _ = eval(&format!("{}1", part.repeat(count)), &object);
        }
    }
    let _ = eval(&format!("self{}", ".a".repeat(3900)), &object);
}

/// Lists that share their items are as large as what they hold, whoever walks them.
#[test]
fn what_is_shared_is_paid_for_as_often_as_it_is_walked() {
    let mut grown = "[1]".to_owned();
    for n in 0..14 {
        let ten = vec![format!("v{n}"); 10].join(",");
        grown = format!("{grown}.map(v{n}, [{ten}])");
    }
    let cost = Err("operation cancelled: actual cost limit exceeded".to_owned());
    let many = json!({"a": (0..20_000).collect::<Vec<_>>(), "b": (20_000..40_000).collect::<Vec<_>>()});
    for source in [
        format!("{grown}.all(v, v == v)"),
        format!("{grown}.join(',') == ''"),
        format!("'%s'.format([{grown}]) == ''"),
        "self.a.distinct().size() > 0".to_owned(),
        "sets.intersects(self.a, self.b)".to_owned(),
        "self.a.all(x, [self.b] == [self.b])".to_owned(),
    ] {
        assert_eq!(eval(&source, &many), cost, "{source}");
    }
    assert_eq!(eval("self.a.all(x, string(x).matches('^[0-9]+$'))", &many), Ok("true".to_owned()));
    assert_eq!(eval("self.a[19999] == 19999", &many), Ok("true".to_owned()));
}

proptest! {
    #[test]
    fn nothing_panics(source in "[a-z0-9().,+*/%<>=!&|?:'\\[\\] {}-]{0,60}") {
        let _ = eval(&source, &json!({"a": [1, "x", null], "b": {"c": 1.5}}));
    }
}
