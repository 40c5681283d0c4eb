//! Sets of completion indexes, as the status of a Job writes them: `1,3-5`. Pure.

use std::fmt;

/// Kept as ranges: a set may be said in a few letters and be of a thousand million indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    /// First and last of each, in order, with a gap between any two.
    ranges: Vec<(i32, i32)>,
}

impl Indexes {
    /// What cannot be read, and what is not below `end`, is left out.
    pub fn parse(text: &str, end: i32) -> Self {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<i32>().ok()?, last.parse::<i32>().ok()?.min(end - 1));
            (first >= 0 && first <= last).then_some((first, last))
        };
        let mut ranges: Vec<_> = text.split(',').filter_map(range).collect();
        ranges.sort_unstable();
        let mut indexes = Self::default();
        ranges.into_iter().for_each(|(first, last)| indexes.insert_range(first, last));
        indexes
    }

    pub fn insert(&mut self, index: i32) {
        self.insert_range(index, index);
    }

    fn insert_range(&mut self, mut first: i32, mut last: i32) {
        let start = self.ranges.partition_point(|range| range.1 < first.saturating_sub(1));
        let end = self.ranges.partition_point(|range| range.0 <= last.saturating_add(1));
        if start < end {
            first = first.min(self.ranges[start].0);
            last = last.max(self.ranges[end - 1].1);
        }
        self.ranges.splice(start..end, [(first, last)]);
    }

    pub fn contains(&self, index: i32) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < index);
        self.ranges.get(at).is_some_and(|range| range.0 <= index)
    }

    pub fn count(&self) -> i32 {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many are in both.
    pub fn count_common(&self, other: &Self) -> i32 {
        let (mut mine, mut theirs, mut count) = (0, 0, 0);
        while let (Some(a), Some(b)) = (self.ranges.get(mine), other.ranges.get(theirs)) {
            count += (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
            if a.1 < b.1 { mine += 1 } else { theirs += 1 }
        }
        count
    }

    pub fn extend(&mut self, other: &Self) {
        other.ranges.iter().for_each(|(first, last)| self.insert_range(*first, *last));
    }

    /// The indexes below `end` that are not in it, the lowest first.
    pub fn missing(&self, end: i32) -> impl Iterator<Item = i32> + '_ {
        let starts = std::iter::once(0).chain(self.ranges.iter().map(|range| range.1.saturating_add(1)));
        let ends = self.ranges.iter().map(|range| range.0).chain([end]);
        starts.zip(ends).flat_map(move |(start, next)| start..next.min(end))
    }
}

impl fmt::Display for Indexes {
    /// Two in a row are written one by one, as upstream does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_set_is_written_as_it_is_read() {
        let check = |text: &str, end: i32, expected: &str| {
            assert_eq!(Indexes::parse(text, end).to_string(), expected, "{text:?} below {end}");
        };
        check("", 9, "");
        check("1,3-5,7", 9, "1,3-5,7");
        check("1,2,3", 9, "1-3");
        check("4,5", 9, "4,5");
        check("7,1-3,2-4", 9, "1-4,7");
        check("1-20,30", 9, "1-8");
        check("x,-3,5-2,6,1-2-3,99999999999", 9, "6");
        check("0-2147483646", i32::MAX, "0-2147483646");
        check("0", 0, "");
        assert_eq!(Indexes::parse("0-2147483646", i32::MAX).count(), i32::MAX);
    }

    fn set(indexes: &BTreeSet<i32>) -> Indexes {
        let mut set = Indexes::default();
        indexes.iter().for_each(|index| set.insert(*index));
        set
    }

    proptest! {
        #[test]
        fn it_is_a_set(a in prop::collection::btree_set(0..40, 0..30), b in prop::collection::btree_set(0..40, 0..30)) {
            let (x, y) = (set(&a), set(&b));
            prop_assert_eq!(&Indexes::parse(&x.to_string(), 40), &x);
            prop_assert_eq!(x.count() as usize, a.len());
            prop_assert_eq!(x.count_common(&y) as usize, a.intersection(&b).count());
            prop_assert!((0..40).all(|index| x.contains(index) == a.contains(&index)));
            let missing: Vec<_> = (0..30).filter(|index| !a.contains(index)).collect();
            prop_assert_eq!(x.missing(30).collect::<Vec<_>>(), missing);
            let mut both = x.clone();
            both.extend(&y);
            prop_assert_eq!(both, set(&a.union(&b).copied().collect()));
        }

        #[test]
        fn any_text_is_read(text in ".{0,40}", end in any::<i32>().prop_map(|end| end.max(0))) {
            let set = Indexes::parse(&text, end);
            prop_assert!(set.count() <= end);
            let _ = set.missing(end).next();
        }
    }
}
