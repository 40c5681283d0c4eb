//! There is a document for each group and version.

use super::*;
use crate::kinds::built_in;

#[test]
fn one_for_each_group_and_version() {
    let versions: usize = built_in().groups().iter().map(|group| group.versions.len()).sum();
    assert_eq!(documents().len(), versions);
    assert!(documents().iter().map(|d| d.gzip.len()).sum::<usize>() < 1_500_000);
}
