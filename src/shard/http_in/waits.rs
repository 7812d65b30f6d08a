//! HTTP clients that take too long.
//!
//! ```text
//! Ready      nothing, for the idle time-out              closed; QUIET, when its age is over
//!            part of a head or of a body, see --http-request-timeout    408
//! Ack        request time-out                            504: not ACKed yet; 202 if that was asked for
//! Control    request time-out                            503
//! answers    unread for the request time-out             reset
//! Lingering  LINGER                                      closed
//! ```

use std::time::Duration;

use super::{Client, Clients, Stage};
use crate::context::{Context, Phase};
use crate::port::Io;
use crate::slab::Slot;
use weir_http::HttpError;
use weir_protocol::text::Time;

/// How long a client has to close after its last answer. What it sends meanwhile is thrown away.
const LINGER: Duration = Duration::from_secs(2);

/// A client that is asked to go because of its age, and says nothing for so long, is between two requests: closing
/// does not cross one that is on its way.
const QUIET: Duration = Duration::from_secs(1);

/// What has taken too long.
#[derive(Clone, Copy)]
enum Late {
    Idle,
    Request,
    Ack,
    Control,
    Reading,
    Closing,
}

/// The time that each thing may take.
struct Timeouts {
    head: Duration,
    request: Duration,
    reading: Duration,
    idle: Duration,
}

impl Timeouts {
    fn late<S>(&self, client: &Client<S>, now_ns: u64) -> Option<Late> {
        let passed = |since_ns: u64, limit: Duration| {
            u128::from(now_ns.saturating_sub(since_ns)) >= limit.as_nanos()
        };
        if client.stage == Stage::Gone {
            return None;
        }
        if client.sending_bytes > 0 && passed(client.sending_since_ns, self.reading) {
            return Some(Late::Reading);
        }
        let reads_since_ns = client.unread.waits_since_ns();
        if reads_since_ns.is_some_and(|since_ns| passed(since_ns, self.reading)) {
            return Some(Late::Reading);
        }
        let (limit, late) = match client.stage {
            Stage::Ready if client.reader.in_body() => (self.request, Late::Request),
            Stage::Ready if !client.reader.is_idle() => (self.head, Late::Request),
            Stage::Ready if client.input.is_empty() && client.has_sent_all() => {
                let most = if client.is_dismissed {
                    QUIET
                } else {
                    self.idle
                };
                (self.idle.min(most), Late::Idle)
            }
            Stage::Ack(_) => (self.request, Late::Ack),
            Stage::Control { streams: false } => (self.request, Late::Control),
            Stage::Control { streams: true } => (self.request, Late::Idle),
            Stage::Lingering => (LINGER, Late::Closing),
            // Answers are being sent.
            Stage::Ready | Stage::Closing | Stage::Gone => return None,
        };
        passed(client.since_ns, limit).then_some(late)
    }
}

impl<I: Io> Clients<I> {
    /// Requests that take too long, connections that say nothing, answers that nobody reads.
    pub(crate) fn check_waits(&mut self, cx: &mut Context<I>) {
        self.look_at_all_answers(cx);
        self.look_at_ages(cx);
        let http = &cx.live.http;
        let request = http.request_timeout;
        let timeouts = Timeouts {
            head: http.head_timeout(),
            request,
            reading: if cx.phase == Phase::Running {
                request
            } else {
                request.min(LINGER)
            },
            idle: http.idle_timeout,
        };
        let now_ns = cx.awake_ns;
        let clients = self.table.iter();
        let late: Vec<(Slot, Late)> = clients
            .filter_map(|(slot, client)| Some((slot, timeouts.late(client, now_ns)?)))
            .collect();
        for (slot, found) in late {
            self.on_late(cx, slot, found);
        }
    }

    fn on_late(&mut self, cx: &mut Context<I>, slot: Slot, found: Late) {
        match found {
            Late::Idle | Late::Closing => {
                self.hang_up(cx, slot);
                return;
            }
            Late::Reading => {
                self.refuse("answers_not_read");
                self.abort(cx, slot);
                return;
            }
            Late::Ack => {
                self.answer_late_ack(cx, slot);
                return;
            }
            Late::Request => {
                let limit = Time(cx.live.http.request_timeout);
                let head = Time(cx.live.http.head_timeout());
                let error = HttpError {
                    status: 408,
                    error: "request_timeout",
                    detail: format!(
                        "the head has {head}, the whole request {limit} (--http-request-timeout)"
                    ),
                    close: true,
                };
                self.answer_http_error(cx, slot, &error);
            }
            Late::Control => {
                let Some(client) = self.table.get_mut(slot) else {
                    return;
                };
                client.stage = Stage::Ready;
                client.keep_alive = false;
                self.refuse("control_timeout");
                self.answer_error(
                    cx,
                    slot,
                    503,
                    "Service unavailable",
                    "no answer in time",
                    &[],
                );
            }
        }
        self.after_serving(cx, slot);
    }
}
