//! Whether the kernel's table still is what was applied: other programs may flush or change it. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

/// What a script makes, or what a table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    chains: usize,
    rules: usize,
    /// Of maps; sets are filled by the kernel with the clients that come.
    elements: usize,
}

impl Counts {
    pub fn of_script(script: &str) -> Self {
        let count = |start: &str| script.lines().filter(|line| line.starts_with(start)).count();
        Self { chains: count("add chain "), rules: count("add rule "), elements: count("add element ") }
    }
}

/// What `nft --json list table` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub counts: Counts,
    /// Of all of it, but for what the kernel changes itself.
    pub print: u64,
}

impl Listed {
    /// `None`: it is no such list.
    pub fn read(json: &str) -> Option<Self> {
        let mut list: Value = serde_json::from_str(json).ok()?;
        let (mut counts, mut hasher) = (Counts::default(), DefaultHasher::new());
        for entry in list.get_mut("nftables")?.as_array_mut()? {
            for (kind, object) in entry.as_object_mut()? {
                if let Some(fields) = object.as_object_mut() {
                    fields.remove("handle");
                    if kind == "set" {
                        fields.remove("elem");
                    }
                }
                match kind.as_str() {
                    "chain" => counts.chains += 1,
                    "rule" => counts.rules += 1,
                    "map" => counts.elements += object["elem"].as_array().map_or(0, Vec::len),
                    _ => {}
                }
                (kind, object.to_string()).hash(&mut hasher);
            }
        }
        Some(Self { counts, print: hasher.finish() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(rule: &str, handle: u32, clients: &str, element: &str) -> Listed {
        let json = format!(
            r#"{{"nftables": [{{"metainfo": {{}}}}, {{"table": {{"name": "t", "handle": {handle}}}}},
            {{"map": {{"name": "addresses", "elem": [{element}]}}}},
            {{"set": {{"name": "clients", "handle": {handle}, "elem": [{clients}]}}}},
            {{"chain": {{"name": "c", "handle": {handle}}}}}, {{"rule": {{"chain": "c", "expr": ["{rule}"]}}}}]}}"#
        );
        Listed::read(&json).unwrap()
    }

    #[test]
    fn what_the_kernel_changes_itself_does_not_count() {
        let before = listed("accept", 1, "", "1");
        assert_eq!(before, listed("accept", 7, "\"192.0.2.1\"", "1"));
        assert_ne!(before.print, listed("drop", 1, "", "1").print);
        assert_ne!(before.print, listed("accept", 1, "", "2").print);
        let script =
            "table ip t {}\nadd map t addresses\nadd chain t c\nadd rule t c accept\nadd element t addresses { 1 }\n";
        assert_eq!(before.counts, Counts::of_script(script));
        assert_ne!(listed("accept", 1, "", "").counts, Counts::of_script(script));
        assert!(Listed::read("").is_none() && Listed::read("{}").is_none() && Listed::read("[1]").is_none());
    }
}
