//! The walk over objects by their types: which fields a value has, how two differ, what an applied one makes of another,
//! and what is left without some fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::set::{Element, FieldSet};
use crate::custom::{Schema, Topology};
use crate::patch::merge_keys::{self, ListType};
use crate::schema::{self, Named, Ty};
use crate::{Kind, meta};

/// How the parts of a value are owned.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    /// As a whole.
    Whole,
    Struct(Named),
    /// Of a definition; an object has metadata beside.
    Custom {
        schema: &'a Schema,
        is_object: bool,
    },
    Map(Ty),
    /// Items that are their own key.
    Set,
    /// Items with keys.
    Keyed(Keys<'a>, Item<'a>),
    /// Free-form: objects are maps, everything else is a whole.
    Any,
}

/// The fields that are an item's key: those of the table, or of a definition.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    fixed: &'static [&'static str],
    own: &'a [String],
}

#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    Type(Ty),
    Schema(&'a Schema),
}

impl<'a> Keys<'a> {
    fn iter(self) -> impl Iterator<Item = &'a str> {
        self.fixed.iter().copied().chain(self.own.iter().map(String::as_str))
    }
}

impl<'a> Item<'a> {
    fn shape(self) -> Shape<'a> {
        match self {
            Item::Type(ty) => Shape::of(ty),
            Item::Schema(schema) => Shape::of_schema(schema),
        }
    }

    /// What a key is where the item leaves it out.
    fn key_default(self, key: &str) -> Option<Value> {
        match self {
            Item::Type(_) => (key == PROTOCOL.0).then(|| PROTOCOL.1.into()),
            Item::Schema(schema) => schema.properties.get(key)?.default.clone(),
        }
    }
}

/// What is another in the second of two values.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

impl Comparison {
    pub(super) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What is there and was not so before.
    pub(super) fn changed(&self) -> FieldSet {
        self.modified.clone().union(&self.added)
    }

    fn put(&mut self, element: &Element, what: Option<What>, below: Comparison) {
        self.added.put(element, what == Some(What::Added), below.added);
        self.modified.put(element, what == Some(What::Modified), below.modified);
        self.removed.put(element, what == Some(What::Removed), below.removed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Added,
    Modified,
    Removed,
}

/// Types whose values are owned as a whole.
const WHOLE: &[&str] = &[
    "io.k8s.api.autoscaling.v1.CrossVersionObjectReference",
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.EndpointAddress",
    "io.k8s.api.core.v1.EndpointPort",
    "io.k8s.api.core.v1.FileKeySelector",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.ScopeSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.SecretReference",
    "io.k8s.api.core.v1.TopologySelectorTerm",
    "io.k8s.api.core.v1.TypedLocalObjectReference",
    "io.k8s.api.discovery.v1.EndpointPort",
    "io.k8s.api.networking.v1.ServiceBackendPort",
    "io.k8s.api.rbac.v1.RoleRef",
    "io.k8s.api.rbac.v1.Subject",
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// Maps that are owned as a whole, and one reference that is not although its type is.
const WHOLE_MAPS: &[(&str, &str)] = &[
    ("io.k8s.api.core.v1.PodSpec", "nodeSelector"),
    ("io.k8s.api.core.v1.ReplicationControllerSpec", "selector"),
    ("io.k8s.api.core.v1.ServiceSpec", "selector"),
    ("io.k8s.api.node.v1.Scheduling", "nodeSelector"),
];
const NOT_WHOLE: (&str, &str) = ("io.k8s.api.core.v1.PersistentVolumeSpec", "claimRef");

/// Structs that are there in every object, and so are nobody's.
const ALWAYS_THERE: &[&str] = &["jobTemplate", "metadata", "spec", "status", "strategy", "template", "updateStrategy"];

/// What a key of a list's item is where the item leaves it out.
const PROTOCOL: (&str, &str) = ("protocol", "TCP");

impl<'a> Shape<'a> {
    /// Of the objects of a kind, with the schema of a custom one.
    pub(super) fn of_kind(kind: &Kind, schema: Option<&'a Schema>) -> Self {
        schema.map_or_else(|| Shape::of(kind.ty()), |schema| Shape::Custom { schema, is_object: true })
    }

    fn of_schema(schema: &'a Schema) -> Self {
        match (&schema.topology, &schema.items) {
            (Topology::Set, _) => Shape::Set,
            (Topology::Keyed(own), Some(item)) => Shape::Keyed(Keys { fixed: &[], own }, Item::Schema(item)),
            (Topology::Granular, _) if schema.is_free() => Shape::Any,
            (Topology::Granular, _) => Shape::Custom { schema, is_object: schema.embedded },
            (Topology::Whole | Topology::Keyed(_), _) => Shape::Whole,
        }
    }

    pub(super) fn of(ty: Ty) -> Self {
        match ty {
            Ty::Ref(named) if WHOLE.contains(&named.name()) => Shape::Whole,
            Ty::Ref(named) => Shape::Struct(named),
            Ty::Map(value) => Shape::Map(value.ty()),
            Ty::Any => Shape::Any,
            Ty::List(_) | Ty::String | Ty::Int32 | Ty::Int64 | Ty::Bool | Ty::Double => Shape::Whole,
            Ty::IntOrString | Ty::Quantity | Ty::DateTime | Ty::MicroTime | Ty::Bytes => Shape::Whole,
        }
    }

    fn of_field(named: Named, name: &str) -> Self {
        let Some(field) = named.field(name) else { return Shape::Any };
        let place = (named.name(), name);
        match field.ty {
            Ty::List(item) => match merge_keys::rule(place.0, name).map(|rule| rule.list) {
                Some(ListType::Set) => Shape::Set,
                Some(ListType::Map(keys)) => Shape::Keyed(Keys { fixed: keys, own: &[] }, Item::Type(item.ty())),
                Some(ListType::Atomic) | None => Shape::Whole,
            },
            Ty::Map(_) if WHOLE_MAPS.contains(&place) => Shape::Whole,
            Ty::Ref(named) if place == NOT_WHOLE => Shape::Struct(named),
            ty => Shape::of(ty),
        }
    }

    /// The shape of a part.
    pub(super) fn part(self, element: &Element) -> Self {
        match (self, element) {
            (Shape::Struct(named), Element::Field(name)) => Shape::of_field(named, name),
            (Shape::Map(ty), _) => Shape::of(ty),
            (Shape::Keyed(_, item), _) => item.shape(),
            (Shape::Custom { is_object: true, .. }, Element::Field(name)) if name == "metadata" => {
                Shape::of(schema::find(meta::TYPE))
            }
            (Shape::Custom { schema, .. }, Element::Field(name)) => {
                schema.field(name).map_or(Shape::Any, Shape::of_schema)
            }
            (Shape::Any, _) => Shape::Any,
            (Shape::Set | Shape::Whole | Shape::Struct(_) | Shape::Custom { .. }, _) => Shape::Whole,
        }
    }

    /// With what a value of free form is.
    fn seen(self, value: &Value) -> Self {
        match (self, value) {
            (Shape::Any, Value::Object(_)) => Shape::Map(Ty::Any),
            (Shape::Any, _) => Shape::Whole,
            (shape, _) => shape,
        }
    }

    fn is_named(self, element: &Element) -> bool {
        match (self, element) {
            (Shape::Struct(named), Element::Field(name)) => named.field(name).is_some(),
            (Shape::Custom { schema, is_object }, Element::Field(name)) => {
                schema.properties.contains_key(name) || is_object && name == "metadata"
            }
            _ => false,
        }
    }

    fn is_always_there(self, element: &Element) -> bool {
        matches!(element, Element::Field(name) if ALWAYS_THERE.contains(&name.as_str())) && self.is_named(element)
    }

    fn is_list(self) -> bool {
        matches!(self, Shape::Set | Shape::Keyed(..))
    }
}

/// The item's place in a list that is owned item by item.
fn item_element(shape: Shape<'_>, item: &Value) -> Element {
    let Shape::Keyed(keys, of_items) = shape else { return Element::Value(item.to_string()) };
    let key = keys.iter().filter_map(|key| {
        let value = item.get(key).filter(|value| !value.is_null()).cloned();
        Some((key.to_owned(), value.or_else(|| of_items.key_default(key))?))
    });
    Element::Key(Value::Object(key.collect()).to_string())
}

/// The parts of a value that is not a whole; of items that are there twice the first.
fn parts<'v>(shape: Shape<'_>, value: Option<&'v Value>) -> Vec<(Element, &'v Value)> {
    match (shape, value) {
        (Shape::Struct(_) | Shape::Custom { .. } | Shape::Map(_), Some(Value::Object(map))) => {
            map.iter().map(|(name, value)| (Element::Field(name.clone()), value)).collect()
        }
        (Shape::Set | Shape::Keyed(..), Some(Value::Array(items))) => {
            let mut seen = BTreeSet::new();
            let all = items.iter().map(|item| (item_element(shape, item), item));
            all.filter(|(element, _)| seen.insert(element.clone())).collect()
        }
        _ => Vec::new(),
    }
}

fn is_whole(shape: Shape<'_>) -> bool {
    matches!(shape, Shape::Whole | Shape::Any)
}

/// The fields that a value has: those that whoever applies it owns.
pub(super) fn fields(shape: Shape<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    let shape = shape.seen(value);
    for (element, part) in parts(shape, Some(value)) {
        let of_part = shape.part(&element).seen(part);
        let is_empty = part.is_null() || part.as_object().is_some_and(Map::is_empty);
        let is_member = is_whole(of_part) || is_empty || !shape.is_named(&element);
        let below = if is_whole(of_part) { FieldSet::default() } else { fields(of_part, part) };
        set.put(&element, is_member, below);
    }
    set
}

pub(super) fn compare(shape: Shape<'_>, old: &Value, new: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    compare_parts(shape, Some(old), Some(new), &mut comparison);
    comparison
}

/// What became of a part itself; of its parts goes to `below`.
fn compare_part(shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>, below: &mut Comparison) -> Option<What> {
    let is_another_shape = matches!((shape, old, new), (Shape::Any, Some(old), Some(new))
        if old.is_object() != new.is_object());
    let what = match (old, new) {
        (None, Some(_)) => Some(What::Added),
        (Some(_), None) => Some(What::Removed),
        (Some(old), Some(new)) if old != new => Some(What::Modified),
        (Some(_), Some(_)) | (None, None) => return None,
    };
    let shape = new.or(old).map_or(shape, |value| shape.seen(value));
    let is_bare = |value: Option<&Value>| parts(shape, value).is_empty();
    if is_whole(shape) || is_another_shape || is_bare(old) && is_bare(new) {
        return what;
    }
    compare_parts(shape, old, new, below);
    what.filter(|what| *what != What::Modified)
}

/// The parts of a value, of items that are there more than once all of each.
fn groups<'v>(shape: Shape<'_>, value: Option<&'v Value>) -> BTreeMap<Element, Vec<&'v Value>> {
    let mut groups = BTreeMap::<Element, Vec<&Value>>::new();
    match value {
        Some(Value::Array(items)) if shape.is_list() => {
            items.iter().for_each(|item| groups.entry(item_element(shape, item)).or_default().push(item));
        }
        value => groups.extend(parts(shape, value).into_iter().map(|(element, part)| (element, vec![part]))),
    }
    groups
}

fn compare_parts(shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>, comparison: &mut Comparison) {
    let (before, after) = (groups(shape, old), groups(shape, new));
    let gone = before.keys().filter(|element| !after.contains_key(*element));
    for element in after.keys().chain(gone) {
        let mut below = Comparison::default();
        let what = match (before.get(element).map(Vec::as_slice), after.get(element).map(Vec::as_slice)) {
            (Some(old), Some(new)) if old.len() > 1 || new.len() > 1 => (old != new).then_some(What::Modified),
            (old, new) => {
                let first = |group: Option<&[_]>| group.and_then(|group| group.first().copied());
                let what = compare_part(shape.part(element), first(old), first(new), &mut below);
                what.filter(|_| is_whole(shape.part(element)) || !shape.is_always_there(element))
            }
        };
        comparison.put(element, what, below);
    }
}

/// What `applied` makes of `live`: its fields win, items of lists are in its order, all others stay.
pub(super) fn merge(shape: Shape<'_>, live: &Value, applied: &Value) -> Value {
    let shape = shape.seen(applied);
    match (shape, live, applied) {
        (Shape::Struct(_) | Shape::Custom { .. } | Shape::Map(_), Value::Object(live), Value::Object(applied)) => {
            let mut merged = live.clone();
            for (name, value) in applied {
                let element = Element::Field(name.clone());
                let merged_value = match live.get(name) {
                    Some(live) => merge(shape.part(&element), live, value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), merged_value);
            }
            Value::Object(merged)
        }
        (Shape::Set | Shape::Keyed(..), Value::Array(items), Value::Array(_)) => {
            let all = items.iter().map(|item| (item_element(shape, item), item)).collect();
            Value::Array(merge_lists(shape, all, parts(shape, Some(applied))))
        }
        _ => applied.clone(),
    }
}

/// Items that only the live list has keep their place, also those that are there twice; those of both come in the applied
/// order.
fn merge_lists(shape: Shape<'_>, live: Vec<(Element, &Value)>, applied: Vec<(Element, &Value)>) -> Vec<Value> {
    let in_live: BTreeMap<&Element, &Value> = live.iter().map(|(element, value)| (element, *value)).collect();
    let in_applied: BTreeSet<&Element> = applied.iter().map(|(element, _)| element).collect();
    let mut shared = applied.iter().map(|(element, _)| element).filter(|e| in_live.contains_key(e)).peekable();
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let (mut left, mut right) = (live.iter().peekable(), applied.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (None, None) => return merged,
            (Some((element, value)), _) if !in_applied.contains(element) => {
                merged.push((*value).clone());
                left.next();
            }
            // It comes where the applied list has it, or came already.
            (Some((element, _)), Some((other, _))) if element != other && shared.peek() != Some(&element) => {
                left.next();
            }
            (Some(_), None) => drop(left.next()),
            (_, Some((element, value))) => {
                merged.push(match in_live.get(element) {
                    Some(live) => merge(shape.part(element), live, value),
                    None => (*value).clone(),
                });
                shared.next_if(|next| *next == element);
                left.next_if(|(first, _)| first == element);
                right.next();
            }
        }
    }
}

/// Without the members of the set. What is emptied by that is `null`.
pub(super) fn remove(shape: Shape<'_>, value: &Value, set: &FieldSet) -> Value {
    let shape = shape.seen(value);
    if set.is_empty() || is_whole(shape) {
        return value.clone();
    }
    let kept = |element: &Element, part: &Value| match set.children.get(element) {
        _ if set.members.contains(element) => None,
        Some(below) => Some(remove(shape.part(element), part, below)),
        None => Some(part.clone()),
    };
    match value {
        Value::Object(map) => {
            let part =
                |(name, part): (&String, &Value)| Some((name.clone(), kept(&Element::Field(name.clone()), part)?));
            let left: Map<_, _> = map.iter().filter_map(part).collect();
            if left.is_empty() { Value::Null } else { Value::Object(left) }
        }
        Value::Array(items) if shape.is_list() => {
            let left: Vec<_> = items.iter().filter_map(|item| kept(&item_element(shape, item), item)).collect();
            if left.is_empty() { Value::Null } else { Value::Array(left) }
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Without the fields that are `null` now and were not before.
pub(super) fn without_emptied(value: Value, before: &Value) -> Value {
    match (value, before) {
        (Value::Object(map), Value::Object(before)) => {
            let left = map.into_iter().filter_map(|(name, part)| {
                let old = before.get(&name).unwrap_or(&Value::Null);
                let part = without_emptied(part, old);
                (!part.is_null() || old.is_null()).then_some((name, part))
            });
            Value::Object(left.collect())
        }
        // Items are looked at by their key elsewhere; what is emptied in one is a field of it.
        (Value::Array(items), _) => Value::Array(items.into_iter().map(without_nulls).collect()),
        (value, _) => value,
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let left = map.into_iter().map(|(name, part)| (name, without_nulls(part)));
            Value::Object(left.filter(|(_, part)| !part.is_null()).collect())
        }
        value => value,
    }
}

/// The first item of a list that is owned by item which is there twice.
pub(super) fn duplicate(shape: Shape<'_>, value: &Value) -> Option<String> {
    let shape = shape.seen(value);
    let found = match value {
        Value::Array(items) if shape.is_list() => {
            let mut seen = BTreeSet::new();
            items.iter().map(|item| item_element(shape, item)).find(|element| !seen.insert(element.clone()))
        }
        _ => None,
    };
    if let Some(element) = found {
        return Some(element.to_path());
    }
    parts(shape, Some(value)).into_iter().find_map(|(element, part)| {
        let below = duplicate(shape.part(&element), part)?;
        Some(format!("{}{below}", element.to_path()))
    })
}

/// Where the first list or map is that is owned as a whole.
pub(super) fn whole(shape: Shape<'_>, value: &Value) -> Option<String> {
    let shape = shape.seen(value);
    if matches!(shape, Shape::Whole) && (value.is_array() || value.is_object()) {
        return Some(String::new());
    }
    parts(shape, Some(value)).into_iter().find_map(|(element, part)| {
        let below = whole(shape.part(&element), part)?;
        Some(format!("{}{below}", element.to_path()))
    })
}

/// With each field of a struct that has parts in the set as a member, too.
pub(super) fn with_named(shape: Shape<'_>, set: &FieldSet) -> FieldSet {
    let mut all = FieldSet { members: set.members.clone(), children: BTreeMap::new() };
    for (element, below) in &set.children {
        let part = match shape.part(element) {
            Shape::Any => Shape::Map(Ty::Any),
            part => part,
        };
        all.put(element, shape.is_named(element), with_named(part, below));
    }
    all
}
