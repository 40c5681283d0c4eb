//! Objects of every kind, made from a number by the table of types, for tests of both directions.
//!
//! Only what protobuf carries is in them: no field without a number, and no zero where Go cannot tell it from nothing.
//! `tests/schemagen` takes this file in, too; whoever does says where the types are.

use serde_json::{Map, Value, json};

use super::{Kind, Named, Ty};

/// Deeper there is only what has to be.
const DEPTH_MAX: usize = 7;

const TEXTS: &[&str] = &[
    "a",
    "web",
    "kube-system",
    "ünïcödé \u{1F680}",
    "a text that is longer than one byte of length \
    can say, because lengths of up to 127 fit into a byte, and those beyond need another: this has more than that",
];
const INTEGERS: &[i64] = &[1, 80, 127, 128, 300, -1, 2_147_483_647, -2_147_483_648];
const QUANTITIES: &[&str] = &["100m", "1", "1Gi", "1500m", "2k", "64Mi", "-1"];
const TIMES: &[&str] = &["2026-01-04T13:52:00Z", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z"];
const MICRO_TIMES: &[&str] =
    &["2026-01-04T13:52:00.123456Z", "2026-01-04T13:52:00.000000Z", "1969-12-31T23:59:59.500000Z"];
const BYTES: &[&str] = &["AP94", "Zg==", "Zm8=", "//79/A=="];

pub struct Samples(u64);

impl Samples {
    pub fn new(seed: u64) -> Self {
        Samples(seed)
    }

    pub fn object(&mut self, kind: &Kind) -> Value {
        let mut object = self.message(kind.ty().named().expect("a built-in kind has a type"), 0);
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = (&*kind.kind).into();
        object
    }

    fn message(&mut self, ty: Named, depth: usize) -> Value {
        let mut object = Map::new();
        for field in ty.fields().filter(|field| field.tag.1 != 0) {
            let wanted = field.required || (depth < DEPTH_MAX && self.below(2) == 0);
            if !wanted {
                continue;
            }
            let value = match field.name {
                "items" | "additionalItems" | "additionalProperties" | "dependencies" if is_schema(ty) => {
                    self.schema_field(field.name, ty, depth)
                }
                _ => self.value(field.ty, depth),
            };
            object.insert(field.name.to_owned(), value);
        }
        Value::Object(object)
    }

    /// What the table has free of form, and protobuf has not.
    fn schema_field(&mut self, field: &str, schema: Named, depth: usize) -> Value {
        let inner = self.message(schema, depth + 2);
        match (field, self.below(3)) {
            ("items", 0) => json!([inner, self.message(schema, depth + 2)]),
            ("additionalItems" | "additionalProperties", 0) => json!(true),
            ("additionalItems" | "additionalProperties", 1) => json!(false),
            ("dependencies", 0) => json!({"a": ["b", "c"], "b": inner}),
            ("dependencies", _) => json!({"a": inner}),
            (_, _) => inner,
        }
    }

    fn value(&mut self, ty: Ty, depth: usize) -> Value {
        match ty {
            Ty::String => self.one_of(TEXTS).into(),
            Ty::Int32 => self.one_of(INTEGERS).into(),
            Ty::Int64 => (self.one_of(INTEGERS) * [1, 1 << 31][self.below(2)]).into(),
            Ty::Bool => true.into(),
            Ty::Double => self.one_of(&[json!(0.5), json!(-3), json!(1e300), json!(12)]),
            Ty::IntOrString => self.one_of(&[json!(8080), json!("http"), json!("25%")]),
            Ty::Quantity => self.one_of(QUANTITIES).into(),
            Ty::DateTime => self.one_of(TIMES).into(),
            Ty::MicroTime => self.one_of(MICRO_TIMES).into(),
            Ty::Bytes => self.one_of(BYTES).into(),
            Ty::Any => self.one_of(&[json!({"f:spec": {".": {}, "f:x": {}}}), json!({"a": [1, null, "b"]})]),
            Ty::Map(value) => {
                let keys = ["a", "example.org/key"].into_iter().take(1 + self.below(2));
                keys.map(|key| (key.to_owned(), self.value(value.ty(), depth + 1))).collect::<Map<_, _>>().into()
            }
            Ty::List(item) => (0..=self.below(2)).map(|_| self.value(item.ty(), depth + 1)).collect(),
            Ty::Ref(named) => self.message(named, depth + 1),
        }
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// The next number below another (splitmix64).
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

fn is_schema(ty: Named) -> bool {
    ty.go_name() == "JSONSchemaProps"
}
