//! What a client wants of its answer: the query of `POST /logs`, and header `Prefer` (RFC 7240).
//!
//! ```text
//! ?wait=acked     Prefer: wait=acked       the answer comes when analyzers have ACKed
//!                 Prefer: respond-async    with it: time that runs out is 202, not 504
//! ?split=true                              each message goes its own way
//! ```

use weir_http as http;
use weir_http::{BodyKind, Request};

/// How much of a client's word an error repeats.
const SHOWN_CHARS_MAX: usize = 60;
const WAITS: &str = "allowed: acked, queued";
const SPLITS: &str = "allowed: true, false";

/// What a client wants of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preferences {
    /// Analyzers are to have ACKed.
    pub(super) waits: bool,
    /// It takes 202 as well.
    pub(super) is_async: bool,
    /// Whether the packet is to be divided, if it says so.
    split: Option<bool>,
}

impl Preferences {
    /// Those of a request. The query goes before the header.
    ///
    /// # Errors
    /// The query asks for something else; what is allowed. A client that misspells what it asks for would go on
    /// as if it had got it. Preferences that are not known are ignored, as RFC 7240 wants it, but for `wait`
    /// itself.
    pub(super) fn of(request: &Request) -> Result<Preferences, String> {
        let (mut wait, split) = of_query(request.query)?;
        let mut is_async = false;
        for preference in request
            .headers("prefer")
            .flat_map(|value| value.split([',', ';']))
        {
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            is_async |= name.eq_ignore_ascii_case("respond-async");
            if name.eq_ignore_ascii_case("wait") {
                wait = wait.or(wait_of_header(value)?);
            }
        }
        Ok(Preferences {
            waits: wait.unwrap_or(false),
            is_async,
            split,
        })
    }

    /// Whether each message goes its own way. Lines are no unit: who waits for their ACKs means each of them.
    pub(super) fn divides(&self, request: &Request) -> bool {
        let is_lines = || matches!(http::body_kind(request.content_type), Ok(BodyKind::Lines));
        self.split.unwrap_or_else(|| self.waits && is_lines())
    }
}

/// `wait` and `split`.
fn of_query(query: &str) -> Result<(Option<bool>, Option<bool>), String> {
    let (mut wait, mut split) = (None, None);
    for (name, value) in http::parameters(query) {
        let Some(value) = value else {
            let name = shown(name);
            return Err(format!(
                "query {name}: its value is not UTF-8 in percent encoding"
            ));
        };
        match (name, &*value) {
            ("wait", _) if wait.is_some() => return Err("query wait is there twice".to_owned()),
            ("wait", "acked") => wait = Some(true),
            ("wait", "queued") => wait = Some(false),
            ("wait", value) => return Err(format!("query wait={}: {WAITS}", shown(value))),
            ("split", _) if split.is_some() => return Err("query split is there twice".to_owned()),
            ("split", "true") => split = Some(true),
            ("split", "false") => split = Some(false),
            ("split", value) => return Err(format!("query split={}: {SPLITS}", shown(value))),
            ("emitterId", _) => {}
            (name, _) => {
                let name = shown(name);
                return Err(format!(
                    "query {name}: not known; allowed: wait, split, emitterId"
                ));
            }
        }
    }
    Ok((wait, split))
}

fn wait_of_header(value: &str) -> Result<Option<bool>, String> {
    // A number of seconds is what RFC 7240 has under this name.
    let is_time = value.bytes().all(|byte| byte.is_ascii_digit());
    match value {
        "acked" => Ok(Some(true)),
        "queued" => Ok(Some(false)),
        _ if is_time => Ok(None),
        value => Err(format!("header Prefer: wait={}: {WAITS}", shown(value))),
    }
}

/// A client's word in an error: quoted, cut.
pub(super) fn shown(text: &str) -> String {
    let text: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{text:?}")
}
