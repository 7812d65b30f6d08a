//! What the shards ask: everything over HTTP but `POST /logs`.
//!
//! ```text
//! question --> what changes nothing: an answer --------------> reply
//!         |--> /events: a stream; a piece for each every STEP -> replies
//!         `--> /admin/, with the token: a task, ORDERS_MAX at most -> reply
//! ```

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use futures_lite::future::or;

use super::response::Response;
use super::streams::{self, Part, Streams};
use super::token::{forbidden, may};
use super::{admin, answer, http};
use crate::executor::bell::News;
use crate::executor::time::{give_way, sleep};
use crate::executor::Context;
use weir_http::Ask;
use weir_ledger::run_report::Stamp;
use weir_shard::{Operator, Question};

/// Orders over the public port that may wait; beyond, 503.
const ORDERS_MAX: usize = 64;

/// Answers questions and keeps event streams going.
pub(crate) struct Questions {
    context: Context,
    operator: Operator,
    streams: Streams<Question>,
    orders: Rc<Cell<usize>>,
}

impl Questions {
    pub(crate) fn new(context: &Context, operator: Operator) -> Questions {
        Questions {
            context: context.clone(),
            operator,
            streams: Streams::default(),
            orders: Rc::default(),
        }
    }

    /// Until the core is over, or the shards are gone.
    pub(crate) async fn run(mut self, questions: Receiver<Question>) {
        let mut next = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next {
                // Also while questions wait: there may be some always.
                next = now + streams::STEP;
                self.step();
            }
            let core = &self.context.core;
            let asked = core
                .bell
                .until(News::Question, || match questions.try_recv() {
                    _ if core.is_over() => Some(None),
                    Ok(question) => Some(Some(question)),
                    Err(TryRecvError::Disconnected) => Some(None),
                    Err(TryRecvError::Empty) => None,
                });
            let asked = async { Some(asked.await) };
            let step = async {
                sleep(next.saturating_duration_since(now)).await;
                None
            };
            match or(asked, step).await {
                Some(Some(question)) => self.take(question),
                Some(None) => break,
                None => {}
            }
            give_way().await;
        }
        let operator = &self.operator;
        self.streams
            .end(|question, bytes| operator.reply(question, bytes, true));
    }

    fn step(&mut self) {
        // Also when nobody looks: rates and events need the time between.
        let state = self.context.core.state();
        let operator = &self.operator;
        self.streams
            .step(&state, |question, bytes, part| match part {
                Part::State => operator.reply_newest(question, bytes),
                Part::Log => operator.reply(question, bytes, false),
                Part::End => operator.reply(question, bytes, true),
            });
    }

    fn take(&mut self, mut question: Question) {
        // The question keeps the name of the connection.
        let ask = std::mem::take(&mut question.ask);
        let is_admin = ask.path == "/admin" || ask.path.starts_with("/admin/");
        if is_admin {
            return self.order(question, ask);
        }
        if ask.path == "/events" && ask.method == "GET" {
            return self.open_stream(question, &ask);
        }
        let allowed = self.allowed_origin(&ask);
        let mut response = match (&allowed, ask.method.as_str()) {
            (Some(_), "OPTIONS") => preflight(&ask),
            _ => answer::answer(&ask, &self.context.core.state()),
        };
        if let Some(origin) = allowed {
            response = response.with("Access-Control-Allow-Origin", origin);
            response = response.with("Vary", "Origin");
        }
        reply(&self.operator, &question, &ask, &response);
    }

    fn allowed_origin(&self, ask: &Ask) -> Option<String> {
        let cors = self.context.core.cors();
        cors.allowed(ask.header("origin")).map(str::to_owned)
    }

    fn open_stream(&mut self, question: Question, ask: &Ask) {
        let (response, first) = streams::head();
        let state = self.context.core.state();
        let (ended, refused) = self.streams.open(ask, question, &state);
        for question in ended {
            self.operator.reply(&question, http::chunk(b""), true);
        }
        if let Some(question) = refused {
            let response = streams::full(ask, &state);
            drop(state);
            return reply(&self.operator, &question, ask, &response);
        }
        let response = match self.allowed_origin(ask) {
            Some(origin) => response.with("Access-Control-Allow-Origin", origin),
            None => response,
        };
        let operator = &self.operator;
        self.streams.greet(|question| {
            let mut bytes = http::respond_chunked(&response, question.keep_alive);
            bytes.extend(http::chunk(first));
            operator.reply(question, bytes, false);
        });
        self.streams.step_newest(&state, |question, bytes| {
            operator.reply(question, bytes, false)
        });
    }

    /// Under `/admin/`: only with a token.
    fn order(&mut self, question: Question, ask: Ask) {
        let core = &self.context.core;
        let refused = if core.token().is_none() {
            let text = format!(
                "path {:?}: not here; the admin API has a listener of its own (--admin)",
                ask.path
            );
            Some(Response::error(404, &ask, Stamp::now(), text))
        } else if !may(core, &ask) {
            Some(forbidden(&ask))
        } else if self.orders.get() >= ORDERS_MAX {
            let text = format!("orders: {ORDERS_MAX} wait, which is the most");
            let response = Response::error(503, &ask, Stamp::now(), text);
            Some(response.with("Retry-After", "1"))
        } else {
            None
        };
        if let Some(response) = refused {
            return reply(&self.operator, &question, &ask, &response);
        }
        let (context, operator) = (self.context.clone(), self.operator.clone());
        let orders = Rc::clone(&self.orders);
        orders.set(orders.get() + 1);
        self.context.spawn("order", async move {
            let response = admin::answer(&context, &ask).await;
            reply(&operator, &question, &ask, &response);
            orders.set(orders.get() - 1);
        });
    }
}

fn reply(operator: &Operator, question: &Question, ask: &Ask, response: &Response) {
    let bytes = http::respond(response, ask.method != "HEAD", question.keep_alive);
    operator.reply(question, bytes, true);
}

/// Headers that docs/HTTP.md names, and what else a page's libraries add: headers that are not known change
/// nothing here. Not those that say who asks: `/admin` is for no other site's page.
fn preflight(ask: &Ask) -> Response {
    const NAMED: &str =
        "Content-Type, Content-Encoding, X-Emitter-ID, Prefer, Accept, Last-Event-ID";
    const ASKED_BYTES_MAX: usize = 1024;
    let mut headers = NAMED.to_owned();
    let asked = ask.header("access-control-request-headers").unwrap_or("");
    let is_name = |name: &&str| {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_credential = ["authorization", "cookie"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known));
        !name.is_empty() && name.bytes().all(is_token) && !is_credential
    };
    for name in asked.split(',').map(str::trim).filter(is_name) {
        let mut known = headers.split(", ");
        let is_new = !known.any(|known| known.eq_ignore_ascii_case(name));
        if is_new && headers.len() + name.len() <= ASKED_BYTES_MAX {
            headers.push_str(", ");
            headers.push_str(name);
        }
    }
    Response {
        status: 204,
        content_type: "",
        headers: vec![
            ("Access-Control-Allow-Methods", "GET, HEAD, POST".into()),
            ("Access-Control-Allow-Headers", headers),
            ("Access-Control-Max-Age", "600".into()),
        ],
        body: Vec::new(),
    }
}
