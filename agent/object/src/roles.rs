//! Which ClusterRoles an aggregated one is made of. Pure: rules are the callers'.

use std::collections::{BTreeMap, HashSet};

use crate::labels::Selector;

/// A ClusterRole, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Role<'a> {
    pub name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    /// Of an aggregated role: which others it is made of.
    pub selectors: Option<Vec<Selector>>,
}

/// The places in `all` of the roles whose rules are those of the one at `place`: itself, or if it is aggregated those that it
/// selects, in the order of its selectors and of their names. A role that is made of aggregated ones is made of theirs.
pub fn parts(all: &[Role<'_>], place: usize) -> Vec<usize> {
    let (mut parts, mut visited) = (Vec::new(), HashSet::new());
    // The next one is the last of these.
    let mut open = vec![place];
    while let Some(next) = open.pop() {
        let Some(role) = all.get(next).filter(|_| visited.insert(next)) else { continue };
        match &role.selectors {
            None => parts.push(next),
            Some(selectors) => {
                let mut selected: Vec<usize> = selectors.iter().flat_map(|selector| chosen(all, selector)).collect();
                selected.reverse();
                open.append(&mut selected);
            }
        }
    }
    parts
}

fn chosen(all: &[Role<'_>], selector: &Selector) -> Vec<usize> {
    let mut chosen: Vec<usize> = (0..all.len()).filter(|place| selector.matches(&all[*place].labels)).collect();
    chosen.sort_by_key(|place| all[*place].name);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Roles as `name label,label [selected label,...]`.
    fn check(roles: &[&str], name: &str, expected: &str) {
        let split: Vec<Vec<&str>> = roles.iter().map(|role| role.split(' ').collect()).collect();
        let labels: Vec<BTreeMap<String, String>> = split
            .iter()
            .map(|role| role[1].split(',').map(|label| (label.to_owned(), "true".to_owned())).collect())
            .collect();
        let selectors = |role: &Vec<&str>| {
            let selected = role.get(2)?;
            Some(selected.split(',').map(|label| Selector::parse(label).expect("a selector")).collect())
        };
        let all: Vec<Role<'_>> = split
            .iter()
            .zip(&labels)
            .map(|(role, labels)| Role { name: role[0], labels, selectors: selectors(role) })
            .collect();
        let place = all.iter().position(|role| role.name == name).expect("it is there");
        let names: Vec<&str> = parts(&all, place).into_iter().map(|place| all[place].name).collect();
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn a_role_is_made_of_what_it_selects() {
        let roles = ["z to-a", "y to-a", "x to-b", "a none to-a", "b none to-b,to-a", "none none nothing"];
        check(&roles, "x", "x");
        check(&roles, "a", "y z");
        check(&roles, "b", "x y z");
        check(&roles, "none", "");
        // Through others, once each, however they are entangled.
        let roles =
            ["view-rules to-view", "view to-edit to-view", "edit-rules to-edit", "edit to-admin,to-view to-edit"];
        check(&roles, "edit", "edit-rules view-rules");
        check(&roles, "view", "edit-rules view-rules");
        check(&["self to-self to-self"], "self", "");
    }
}
