//! What is known of each object, kept small: 160 bytes at the most, and 80 for an owner. Kinds, namespaces and sets of
//! finalizers are shared; of an owner only the identity is kept, as whoever acts on it reads the object first.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

/// A map with this many times more room than it needs gives it back.
const ROOM_FACTOR: usize = 4;
/// Below this many entries nobody cares.
const ROOM_MIN: usize = 1024;

/// The identity of an object in 16 bytes. Owner references may carry text that is no UUID: then a digest with keys of
/// this process, so that nobody can make two that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid([u8; 16]);

impl Uid {
    const MIN: Self = Self([u8::MIN; 16]);
    const MAX: Self = Self([u8::MAX; 16]);

    pub fn of(text: &str) -> Self {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
        Self(uuid(text).unwrap_or_else(|| {
            let halves = KEYS.each_ref().map(|key| key.hash_one(text).to_ne_bytes());
            let mut digest = [0; 16];
            digest[..8].copy_from_slice(&halves[0]);
            digest[8..].copy_from_slice(&halves[1]);
            digest
        }))
    }
}

/// Reads a UUID as they are written everywhere; any other way to write it is another text.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let dashed = text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text.as_bytes()[*at] == b'-');
    let mut digits = text.bytes().filter(|byte| *byte != b'-');
    let mut bytes = [0; 16];
    for byte in bytes.iter_mut().filter(|_| dashed) {
        *byte = digit(digits.next()?)? << 4 | digit(digits.next()?)?;
    }
    (dashed && digits.next().is_none()).then_some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct KindName {
    pub api_version: Box<str>,
    pub kind: Box<str>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: Uid,
    /// It controls the object.
    pub controls: bool,
    /// It waits for the object when it is deleted in the foreground.
    pub waits: bool,
}

/// Another thin pointer to a text: most objects of a cluster share a few.
type Shared<T> = Arc<T>;

/// An object, as far as others are concerned.
#[derive(Debug)]
pub struct Object {
    pub name: Box<str>,
    kind: Shared<KindName>,
    namespace: Option<Shared<Box<str>>>,
    pub owners: Box<[Owner]>,
    exit: Option<Shared<Exit>>,
}

/// What is between an object and its end. Most have none.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exit {
    finalizers: Box<[Box<str>]>,
    deleted: bool,
}

impl Object {
    pub fn kind(&self) -> &KindName {
        &self.kind
    }

    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_ref().map(|namespace| &***namespace)
    }

    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.exit.iter().flat_map(|exit| exit.finalizers.iter().map(|finalizer| &**finalizer))
    }

    /// It is on its way out.
    pub fn is_deleted(&self) -> bool {
        self.exit.as_ref().is_some_and(|exit| exit.deleted)
    }

    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers().any(|finalizer| finalizer == name)
    }
}

/// An object as it is told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Told {
    pub api_version: String,
    pub kind: String,
    pub metadata: ToldMetadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToldMetadata {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub deletion_timestamp: Option<String>,
    pub finalizers: Vec<String>,
    pub owner_references: Vec<ToldOwner>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToldOwner {
    pub uid: String,
    pub controller: Option<bool>,
    pub block_owner_deletion: Option<bool>,
}

/// Every object, and who depends on whom.
#[derive(Debug, Default)]
pub struct Index {
    objects: HashMap<Uid, Box<Object>>,
    /// Owner, whether that exists or not, and dependent: one owner may have very many.
    dependents: BTreeSet<(Uid, Uid)>,
    kinds: HashSet<Shared<KindName>>,
    namespaces: HashSet<Shared<Box<str>>>,
    exits: HashSet<Shared<Exit>>,
}

impl Index {
    pub fn get(&self, uid: Uid) -> Option<&Object> {
        self.objects.get(&uid).map(|object| &**object)
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    pub fn objects(&self) -> impl Iterator<Item = (Uid, &Object)> {
        self.objects.iter().map(|(uid, object)| (*uid, &**object))
    }

    /// The objects that name this one among their owners.
    pub fn dependents(&self, owner: Uid) -> impl Iterator<Item = Uid> {
        self.dependents.range((owner, Uid::MIN)..=(owner, Uid::MAX)).map(|(_, dependent)| *dependent)
    }

    /// Takes in an object, new or changed. Returns whom this may matter to.
    pub fn put(&mut self, told: Told) -> Vec<Uid> {
        let uid = Uid::of(&told.metadata.uid);
        let mut touched = self.unlink(uid);
        let owners = told.metadata.owner_references.iter().map(|owner| Owner {
            uid: Uid::of(&owner.uid),
            controls: owner.controller == Some(true),
            waits: owner.block_owner_deletion == Some(true),
        });
        let object = Object {
            owners: owners.collect(),
            kind: shared(
                &mut self.kinds,
                KindName { api_version: told.api_version.into_boxed_str(), kind: told.kind.into_boxed_str() },
            ),
            namespace: Some(told.metadata.namespace)
                .filter(|namespace| !namespace.is_empty())
                .map(|namespace| shared(&mut self.namespaces, namespace.into_boxed_str())),
            exit: Some(Exit {
                finalizers: told.metadata.finalizers.into_iter().map(String::into_boxed_str).collect(),
                deleted: told.metadata.deletion_timestamp.is_some(),
            })
            .filter(|exit| exit.deleted || !exit.finalizers.is_empty())
            .map(|exit| shared(&mut self.exits, exit)),
            name: told.metadata.name.into_boxed_str(),
        };
        for owner in &object.owners {
            self.dependents.insert((owner.uid, uid));
            touched.push(owner.uid);
        }
        self.objects.insert(uid, Box::new(object));
        touched.push(uid);
        touched.extend(self.dependents(uid));
        touched
    }

    /// Forgets an object. Returns whom this may matter to.
    pub fn remove(&mut self, uid: &str) -> Vec<Uid> {
        let uid = Uid::of(uid);
        let mut touched = self.unlink(uid);
        self.objects.remove(&uid);
        touched.extend(self.dependents(uid));
        self.give_back();
        touched
    }

    /// Takes the object from its owners and returns them.
    fn unlink(&mut self, uid: Uid) -> Vec<Uid> {
        let owners: Vec<Uid> =
            self.objects.get(&uid).iter().flat_map(|o| o.owners.iter().map(|owner| owner.uid)).collect();
        for owner in &owners {
            self.dependents.remove(&(*owner, uid));
        }
        owners
    }

    /// Maps never shrink by themselves: what many objects took would stay taken when they are gone.
    fn give_back(&mut self) {
        if shrink_map(&mut self.objects) {
            self.kinds.retain(|kind| Arc::strong_count(kind) > 1);
            self.namespaces.retain(|namespace| Arc::strong_count(namespace) > 1);
            self.exits.retain(|exit| Arc::strong_count(exit) > 1);
            self.namespaces.shrink_to_fit();
            self.exits.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.objects.capacity() + self.dependents.len() + self.namespaces.capacity()
    }
}

/// Gives back room that a map does not need any more; says whether it had any.
pub(crate) fn shrink_map<K: Eq + Hash, V>(map: &mut HashMap<K, V>) -> bool {
    let roomy = map.capacity() > ROOM_MIN && map.capacity() / ROOM_FACTOR > map.len();
    if roomy {
        map.shrink_to(map.len() * 2);
    }
    roomy
}

fn shared<T: Eq + Hash>(known: &mut HashSet<Shared<T>>, value: T) -> Shared<T> {
    if let Some(found) = known.get(&value) {
        return Arc::clone(found);
    }
    let value = Arc::new(value);
    known.insert(Arc::clone(&value));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(n: u32, owner: Option<u32>) -> Told {
        let uid = |n: u32| format!("00000000-0000-4000-8000-{n:012x}");
        let owner_references = owner.iter().map(|n| ToldOwner { uid: uid(*n), ..ToldOwner::default() }).collect();
        let metadata = ToldMetadata {
            name: format!("web-5d4f8c7b9-{n:05}"),
            namespace: format!("default-{}", n % 7),
            uid: uid(n),
            owner_references,
            ..ToldMetadata::default()
        };
        Told { api_version: "v1".to_owned(), kind: "Pod".to_owned(), metadata }
    }

    #[test]
    fn text_that_is_no_uuid_is_another_identity() {
        let uuid = "0a1b2c3d-0000-4000-8000-00000000000f";
        assert_eq!(Uid::of(uuid), Uid::of(uuid));
        assert_eq!(Uid::of("x"), Uid::of("x"));
        assert_ne!(Uid::of(&uuid.to_uppercase()), Uid::of(uuid), "upstream compares text");
        assert_ne!(Uid::of("0a1b2c3d00004000800000000000000f"), Uid::of(uuid));
        assert_ne!(Uid::of("ä--------------------------------ä"), Uid::of(""));
    }

    #[test]
    fn dependents_are_found_before_and_after_their_owner() {
        let mut index = Index::default();
        let touched = index.put(told(2, Some(1)));
        let (one, two) = (Uid::of(&told(1, None).metadata.uid), Uid::of(&told(2, None).metadata.uid));
        assert_eq!(touched, [one, two]);
        assert_eq!(index.put(told(1, None)), [one, two], "its dependents hear of it");
        assert!(index.dependents(one).eq([two]));
        assert_eq!(index.remove(&told(1, None).metadata.uid), [two]);
        assert!(index.get(one).is_none() && index.dependents(one).eq([two]));
        assert_eq!(index.put(told(2, None)), [one, two], "the owner it had hears of it");
        assert!(index.dependents(one).next().is_none());
    }

    #[test]
    fn objects_are_small() {
        // A box in the map, at the emptiest a map of its size is: 7/16 full, with a byte of control each.
        let entry = (size_of::<(Uid, Box<Object>)>() + 1) * 16 / 7;
        let heap = |bytes: usize| (bytes + 8).next_multiple_of(16);
        let name = heap("web-5d4f8c7b9-00000".len());
        assert!(entry + heap(size_of::<Object>()) + name <= 160);
        // Nodes of the tree are two thirds full.
        let edge = size_of::<(Uid, Uid)>() * 3 / 2;
        assert!(heap(size_of::<Owner>()) + edge <= 80);
    }

    #[test]
    fn what_many_objects_took_is_given_back() {
        let mut index = Index::default();
        (0..30_000).for_each(|n| drop(index.put(told(n, Some(n + 1)))));
        assert!(index.capacity() > 60_000);
        (10..30_000).for_each(|n| drop(index.remove(&told(n, None).metadata.uid)));
        assert_eq!(index.len(), 10);
        assert!(index.capacity() < 10_000, "{}", index.capacity());
    }
}
