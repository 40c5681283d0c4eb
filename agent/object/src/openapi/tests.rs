//! There is a document for each group and version that has types.

use std::collections::BTreeSet;

use super::*;
use crate::kinds::built_in;

#[test]
fn one_for_each_group_and_version() {
    let kept = built_in().kinds().filter(|kind| !kind.type_name.is_empty());
    let versions: BTreeSet<(&str, &str)> = kept.map(|kind| (&*kind.group, &*kind.version)).collect();
    assert_eq!(documents().len(), versions.len());
    assert!(documents().iter().map(|d| d.gzip.len()).sum::<usize>() < 1_500_000);
}
