//! There is a document for each group and version.

use super::*;
use crate::kinds::group_versions;

#[test]
fn one_for_each_group_and_version() {
    let versions: usize = group_versions().iter().map(|group| group.versions.len()).sum();
    assert_eq!(documents().len(), versions);
    assert!(documents().iter().map(|d| d.gzip.len()).sum::<usize>() < 1_500_000);
}
