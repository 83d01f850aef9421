//! Vectors to groups of such that point the same way.
//!
//! # Source
//! Spherical k-means (Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", 2001),
//! begun as in k-means++ (Arthur and Vassilvitskii, 2007). How many groups there are is what gives the best silhouette,
//! simplified to distances from centres (Hruschka et al., 2004).

use nexa_core::draw;

use super::terms::Vector;

/// Rounds after which the groups are taken as they are.
const MAX_ROUNDS: usize = 50;
/// The silhouette that two groups must exceed to be better than one.
const MIN_SILHOUETTE: f64 = 0.1;

/// Groups of vectors.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Partition {
    /// The direction of each group.
    pub(super) centres: Vec<Vec<f64>>,
    /// The group of each vector.
    pub(super) group_of: Vec<usize>,
}

impl Partition {
    /// Groups vectors over so many terms into at most `max_groups`; the seed decides where to begin.
    pub(super) fn of(vectors: &[Vector], terms: usize, max_groups: usize, seed: u64) -> Self {
        let mut best = Self::whole(vectors, terms);
        let mut best_silhouette = MIN_SILHOUETTE;
        for groups in 2..=max_groups.min(vectors.len()) {
            let found = Self::begun(vectors, terms, groups, seed).settled(vectors, terms);
            let silhouette = found.silhouette(vectors);
            if silhouette > best_silhouette {
                (best, best_silhouette) = (found, silhouette);
            }
        }
        best
    }

    /// All in one group.
    fn whole(vectors: &[Vector], terms: usize) -> Self {
        let all: Vec<&Vector> = vectors.iter().collect();
        Self { centres: vec![centre(&all, terms)], group_of: vec![0; vectors.len()] }
    }

    /// Takes vectors as centres, each drawn by how far it lies from those before it.
    fn begun(vectors: &[Vector], terms: usize, groups: usize, seed: u64) -> Self {
        let mut centres: Vec<Vec<f64>> = Vec::new();
        let mut distances = vec![1.0; vectors.len()];
        while centres.len() < groups {
            let draw = draw::unit(seed, &["failures", &groups.to_string(), &centres.len().to_string()]);
            let mut left = draw * distances.iter().sum::<f64>();
            let drawn = distances.iter().position(|distance| {
                left -= distance;
                left < 0.0
            });
            // Rounding may leave a rest behind the last one.
            let next = centre(&[&vectors[drawn.unwrap_or(vectors.len() - 1)]], terms);
            for (distance, vector) in distances.iter_mut().zip(vectors) {
                *distance = distance.min((1.0 - vector.similarity(&next)).max(0.0));
            }
            centres.push(next);
        }
        Self { centres, group_of: Vec::new() }
    }

    /// Moves centres into the middle of what is nearest to them until nothing changes. Groups that nothing is nearest to
    /// are given up.
    fn settled(mut self, vectors: &[Vector], terms: usize) -> Self {
        for _ in 0..MAX_ROUNDS {
            let group_of: Vec<usize> =
                vectors.iter().map(|vector| nearest(vector, &self.centres).0).collect();
            if group_of == self.group_of {
                break;
            }
            let members = |group: usize| {
                let of_group = vectors.iter().zip(&group_of).filter(move |(_, of)| **of == group);
                of_group.map(|(vector, _)| vector).collect::<Vec<_>>()
            };
            let used: Vec<usize> =
                (0..self.centres.len()).filter(|&group| group_of.contains(&group)).collect();
            self.centres = used.iter().map(|&group| centre(&members(group), terms)).collect();
            let renamed = |group: &usize| used.binary_search(group).unwrap_or_default();
            self.group_of = group_of.iter().map(renamed).collect();
        }
        self
    }

    /// How much nearer vectors are to the centre of their own group than to the next one: at most 1. One that is a group
    /// of its own counts nothing, else many groups would always be best.
    fn silhouette(&self, vectors: &[Vector]) -> f64 {
        if self.centres.len() < 2 {
            return 0.0;
        }
        let sizes: Vec<usize> = (0..self.centres.len())
            .map(|group| self.group_of.iter().filter(|&&of| of == group).count())
            .collect();
        let of = |(vector, &group): (&Vector, &usize)| {
            if sizes[group] == 1 {
                return 0.0;
            }
            let own = 1.0 - vector.similarity(&self.centres[group]);
            let others = self.centres.iter().enumerate().filter(|(other, _)| *other != group);
            let next = others.map(|(_, centre)| 1.0 - vector.similarity(centre)).fold(2.0, f64::min);
            let larger = own.max(next);
            if larger > 0.0 { (next - own) / larger } else { 0.0 }
        };
        vectors.iter().zip(&self.group_of).map(of).sum::<f64>() / vectors.len() as f64
    }
}

/// The direction of the sum of some vectors.
pub(in crate::feedback) fn centre(vectors: &[&Vector], terms: usize) -> Vec<f64> {
    let mut sum = vec![0.0; terms];
    for (term, part) in vectors.iter().flat_map(|vector| &vector.0) {
        sum[*term] += part;
    }
    let length = sum.iter().map(|part| part * part).sum::<f64>().sqrt();
    if length > 0.0 {
        sum.iter_mut().for_each(|part| *part /= length);
    }
    sum
}

/// The direction that a vector lies nearest to, the first of several, and how similar it is.
pub(in crate::feedback) fn nearest(vector: &Vector, directions: &[Vec<f64>]) -> (usize, f64) {
    let mut best = (0, f64::NEG_INFINITY);
    for (number, direction) in directions.iter().enumerate() {
        let similarity = vector.similarity(direction);
        if similarity > best.1 {
            best = (number, similarity);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::super::terms::Vocabulary;
    use super::*;

    fn grouped(texts: &[&str], max_groups: usize, seed: u64) -> Vec<usize> {
        let vocabulary = Vocabulary::of(texts.iter().copied());
        let vectors: Vec<Vector> = texts.iter().map(|text| vocabulary.vector(text)).collect();
        Partition::of(&vectors, vocabulary.len(), max_groups, seed).group_of
    }

    #[test]
    fn texts_of_a_kind_come_together_whatever_the_seed() {
        let texts = [
            "how old is the farmer now",
            "the train travels for 3 hours",
            "how old is the baker now",
            "the train travels for 5 hours at night",
            "how old is the teacher",
            "a train travels for 9 hours",
        ];
        for seed in 0..5 {
            let groups = grouped(&texts, 4, seed);
            let same = |a: usize, b: usize| groups[a] == groups[b];
            assert!(
                same(0, 2) && same(2, 4) && same(1, 3) && same(3, 5) && !same(0, 1),
                "{seed}: {groups:?}"
            );
        }
    }

    #[test]
    fn what_is_all_alike_is_one_group() {
        assert_eq!(grouped(&["a red pen"; 6], 4, 0), [0; 6]);
        assert_eq!(grouped(&["one", "two"], 4, 0), [0, 0], "texts without a common term");
        assert_eq!(grouped(&["alone"], 4, 0), [0]);
    }
}
