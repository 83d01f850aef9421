//! Threads that stand by, for work that is over in microseconds.
//!
//! Writing a token passes through some 150 products one after the other, each done in about 50 microseconds. A pool whose threads
//! sleep between them spends as long on waking them. The members of a team look for the next work for a while before
//! they sleep, and whoever has work to share takes parts of it too, so that nothing waits for a thread that the system
//! has given to somebody else: a member who comes late finds no part left.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a member looks for work before it sleeps, and whoever shares work for its end before others may run.
const PATIENCE: Duration = Duration::from_micros(100);
/// How often is looked before the clock is.
const LOOKS: usize = 256;
/// Parts of one piece of work at most.
const MOST_PARTS: usize = u16::MAX as usize;

/// The threads of this process.
static TEAM: LazyLock<Team> = LazyLock::new(|| Team::new(rayon::current_num_threads()));

/// Number of threads that share work.
pub(crate) fn threads() -> usize {
    TEAM.members.len() + 1
}

/// Into how many parts a product of so many multiply-adds is worth splitting: more than there are threads, so that one that
/// is held up delays no other.
pub(crate) fn parts(multiply_adds: usize) -> usize {
    /// Multiply-adds below which a part costs more than it brings.
    const WORTH_A_PART: usize = 1 << 16;
    const PARTS_PER_THREAD: usize = 4;
    (multiply_adds / WORTH_A_PART).clamp(1, PARTS_PER_THREAD * threads())
}

/// Calls `work` once for every part, on as many threads as there are. Parts are taken in their order, by whoever is
/// free; where the threads are busy with other work, the caller does all of them.
///
/// # Panics
/// Panics when `work` does, once all parts are over.
pub(crate) fn each(parts: usize, work: impl Fn(usize) + Sync) {
    TEAM.run(parts, &work);
}

/// As [`each`], over the pieces of a slice, `len` numbers long each but for the last.
pub(crate) fn chunks<T: Send>(slice: &mut [T], len: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    if slice.is_empty() {
        return;
    }
    tasks(slice.chunks_mut(len), work);
}

/// As [`each`], over things that each go to one call.
pub(crate) fn tasks<T: Send>(things: impl Iterator<Item = T>, work: impl Fn(usize, T) + Sync) {
    let things: Vec<Mutex<Option<T>>> = things.map(|thing| Mutex::new(Some(thing))).collect();
    each(things.len(), |index| {
        let thing = things[index].lock().unwrap_or_else(PoisonError::into_inner).take();
        work(index, thing.expect("every part is taken once"));
    });
}

/// Work of which parts are left, as its members see it.
type Work = *const (dyn Fn(usize) + Sync);

struct Team {
    members: Vec<Member>,
    shared: &'static Shared,
    /// Held by who shares work.
    leader: Mutex<()>,
}

/// A thread of a team.
struct Member {
    thread: Thread,
    is_asleep: &'static AtomicBool,
}

/// What a team's threads look at.
struct Shared {
    /// Which work is on, how many parts it has and which is taken next, in one word, so that a part of one piece of work
    /// is never taken for that of another. See [`Offer`].
    offer: AtomicU64,
    /// Parts of the work that are over.
    over: AtomicUsize,
    /// The work; only read by who has taken a part of it that is not over.
    work: WorkCell,
    has_panicked: AtomicBool,
}

/// What [`Shared::offer`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offer {
    round: u32,
    parts: u16,
    next: u16,
}

impl Offer {
    fn of(word: u64) -> Self {
        Self { round: (word >> 32) as u32, parts: (word >> 16) as u16, next: word as u16 }
    }

    fn word(self) -> u64 {
        u64::from(self.round) << 32 | u64::from(self.parts) << 16 | u64::from(self.next)
    }
}

/// The place of the work.
struct WorkCell(Cell<Option<Work>>);

#[expect(unsafe_code, reason = "a pointer to work on a caller's stack is not `Sync` by itself")]
// SAFETY: the leader alone writes, and only while all parts of the work before are over; members read only after they
// took a part that is not over, which the leader waits for. The word of the offer orders both (release, acquire).
unsafe impl Sync for WorkCell {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above; what it points to is `Sync`.
unsafe impl Send for WorkCell {}

impl Shared {
    /// Takes parts of the offered work until none is left, and does them.
    fn help(&self) {
        let mut word = self.offer.load(Ordering::Acquire);
        loop {
            let offer = Offer::of(word);
            if offer.next >= offer.parts {
                return;
            }
            let taken = Offer { next: offer.next + 1, ..offer }.word();
            match self.offer.compare_exchange_weak(word, taken, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => self.part(usize::from(offer.next)),
                Err(now) => {
                    word = now;
                    continue;
                }
            }
            word = self.offer.load(Ordering::Acquire);
        }
    }

    /// Does a part that the caller has taken.
    fn part(&self, index: usize) {
        let work = self.work.0.get().expect("a part is taken of work that is there");
        #[expect(unsafe_code, reason = "the work lies on the stack of the thread that shares it")]
        // SAFETY: the leader does not return, and so the work lives, before this part counts as over.
        let work = unsafe { &*work };
        if catch_unwind(AssertUnwindSafe(|| work(index))).is_err() {
            self.has_panicked.store(true, Ordering::Relaxed);
        }
        self.over.fetch_add(1, Ordering::Release);
    }

    /// Whether parts are left to take.
    fn has_parts(&self) -> bool {
        let offer = Offer::of(self.offer.load(Ordering::SeqCst));
        offer.next < offer.parts
    }
}

impl Team {
    /// Starts threads, one less than there shall be, as the caller is one of them. They end with the process.
    fn new(threads: usize) -> Self {
        let shared: &'static Shared = Box::leak(Box::new(Shared {
            offer: AtomicU64::new(0),
            over: AtomicUsize::new(0),
            work: WorkCell(Cell::new(None)),
            has_panicked: AtomicBool::new(false),
        }));
        let start = |index: usize| {
            let is_asleep: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
            let name = format!("nexa-team-{index}");
            let stand_by = move || stand_by(shared, is_asleep);
            // Without a thread there is one member less: the others do its parts.
            let handle = thread::Builder::new().name(name).spawn(stand_by).ok()?;
            Some(Member { thread: handle.thread().clone(), is_asleep })
        };
        Self { members: (1..threads).filter_map(start).collect(), shared, leader: Mutex::new(()) }
    }

    /// See [`each`].
    fn run(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        let leader = if parts > 1 && parts <= MOST_PARTS && !self.members.is_empty() {
            self.leader.try_lock().ok()
        } else {
            None
        };
        let Some(leader) = leader else { return (0..parts).for_each(work) };
        let shared = self.shared;
        shared.over.store(0, Ordering::Relaxed);
        #[expect(
            unsafe_code,
            reason = "the threads outlive the work, which they only touch before this returns"
        )]
        // SAFETY: only the lifetime changes. The pointer is read by who does a part, and this waits for every part.
        let work: Work = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Work>(work) };
        shared.work.0.set(Some(work));
        let round = Offer::of(shared.offer.load(Ordering::Relaxed)).round.wrapping_add(1);
        shared.offer.store(Offer { round, parts: parts as u16, next: 0 }.word(), Ordering::SeqCst);
        for member in &self.members {
            if member.is_asleep.swap(false, Ordering::SeqCst) {
                member.thread.unpark();
            }
        }
        shared.help();
        while !comes_true(|| shared.over.load(Ordering::Acquire) == parts) {
            thread::yield_now();
        }
        let has_panicked = shared.has_panicked.swap(false, Ordering::Relaxed);
        drop(leader);
        if has_panicked {
            resume_unwind(Box::new("a part of shared work panicked"));
        }
    }
}

/// The life of a member: help, look for more, sleep.
fn stand_by(shared: &Shared, is_asleep: &AtomicBool) {
    loop {
        shared.help();
        while !comes_true(|| shared.has_parts()) {
            // Either the leader sees that this one sleeps, or this one sees the offer.
            is_asleep.store(true, Ordering::SeqCst);
            if !shared.has_parts() {
                thread::park();
            }
            is_asleep.store(false, Ordering::SeqCst);
        }
    }
}

/// Looks whether something has become true, for a while. It does so without the instruction that tells a processor of such
/// loops, which gives a virtual one away to others.
fn comes_true(condition: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if (0..LOOKS).any(|_| condition()) {
            return true;
        }
        if began.elapsed() > PATIENCE {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once_however_many_share_the_team() {
        let callers: Vec<_> = (0..4_usize)
            .map(|caller| {
                thread::spawn(move || {
                    for round in 0..2_000 {
                        let mut counts = vec![0_usize; (caller * 7 + round) % 50];
                        chunks(&mut counts, 1, |index, count| count[0] += index + 1);
                        assert!(counts.iter().enumerate().all(|(index, &count)| count == index + 1));
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().expect("no part is lost"));
    }

    #[test]
    fn a_panic_reaches_the_caller_after_all_parts_and_the_team_goes_on() {
        let team = Team::new(3);
        let done = AtomicUsize::new(0);
        let panics = |index: usize| {
            done.fetch_add(1, Ordering::Relaxed);
            assert!(index != 5, "as planned");
        };
        assert!(catch_unwind(AssertUnwindSafe(|| team.run(20, &panics))).is_err());
        assert_eq!(done.load(Ordering::Relaxed), 20);
        team.run(20, &|_| _ = done.fetch_add(1, Ordering::Relaxed));
        assert_eq!(done.load(Ordering::Relaxed), 40);
    }

    #[test]
    fn members_that_sleep_are_woken() {
        let team = Team::new(2);
        let member = &team.members[0];
        for _ in 0..20 {
            while !member.is_asleep.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            // Both parts wait for each other, so one thread alone cannot do them.
            let both = std::sync::Barrier::new(2);
            team.run(2, &|_| _ = both.wait());
        }
    }

    #[test]
    fn an_offer_is_its_word() {
        let offer = Offer { round: u32::MAX, parts: 300, next: 299 };
        assert_eq!(Offer::of(offer.word()), offer);
    }
}
