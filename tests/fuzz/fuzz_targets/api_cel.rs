//! An expression and what it is about. Lines: the object, the one before, the expression, which may have more of them.
#![no_main]

use skiff_fuzz as shared;
use skiff_object::cel::{BUDGET, Program, Val};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some([new, old, source]) = shared::lines(input) else { return };
    let Ok(source) = std::str::from_utf8(source) else { return };
    let Ok(program) = Program::compile(source, &["self", "oldSelf"]) else { return };
    let _ = program.uses("oldSelf");
    let (new, old) = (shared::value(new).unwrap_or_default(), shared::value(old).unwrap_or_default());
    let variables = [("self", Val::of(&new, None)), ("oldSelf", Val::of(&old, None))];
    let evaluate = || {
        let mut budget = BUDGET;
        let value = program.evaluate(&variables, &mut budget).map(|value| value.show());
        (value, budget)
    };
    let (first, second) = (evaluate(), evaluate());
    assert_eq!(first.0, second.0, "the same each time");
    assert!(first.1 <= second.1, "a pattern is read once");
});
