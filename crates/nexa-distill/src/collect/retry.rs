//! When a call that failed is made again.

use std::time::Duration;

use crate::client::Failure;
use crate::draw;

/// The wait before the first retry.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait that is not the provider's own wish.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest wish that is followed; past a day the account is as good as closed.
const LONGEST_WISH: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait before attempt `attempt` (1 is the first retry): as long as the provider asks, else twice as long
/// each time, less up to half by a jitter that the call itself decides, so that calls that failed together do not come
/// back together. `None` where asking again would not help.
pub(super) fn delay(failure: &Failure, key: &str, attempt: u32) -> Option<Duration> {
    match failure {
        Failure::RateLimited { retry_after: Some(wait), .. } => Some((*wait).min(LONGEST_WISH)),
        Failure::RateLimited { retry_after: None, .. }
        | Failure::Server(_)
        | Failure::Connection(_)
        | Failure::Timeout(_)
        | Failure::Malformed(_) => {
            let doubled = FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST);
            Some(doubled.mul_f64(1.0 - 0.5 * draw::unit(u64::from(attempt), &[key])))
        }
        Failure::Auth(_) | Failure::NoCredit(_) | Failure::NotFound(_) | Failure::BadRequest(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_jitter_and_end_at_a_minute() {
        let check = |attempt, low_ms, high_ms| {
            let wait = delay(&Failure::Server(String::new()), "key", attempt).unwrap().as_millis();
            assert!((low_ms..=high_ms).contains(&wait), "{attempt}: {wait}");
        };
        check(1, 250, 500);
        check(2, 500, 1_000);
        check(5, 4_000, 8_000);
        check(30, 30_000, 60_000);
    }

    #[test]
    fn the_providers_wish_is_followed_and_the_hopeless_is_not_tried_again() {
        let limited = |seconds| Failure::RateLimited {
            retry_after: Some(Duration::from_secs(seconds)),
            message: String::new(),
        };
        assert_eq!(delay(&limited(0), "key", 1), Some(Duration::ZERO));
        assert_eq!(delay(&limited(900), "key", 1), Some(Duration::from_secs(900)));
        assert_eq!(delay(&Failure::BadRequest(String::new()), "key", 1), None);
        assert_eq!(delay(&Failure::Auth(String::new()), "key", 1), None);
    }
}
