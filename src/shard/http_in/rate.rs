//! What answers say of a client's rate.

use crate::admission::Taken;
use weir_config::RateLimit;

/// Headers, as `draft-ietf-httpapi-ratelimit-headers-06` has it.
pub(super) struct RateHeaders {
    limit: String,
    remaining: String,
    reset: String,
    policy: String,
}

impl RateHeaders {
    pub(super) fn new(rate: RateLimit, taken: &Taken) -> RateHeaders {
        let seconds = rate.per.as_secs_f64().ceil();
        RateHeaders {
            limit: rate.requests.to_string(),
            remaining: taken.remaining.to_string(),
            reset: taken.reset_s.to_string(),
            policy: format!("{};w={seconds}", rate.requests),
        }
    }

    /// Names and values.
    pub(super) fn lines(&self) -> [(&'static str, &str); 4] {
        [
            ("RateLimit-Limit", &self.limit),
            ("RateLimit-Remaining", &self.remaining),
            ("RateLimit-Reset", &self.reset),
            ("RateLimit-Policy", &self.policy),
        ]
    }
}
