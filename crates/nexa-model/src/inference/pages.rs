//! The memory of all sequences: a budget of pages, and the prompts whose pages are kept for whoever begins the same.
//!
//! A page that is full is known by the tokens in it and by the page before it, so a prompt finds the longest beginning
//! that is there by walking from page to page; tokens are compared, never hashes of them. Pages of sequences that are
//! over stay until their place is needed, the one that was used longest ago first, and never before the pages that
//! follow it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::kernels::cache::{PAGE_TOKENS, Page, PageShape};

/// Names a full page together with all before it, and the weights that computed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum PageId {
    /// What comes before the first page of sequences of one adapter; of 0, for those without.
    Root(u64),
    /// A full page.
    Full(u64),
}

/// A full page by what it holds: the page before it and its tokens.
type Key = (PageId, [u32; PAGE_TOKENS]);

/// Pages in use, free and remembered.
#[derive(Debug)]
pub(super) struct Pool {
    shape: PageShape,
    /// Pages that may be in memory.
    budget: usize,
    /// Pages that are held by sequences or remembered.
    used: usize,
    free: Vec<Page>,
    /// Whether full pages are remembered.
    remembers: bool,
    known: HashMap<Key, Known>,
    /// Remembered pages that no sequence holds. Whoever holds a page holds those before it, so all of them can go.
    idle: usize,
    /// Where a page stands in `known`.
    keys: HashMap<PageId, Key>,
    next_id: u64,
    clock: u64,
    pub(super) asked_tokens: u64,
    pub(super) found_tokens: u64,
}

/// A page that is remembered.
#[derive(Debug)]
struct Known {
    id: PageId,
    page: Arc<Page>,
    used_at: u64,
    /// Remembered pages that follow it.
    children: usize,
}

impl Known {
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.page) == 1
    }
}

impl Pool {
    pub(super) fn new(shape: PageShape, budget: usize, remembers: bool) -> Self {
        Self {
            shape,
            budget,
            used: 0,
            free: Vec::new(),
            remembers,
            known: HashMap::new(),
            idle: 0,
            keys: HashMap::new(),
            next_id: 1,
            clock: 0,
            asked_tokens: 0,
            found_tokens: 0,
        }
    }

    pub(super) fn shape(&self) -> PageShape {
        self.shape
    }

    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// Whether full pages are remembered.
    pub(super) fn remembers(&self) -> bool {
        self.remembers
    }

    /// Pages that sequences hold now.
    pub(super) fn held(&self) -> usize {
        self.used - self.idle
    }

    /// Pages that could be had now.
    pub(super) fn available(&self) -> usize {
        self.budget - self.used + self.idle
    }

    /// Finds the pages that the beginning of a prompt fills under a root, and the name of the last.
    pub(super) fn find(&mut self, root: PageId, tokens: &[u32]) -> (Vec<Arc<Page>>, PageId) {
        self.clock += 1;
        self.asked_tokens += tokens.len() as u64;
        let (mut pages, mut last) = (Vec::new(), root);
        for tokens in tokens.as_chunks::<PAGE_TOKENS>().0 {
            let Some(known) = self.known.get_mut(&(last, *tokens)) else { break };
            known.used_at = self.clock;
            self.idle -= usize::from(known.is_idle());
            last = known.id;
            pages.push(Arc::clone(&known.page));
        }
        self.found_tokens += (pages.len() * PAGE_TOKENS) as u64;
        (pages, last)
    }

    /// Hands out an empty page; none where the budget is spent on pages that are held.
    pub(super) fn take(&mut self) -> Option<Arc<Page>> {
        if self.used == self.budget {
            self.forget_oldest()?;
        }
        self.used += 1;
        Some(Arc::new(match self.free.pop() {
            Some(mut page) => {
                page.clear();
                page
            }
            None => Page::new(self.shape),
        }))
    }

    /// Takes back a page that a sequence held.
    pub(super) fn give_back(&mut self, page: Arc<Page>) {
        match Arc::try_unwrap(page) {
            Ok(page) => {
                self.used -= 1;
                self.free.push(page);
            }
            // The other holder is the memory of this pool.
            Err(page) => self.idle += usize::from(Arc::strong_count(&page) == 2),
        }
    }

    /// Remembers a full page, and returns its name. Where the same page is known already, the sequence goes on with
    /// that one, whose numbers are the same.
    pub(super) fn remember(
        &mut self,
        before: PageId,
        tokens: [u32; PAGE_TOKENS],
        page: &mut Arc<Page>,
    ) -> PageId {
        self.clock += 1;
        let clock = self.clock;
        if let Some(known) = self.known.get_mut(&(before, tokens)) {
            known.used_at = clock;
            self.idle -= usize::from(known.is_idle());
            let (id, same) = (known.id, Arc::clone(&known.page));
            self.give_back(std::mem::replace(page, same));
            return id;
        }
        let id = PageId::Full(self.next_id);
        self.next_id += 1;
        if !self.remembers {
            return id;
        }
        // A page whose predecessor was forgotten can never be found, so it is not remembered either.
        if let PageId::Full(_) = before {
            let Some(key) = self.keys.get(&before) else { return id };
            if let Some(parent) = self.known.get_mut(key) {
                parent.children += 1;
            }
        }
        self.keys.insert(id, (before, tokens));
        self.known
            .insert((before, tokens), Known { id, page: Arc::clone(page), used_at: clock, children: 0 });
        id
    }

    /// Forgets the page that was used longest ago, of those that nobody holds and that none follows.
    fn forget_oldest(&mut self) -> Option<()> {
        let idle = self.known.iter().filter(|(_, known)| known.is_idle() && known.children == 0);
        let key = *idle.min_by_key(|(_, known)| (known.used_at, known.id))?.0;
        let known = self.known.remove(&key)?;
        self.idle -= 1;
        self.keys.remove(&known.id);
        if let Some(parent) = self.keys.get(&key.0).and_then(|key| self.known.get_mut(key)) {
            parent.children -= 1;
        }
        self.give_back(known.page);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::small;
    use crate::kernels::cache::CacheNumber;

    fn pool(budget: usize) -> Pool {
        Pool::new(PageShape { layers: 1, heads: small().heads(), number: CacheNumber::F32 }, budget, true)
    }

    fn tokens(first: u32) -> [u32; PAGE_TOKENS] {
        std::array::from_fn(|i| first + i as u32)
    }

    /// What comes before the first page of every sequence without an adapter.
    const ROOT: PageId = PageId::Root(0);

    /// How many pages of a prompt are found, and the name of the last.
    fn found(pool: &mut Pool, prompt: &[u32]) -> (usize, PageId) {
        let (pages, id) = pool.find(ROOT, prompt);
        let count = pages.len();
        pages.into_iter().for_each(|page| pool.give_back(page));
        (count, id)
    }

    #[test]
    fn what_was_filled_is_found_by_who_begins_the_same() {
        let mut pool = pool(4);
        let mut pages = [pool.take().expect("room"), pool.take().expect("room")];
        let first = pool.remember(ROOT, tokens(0), &mut pages[0]);
        let second = pool.remember(first, tokens(100), &mut pages[1]);
        let prompt = [tokens(0), tokens(100), tokens(200)].concat();
        let check = |pool: &mut Pool, prompt: &[u32], expected: usize, last: PageId| {
            assert_eq!(found(pool, prompt), (expected, last));
        };
        check(&mut pool, &prompt, 2, second);
        check(&mut pool, &prompt[..31], 1, first);
        check(&mut pool, &tokens(100), 0, ROOT);
        assert_eq!((pool.asked_tokens, pool.found_tokens), (48 + 31 + 16, 48));
        assert_eq!((pool.held(), pool.available()), (2, 2));
        pages.into_iter().for_each(|page| pool.give_back(page));
        assert_eq!((pool.held(), pool.available()), (0, 4));
    }

    #[test]
    fn adapters_share_no_pages() {
        let mut pool = pool(3);
        let mut page = pool.take().expect("room");
        pool.remember(PageId::Root(7), tokens(0), &mut page);
        assert_eq!(found(&mut pool, &tokens(0)), (0, ROOT));
        let (pages, _) = pool.find(PageId::Root(7), &tokens(0));
        assert!(Arc::ptr_eq(&pages[0], &page));
        assert_eq!((pool.held(), pool.available()), (1, 2));
        pages.into_iter().chain([page]).for_each(|page| pool.give_back(page));
        assert_eq!((pool.held(), pool.available()), (0, 3));
    }

    #[test]
    fn the_same_page_is_kept_once() {
        let mut pool = pool(2);
        let (mut one, mut other) = (pool.take().expect("room"), pool.take().expect("room"));
        assert!(pool.take().is_none());
        let id = pool.remember(ROOT, tokens(0), &mut one);
        assert_eq!(pool.remember(ROOT, tokens(0), &mut other), id);
        assert!(Arc::ptr_eq(&one, &other));
        assert!(pool.take().is_some() && pool.take().is_none());
    }

    #[test]
    fn the_oldest_goes_first_and_never_before_what_follows_it() {
        let mut pool = pool(3);
        let mut pages: Vec<_> = (0..3).map(|_| pool.take().expect("room")).collect();
        let root = pool.remember(ROOT, tokens(0), &mut pages[0]);
        pool.remember(root, tokens(20), &mut pages[1]);
        pool.remember(root, tokens(40), &mut pages[2]);
        pages.into_iter().for_each(|page| pool.give_back(page));
        // The first of the two that follow is used again, so the other is the oldest.
        found(&mut pool, &[tokens(0), tokens(20)].concat());
        let held = pool.take().expect("room");
        assert_eq!(found(&mut pool, &[tokens(0), tokens(40)].concat()).0, 1);
        assert_eq!(found(&mut pool, &[tokens(0), tokens(20)].concat()).0, 2);
        let more = [pool.take().expect("room"), pool.take().expect("room")];
        assert!(pool.take().is_none() && pool.known.is_empty() && pool.keys.is_empty());
        pool.give_back(held);
        more.into_iter().for_each(|page| pool.give_back(page));
        assert_eq!(pool.available(), 3);
    }

    #[test]
    fn a_page_in_use_is_never_forgotten() {
        let mut pool = pool(1);
        let mut page = pool.take().expect("room");
        pool.remember(ROOT, tokens(0), &mut page);
        assert!(pool.take().is_none());
        pool.give_back(page);
        assert!(pool.take().is_some());
        assert_eq!(found(&mut pool, &tokens(0)).0, 0);
    }
}
