//! Disjoint sets of numbered things (union-find).

/// Disjoint sets, each named by its first member: four bytes a member.
pub(crate) struct Union(Vec<u32>);

impl Union {
    /// Each on its own.
    pub(crate) fn new(count: u32) -> Self {
        Self((0..count).collect())
    }

    /// The first member of the set of one.
    pub(crate) fn first(&mut self, mut member: u32) -> u32 {
        while self.0[member as usize] != member {
            // Halves the way for the next time.
            let above = self.0[self.0[member as usize] as usize];
            self.0[member as usize] = above;
            member = above;
        }
        member
    }

    /// Makes one set of two; says whether they were two.
    pub(crate) fn join(&mut self, one: u32, other: u32) -> bool {
        let (one, other) = (self.first(one), self.first(other));
        self.0[one.max(other) as usize] = one.min(other);
        one != other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_named_by_their_first_member_in_whatever_order_they_are_joined() {
        let check = |pairs: &[(u32, u32)], expected: [u32; 6]| {
            let mut union = Union::new(6);
            let joined = pairs.iter().filter(|(one, other)| union.join(*one, *other)).count();
            assert_eq!([0, 1, 2, 3, 4, 5].map(|member| union.first(member)), expected);
            let different = expected.iter().collect::<std::collections::BTreeSet<_>>().len();
            assert_eq!(joined, 6 - different);
        };
        check(&[], [0, 1, 2, 3, 4, 5]);
        check(&[(4, 5), (5, 1), (1, 4), (3, 2)], [0, 1, 2, 2, 1, 1]);
        check(&[(2, 3), (1, 5), (4, 1)], [0, 1, 2, 2, 1, 1]);
    }
}
