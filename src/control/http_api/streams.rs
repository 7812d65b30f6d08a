//! `GET /events`: server-sent events, the view twice a second and every event once.
//!
//! ```text
//! event: state   data: what snapshot.rs makes        every step
//! event: log     data: one event   id: its number    after the last that this client has seen
//! ```
//!
//! [`STREAMS_MAX`] at once. A client that is gone is not noticed at once: a page that comes again takes
//! the place of its last stream, a stream ends after [`LIFE`] and its client connects anew, and when
//! all places are taken the oldest that had `LIFE_MIN` makes room.

use std::time::Duration;

use super::http;
use super::response::Response;
use crate::view::json::value;
use crate::view::snapshot::view;
use crate::view::state::State;
use weir_http::Ask;

/// Streams at once; beyond, 503.
pub const STREAMS_MAX: usize = 32;
/// Time between two pieces.
pub const STEP: Duration = Duration::from_millis(500);
/// A stream ends after this; the client's EventSource connects again.
pub const LIFE: Duration = Duration::from_secs(600);
/// A stream is not ended for another's sake before this.
const LIFE_MIN: Duration = Duration::from_secs(30);
/// Events that a new client is given.
const EVENTS_FIRST: u64 = 40;
/// Longest name that a page may give itself.
const PAGE_BYTES_MAX: usize = 64;

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The view; of no use once there is a newer one.
    State,
    /// Events; each is sent once.
    Log,
    /// The last.
    End,
}

/// One of them; `T` is where it goes.
struct Stream<T> {
    to: T,
    page: String,
    seen: u64,
    opened_ns: u64,
}

/// All of them.
pub struct Streams<T> {
    open: Vec<Stream<T>>,
}

impl<T> Default for Streams<T> {
    fn default() -> Self {
        Streams { open: Vec::new() }
    }
}

impl<T> Streams<T> {
    /// Nobody looks.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes a new one. Gives back those that end for it, and the new one if there is no room.
    pub fn open(&mut self, ask: &Ask, to: T, state: &State) -> (Vec<T>, Option<T>) {
        let now_ns = state.now.mono_ns;
        let mut page = ask.parameter("page").unwrap_or_default();
        if page.len() > PAGE_BYTES_MAX {
            page.clear();
        }
        let mut ended = Vec::new();
        let is_same = |stream: &Stream<T>| !page.is_empty() && stream.page == page;
        if let Some(index) = self.open.iter().position(is_same) {
            ended.push(self.open.remove(index).to);
        }
        if self.open.len() >= STREAMS_MAX {
            // The oldest is the first.
            let age_ns = now_ns.saturating_sub(self.open[0].opened_ns);
            if u128::from(age_ns) < LIFE_MIN.as_nanos() {
                return (ended, Some(to));
            }
            ended.push(self.open.remove(0).to);
        }
        self.open.push(Stream {
            to,
            page,
            seen: first_event(ask, state),
            opened_ns: now_ns,
        });
        (ended, None)
    }

    /// Sends everybody the newest; `send` gets chunks.
    pub fn step(&mut self, state: &State, mut send: impl FnMut(&T, Vec<u8>, Part)) {
        if self.open.is_empty() {
            return;
        }
        let newest = state_event(state);
        for stream in &mut self.open {
            send(&stream.to, http::chunk(&newest), Part::State);
            let events = events(state, &mut stream.seen);
            if !events.is_empty() {
                send(&stream.to, http::chunk(&events), Part::Log);
            }
        }
        let now_ns = state.now.mono_ns;
        self.open.retain(|stream| {
            let age_ns = now_ns.saturating_sub(stream.opened_ns);
            let stays = u128::from(age_ns) < LIFE.as_nanos();
            if !stays {
                send(&stream.to, http::chunk(b""), Part::End);
            }
            stays
        });
    }

    /// What goes to the newest one before everything else.
    pub fn greet(&self, send: impl FnOnce(&T)) {
        if let Some(stream) = self.open.last() {
            send(&stream.to);
        }
    }

    /// As [`Streams::step`], for the newest one: it need not wait.
    pub fn step_newest(&mut self, state: &State, send: impl FnOnce(&T, Vec<u8>)) {
        if let Some(stream) = self.open.last_mut() {
            let piece = piece(&state_event(state), state, &mut stream.seen);
            send(&stream.to, http::chunk(&piece));
        }
    }

    /// Ends all.
    pub fn end(&mut self, mut send: impl FnMut(&T, Vec<u8>)) {
        for stream in self.open.drain(..) {
            send(&stream.to, http::chunk(b""));
        }
    }
}

/// The head of a stream, and how soon to come again.
pub fn head() -> (Response, &'static [u8]) {
    let response = Response {
        status: 200,
        content_type: "text/event-stream",
        headers: vec![
            ("Cache-Control", "no-store".into()),
            // Proxies that would gather pieces.
            ("X-Accel-Buffering", "no".into()),
        ],
        body: Vec::new(),
    };
    (response, b"retry: 1000\n\n")
}

/// No room.
pub fn full(ask: &Ask, state: &State) -> Response {
    let text = format!("event streams: {STREAMS_MAX} are open, which is the most");
    Response::error(503, ask, state.now, text).with("Retry-After", "5")
}

/// After which event to begin: what the client has seen, or a few before the newest.
pub fn first_event(ask: &Ask, state: &State) -> u64 {
    let newest = state.events.newest();
    let seen = ask.header("last-event-id").and_then(|id| id.parse().ok());
    // Beyond the newest: of another run.
    let seen = seen.filter(|seen| *seen <= newest);
    seen.unwrap_or(newest.saturating_sub(EVENTS_FIRST))
}

/// The view as an event, the same for everybody.
pub fn state_event(state: &State) -> Vec<u8> {
    format!("event: state\ndata: {}\n\n", view(state)).into_bytes()
}

/// What one client is sent now.
pub fn piece(newest: &[u8], state: &State, seen: &mut u64) -> Vec<u8> {
    let mut piece = newest.to_vec();
    piece.extend(events(state, seen));
    piece
}

/// The events that a client has not seen.
fn events(state: &State, seen: &mut u64) -> Vec<u8> {
    let mut piece = Vec::new();
    for event in state.events.after(*seen) {
        let data = value(event);
        piece.extend(format!("event: log\nid: {}\ndata: {data}\n\n", event.id).into_bytes());
    }
    *seen = state.events.newest();
    piece
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{at, Fake};

    fn ask(page: &str) -> Ask {
        Ask::new("GET", &format!("/events?page={page}"))
    }

    #[test]
    fn places_are_bounded_and_a_page_has_one() {
        let fake = Fake::new(&[1.0]);
        let mut state = fake.state();
        let mut streams = Streams::default();
        for n in 0..STREAMS_MAX {
            assert_eq!(
                streams.open(&ask(&n.to_string()), n, &state),
                (vec![], None)
            );
        }
        assert_eq!(streams.open(&ask("7"), 100, &state), (vec![7], None));
        assert_eq!(streams.open(&ask(""), 101, &state), (vec![], Some(101)));
        fake.note(&mut state, 5000 + 31_000);
        assert_eq!(
            streams.open(&ask(""), 102, &state),
            (vec![0], None),
            "the oldest has had its time"
        );
        assert_eq!(streams.open.len(), STREAMS_MAX);
    }

    #[test]
    fn every_event_comes_once_and_streams_end() {
        let mut fake = Fake::new(&[1.0]);
        let mut state = fake.state();
        let mut streams = Streams::default();
        streams.open(&ask(""), 1, &state);
        let step = |streams: &mut Streams<i32>, state: &State| {
            let mut sent = Vec::new();
            streams.step(state, |_, bytes, part| {
                sent.push((String::from_utf8(bytes).expect("text"), part));
            });
            sent
        };
        let sent = step(&mut streams, &state);
        assert!(sent[0].0.contains("event: state\ndata: {") && sent[1].0.contains("id: 1\n"));
        assert_eq!((sent[0].1, sent[1].1), (Part::State, Part::Log));
        assert_eq!(step(&mut streams, &state).len(), 1, "no event twice");
        fake.join("a2", 1.0);
        fake.note(&mut state, 6000);
        let sent = step(&mut streams, &state);
        assert!(sent[1].0.contains("a2") && sent[1].0.contains("id: 2\n"));
        fake.note(&mut state, 606_000);
        let sent = step(&mut streams, &state);
        assert_eq!(sent.last(), Some(&("0\r\n\r\n".to_owned(), Part::End)));
        assert!(streams.is_empty());
    }

    #[test]
    fn a_client_goes_on_where_it_was() {
        let mut state = Fake::new(&[1.0]).state();
        for n in 0..100 {
            state.events.push(at(0), "note", "".into(), n.to_string());
        }
        let mut ask = ask("");
        assert_eq!(first_event(&ask, &state), 101 - EVENTS_FIRST);
        ask.headers.push(("last-event-id".into(), "99".into()));
        assert_eq!(first_event(&ask, &state), 99);
        ask.headers[0].1 = "5000".into();
        assert_eq!(
            first_event(&ask, &state),
            101 - EVENTS_FIRST,
            "of another run"
        );
    }
}
