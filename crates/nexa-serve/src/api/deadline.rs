//! When a request must have been answered, and what becomes of its answer then.

use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::error::ApiError;

/// Items of an answer that may wait for the client to read those before them.
const AHEAD: usize = 64;

/// When a request must have been answered, if ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Option<(Instant, Duration)>);

impl Deadline {
    /// That of a request that has come now and may take so long.
    pub(super) fn of(timeout: Option<Duration>) -> Self {
        Self(timeout.map(|timeout| (Instant::now() + timeout, timeout)))
    }

    /// Waits for the deadline, for ever where there is none, and gives what the client is told then.
    pub(super) async fn passed(self) -> ApiError {
        match self.0 {
            None => std::future::pending().await,
            Some((at, timeout)) => {
                tokio::time::sleep_until(at).await;
                ApiError::timed_out(timeout)
            }
        }
    }

    /// Does some work, but only until the deadline. What is dropped then is cancelled.
    pub(super) async fn bound<T>(
        self,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        tokio::select! {
            done = work => done,
            late = self.passed() => Err(late),
        }
    }

    /// Passes the items of an answer on. At the deadline the answer is dropped, and what the client is told comes last.
    ///
    /// A connection asks for no more of a body while the client leaves unread what it was sent, so a task of its own keeps
    /// the time. It ends, and drops the answer, as soon as what this returns is dropped.
    pub(super) fn end<T: Send + 'static>(
        self,
        answer: impl Stream<Item = T> + Send + 'static,
    ) -> impl Stream<Item = Result<T, ApiError>> + Send + 'static {
        let (sender, items) = mpsc::channel(AHEAD);
        let passing = tokio::spawn(pass(answer, sender, self));
        stream::unfold(Some((items, passing)), |state| async move {
            let (mut items, passing) = state?;
            match items.recv().await {
                Some(item) => Some((Ok(item), Some((items, passing)))),
                None => {
                    let late = passing.await.ok().flatten()?;
                    Some((Err(late), None))
                }
            }
        })
    }
}

/// Sends items until there are no more, nobody wants them, or the deadline has passed, of which the client is told.
async fn pass<T>(
    answer: impl Stream<Item = T>,
    sender: mpsc::Sender<T>,
    deadline: Deadline,
) -> Option<ApiError> {
    let mut answer = pin!(answer);
    let passed_on = async {
        while let Some(item) = answer.next().await {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        // What is there goes out first, however late it is.
        biased;
        () = passed_on => None,
        () = sender.closed() => None,
        // An answer that is always ready uses up what tokio lets a task do at a time; the clock must count all the same.
        late = tokio::task::unconstrained(deadline.passed()) => Some(late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_reads_is_dropped_at_the_deadline() {
        let (alive, mut dropped) = mpsc::channel::<()>(1);
        let endless = stream::repeat(7).map(move |item| {
            assert!(!alive.is_closed());
            item
        });
        let timeout = Duration::from_millis(20);
        let items = Deadline::of(Some(timeout)).end(endless);
        // Nothing is read, and yet the answer goes.
        assert_eq!(dropped.recv().await, None);
        let items: Vec<Result<i32, ApiError>> = items.collect().await;
        let (last, before) = items.split_last().expect("items were sent ahead");
        assert_eq!(before.len(), AHEAD);
        assert!(before.iter().all(Result::is_ok));
        assert_eq!(last.as_ref().expect_err("it is late").status(), 504);
    }

    #[tokio::test]
    async fn an_answer_in_time_is_passed_on_whole_and_one_that_nobody_wants_is_dropped() {
        let items = Deadline::of(None).end(stream::iter(0..1000));
        let items: Vec<i32> = items.map(|item| item.expect("there is no deadline")).collect().await;
        assert!(items.into_iter().eq(0..1000));

        let (alive, mut dropped) = mpsc::channel::<()>(1);
        let waiting = stream::pending::<()>().map(move |()| drop(alive.clone()));
        drop(Deadline::of(None).end(waiting));
        assert_eq!(dropped.recv().await, None);
    }
}
