//! Sets of fields of an object, and how they are written: `FieldsV1`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// As deep as an object may be.
const DEPTH_MAX: usize = 100;
const SELF: &str = ".";

/// One step from a value to a part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// A field of a struct, or a key of a map.
    Field(String),
    /// The item of a list with this key, an object in JSON.
    Key(String),
    /// The item of a set that is this, in JSON.
    Value(String),
    Index(usize),
}

/// Parts of a value: which are in the set, and which parts of parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub(super) members: BTreeSet<Element>,
    pub(super) children: BTreeMap<Element, FieldSet>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error("{0:?} is no element of a path: it must begin with \"f:\", \"k:\", \"v:\" or \"i:\"")]
    Element(String),
    #[error("each level of fields must be an object")]
    Level,
    #[error("the fields may not be nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
}

impl Element {
    fn parse(text: &str) -> Result<Self, SetError> {
        let fail = || SetError::Element(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(fail)?;
        // Written anew, so that one key has one form.
        let json = || serde_json::from_str::<Value>(rest).map_err(|_| fail());
        match kind {
            "f" => Ok(Element::Field(rest.to_owned())),
            "k" => json()?.as_object().map(|key| Element::Key(Value::Object(key.clone()).to_string())).ok_or_else(fail),
            "v" => Ok(Element::Value(json()?.to_string())),
            "i" => rest.parse().map(Element::Index).map_err(|_| fail()),
            _ => Err(fail()),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Element::Field(name) => format!("f:{name}"),
            Element::Key(key) => format!("k:{key}"),
            Element::Value(value) => format!("v:{value}"),
            Element::Index(index) => format!("i:{index}"),
        }
    }

    /// As upstream writes it in a path: `.spec`, `[name="a"]`, `[=3]`, `[0]`.
    pub(super) fn to_path(&self) -> String {
        match self {
            Element::Field(name) => format!(".{name}"),
            Element::Key(key) => {
                let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let parts: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("[{}]", parts.join(","))
            }
            Element::Value(value) => format!("[={value}]"),
            Element::Index(index) => format!("[{index}]"),
        }
    }
}

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// Puts what is known of one part in its place.
    pub(super) fn put(&mut self, element: &Element, is_member: bool, children: FieldSet) {
        if is_member {
            self.members.insert(element.clone());
        }
        if !children.is_empty() {
            self.children.insert(element.clone(), children);
        }
    }

    /// The set of one path of fields.
    pub fn of_fields(path: &[&str]) -> Self {
        let mut set = FieldSet::default();
        match path {
            [] => {}
            [last] => drop(set.members.insert(Element::Field((*last).to_owned()))),
            [first, rest @ ..] => {
                set.children.insert(Element::Field((*first).to_owned()), FieldSet::of_fields(rest));
            }
        }
        set
    }

    pub fn union(mut self, other: &FieldSet) -> FieldSet {
        self.members.extend(other.members.iter().cloned());
        for (element, children) in &other.children {
            let own = self.children.remove(element).unwrap_or_default();
            self.children.insert(element.clone(), own.union(children));
        }
        self
    }

    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let members = self.members.intersection(&other.members).cloned().collect();
        let children = self.children.iter().filter_map(|(element, children)| {
            let both = children.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        FieldSet { members, children: children.collect() }
    }

    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        let members = self.members.difference(&other.members).cloned().collect();
        let children = self.children.iter().filter_map(|(element, children)| {
            let left = match other.children.get(element) {
                Some(others) => children.difference(others),
                None => children.clone(),
            };
            (!left.is_empty()).then(|| (element.clone(), left))
        });
        FieldSet { members, children: children.collect() }
    }

    /// Without the members of the other, and without all that is below them.
    pub fn without(&self, other: &FieldSet) -> FieldSet {
        let left = self.difference(other);
        let children = left.children.into_iter().filter(|(element, _)| !other.members.contains(element));
        let children = children.filter_map(|(element, children)| {
            let left = other.children.get(&element).map_or(children.clone(), |others| children.without(others));
            (!left.is_empty()).then_some((element, left))
        });
        FieldSet { members: left.members, children: children.collect() }
    }

    /// What has more parts than this is in the set as a whole.
    pub fn condensed(mut self, parts_max: usize) -> FieldSet {
        let parts = |set: &FieldSet| set.members.len().max(set.children.len());
        let many = self.children.iter().filter(|(_, below)| parts(below) > parts_max);
        self.members.extend(many.map(|(element, _)| element.clone()).collect::<Vec<_>>());
        let few = self.children.into_iter().filter(|(_, below)| parts(below) <= parts_max);
        self.children = few.map(|(element, below)| (element, below.condensed(parts_max))).collect();
        self
    }

    /// Every member's path, in order.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.write_paths("", &mut paths);
        paths
    }

    fn write_paths(&self, before: &str, paths: &mut Vec<String>) {
        let elements: BTreeSet<&Element> = self.members.iter().chain(self.children.keys()).collect();
        for element in elements {
            let path = format!("{before}{}", element.to_path());
            if self.members.contains(element) {
                paths.push(path.clone());
            }
            if let Some(children) = self.children.get(element) {
                children.write_paths(&path, paths);
            }
        }
    }

    pub fn read(fields: &Value) -> Result<Self, SetError> {
        Self::read_level(fields, 0)
    }

    fn read_level(fields: &Value, depth: usize) -> Result<Self, SetError> {
        if depth > DEPTH_MAX {
            return Err(SetError::TooDeep);
        }
        let mut set = FieldSet::default();
        for (text, below) in fields.as_object().ok_or(SetError::Level)? {
            if text == SELF {
                continue;
            }
            let level = below.as_object().ok_or(SetError::Level)?;
            let is_member = level.is_empty() || level.contains_key(SELF);
            set.put(&Element::parse(text)?, is_member, Self::read_level(below, depth + 1)?);
        }
        Ok(set)
    }

    pub fn to_json(&self) -> Value {
        let mut fields: Map<String, Value> =
            self.children.iter().map(|(element, children)| (element.to_text(), children.to_json())).collect();
        for element in &self.members {
            match fields.get_mut(&element.to_text()).and_then(Value::as_object_mut) {
                Some(children) => drop(children.insert(SELF.to_owned(), Map::new().into())),
                None => drop(fields.insert(element.to_text(), Map::new().into())),
            }
        }
        Value::Object(fields)
    }
}
