//! What a client wants of its answer: the query of `POST /logs`, and header `Prefer` (RFC 7240).
//!
//! ```text
//! ?wait=acked     Prefer: wait=acked       the answer comes when analyzers have ACKed
//!                 Prefer: respond-async    with it: time that runs out is 202, not 504
//! ```

use weir_http as http;
use weir_http::Request;

/// How much of a client's word an error repeats.
const SHOWN_CHARS_MAX: usize = 60;
const WAITS: &str = "allowed: acked, queued";

/// What a client wants of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preferences {
    /// Analyzers are to have ACKed.
    pub(super) waits: bool,
    /// It takes 202 as well.
    pub(super) is_async: bool,
}

impl Preferences {
    /// Those of a request. The query goes before the header.
    ///
    /// # Errors
    /// The query asks for something else; what is allowed. A client that misspells what it asks for would go on
    /// as if it had got it. Preferences that are not known are ignored, as RFC 7240 wants it, but for `wait`
    /// itself.
    pub(super) fn of(request: &Request) -> Result<Preferences, String> {
        let asked = wait_of_query(request.query)?;
        let mut wait = asked;
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
        })
    }
}

fn wait_of_query(query: &str) -> Result<Option<bool>, String> {
    let mut wait = None;
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
            ("emitterId", _) => {}
            (name, _) => {
                let name = shown(name);
                return Err(format!("query {name}: not known; allowed: wait, emitterId"));
            }
        }
    }
    Ok(wait)
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
