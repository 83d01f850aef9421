//! Which examples stand before a question.
//!
//! # Source
//! The samplers of lm-evaluation-harness: at random by one stream of Python's numbers, which goes on from document to
//! document, or the first ones. A document is never its own example: where both come from one split, one more is drawn
//! and the document itself left out.

use nexa_core::table::Row;

use crate::Result;
use crate::harness::python::MersenneTwister;
use crate::harness::spec::{Sampler, Spec};

/// Chooses examples, document by document.
pub(crate) struct Examples<'a> {
    spec: &'a Spec,
    pool: &'a [Row],
    /// Positions in the pool that there are to choose from.
    open: Vec<usize>,
    sampler: Sampler,
    stream: MersenneTwister,
    /// Whether documents and examples come from the same split.
    is_shared: bool,
}

impl<'a> Examples<'a> {
    /// Begins with the examples of a task.
    ///
    /// # Errors
    /// Fails where the task names an example that there is not.
    pub(crate) fn new(spec: &'a Spec, pool: &'a [Row], seed: u64) -> Result<Self> {
        let config = spec.fewshot_config.as_ref();
        let sampler = config.map(|config| config.sampler).unwrap_or_default();
        let indices = config.and_then(|config| config.fewshot_indices.as_ref());
        let open: Vec<usize> = match indices.filter(|_| sampler == Sampler::Default) {
            Some(indices) => indices.clone(),
            None => (0..pool.len()).collect(),
        };
        if let Some(at) = open.iter().find(|&&at| at >= pool.len()) {
            let message = format!("there is no example {at}; there are {}, counted from 0", pool.len());
            return Err(spec.error("fewshot_config.fewshot_indices", message));
        }
        let is_shared = spec.stated_examples_split() == spec.test_split.as_deref();
        Ok(Self { spec, pool, open, sampler, stream: MersenneTwister::new(seed), is_shared })
    }

    /// The positions of `count` examples for a document.
    ///
    /// # Errors
    /// Fails where there are not so many.
    pub(crate) fn choose(&mut self, count: usize, document: &Row) -> Result<Vec<usize>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let is_other = |at: &usize| !self.is_shared || &self.pool[*at] != document;
        let chosen: Vec<usize> = match self.sampler {
            Sampler::FirstN => self.open.iter().copied().filter(is_other).take(count).collect(),
            Sampler::Default => {
                let drawn = self.stream.sample(self.open.len(), count + usize::from(self.is_shared));
                drawn.into_iter().map(|at| self.open[at]).filter(is_other).take(count).collect()
            }
        };
        if chosen.len() < count {
            let message = format!("{count} examples are wanted of the {} that there are", self.open.len());
            return Err(self.spec.error("num_fewshot", message));
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rows(n: usize) -> Vec<Row> {
        let row = |at| match json!({"n": at}) {
            Value::Object(row) => row,
            _ => Row::new(),
        };
        (0..n).map(row).collect()
    }

    fn choose(task: &str, pool: usize, count: usize) -> Result<Vec<Vec<usize>>, String> {
        let value = nexa_core::config::parse_yaml(task, "task").unwrap();
        let spec: Spec = nexa_core::config::from_value(value, "task").unwrap();
        let pool = rows(pool);
        let mut examples = Examples::new(&spec, &pool, 1234).map_err(|error| error.to_string())?;
        let two = pool.iter().take(2).map(|document| examples.choose(count, document));
        two.collect::<Result<_>>().map_err(|error| error.to_string())
    }

    /// Expected: CPython 3.11.7, `random.Random(1234).sample`.
    #[test]
    fn one_stream_goes_through_all_documents() {
        let gsm8k = "{training_split: train, fewshot_split: train, test_split: test}";
        let found = choose(gsm8k, 7473, 5).unwrap();
        assert_eq!(found, [[6374, 3610, 957, 61, 742], [7462, 6610, 4769, 286, 5501]]);
    }

    /// Expected: of `sample(range(20), 5)`, 14, 3, 0, 2, 1, what is left without the document, and four of it.
    #[test]
    fn a_document_is_not_its_own_example() {
        let found = choose("{fewshot_split: test, test_split: test}", 20, 4).unwrap();
        assert_eq!(found[0], [14, 3, 2, 1]);
        let first =
            choose("{fewshot_split: test, test_split: test, fewshot_config: {sampler: first_n}}", 5, 2);
        assert_eq!(first.unwrap(), [[1, 2], [0, 2]]);
    }

    #[test]
    fn what_is_not_there_cannot_be_chosen() {
        let check = |task: &str, expected: &str| {
            let error = choose(task, 3, 4).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("{fewshot_split: train, test_split: test}", "4 examples are wanted of the 3");
        check("{fewshot_config: {fewshot_indices: [1, 9]}}", "there is no example 9");
    }
}
