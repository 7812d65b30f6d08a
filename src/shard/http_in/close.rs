//! What follows from a client's new state: receive less or more, send, close.

use std::net::Shutdown;

use super::{Clients, Stage, DISCARDED_BYTES_MAX, HELD_BYTES_MAX};
use crate::admission::{Customer, ListenerKind};
use crate::context::Context;
use crate::port::{Group, Io};
use crate::slab::{bare, token, Kind, Slot};
use weir_http::HttpError;

impl<I: Io> Clients<I> {
    /// What follows from a client's new state, when nothing has to be given up.
    pub(super) fn conclude(&mut self, cx: &mut Context<I>, slot: Slot) {
        self.on_eof(cx, slot);
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        if client.is_leaving() {
            client.drop_input();
        }
        self.count_held(slot);
        self.regulate_receive(cx, slot);
        self.want_answer_sent(slot);
        self.close_client_if_done(cx, slot);
    }

    /// A client that half-closes still gets the answers to all that it asked.
    fn on_eof(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        if !client.ended {
            return;
        }
        match client.stage {
            Stage::Ready if !client.input.is_empty() => {}
            Stage::Ready if client.reader.is_idle() => client.stage = Stage::Closing,
            Stage::Ready => self.answer_http_error(cx, slot, &incomplete()),
            Stage::Control { streams: true } => client.stage = Stage::Closing,
            _ => {}
        }
    }

    pub(super) fn receive_from_client(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        let Some(socket) = &client.socket else {
            return;
        };
        client.receiving = true;
        client.paused = false;
        cx.io
            .receive(socket, Group::Http, token(Kind::HttpReceive, slot));
    }

    fn regulate_receive(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        let is_wanted = !client.ended
            && match client.stage {
                Stage::Ready => client.out.len() <= HELD_BYTES_MAX,
                Stage::Control { .. } | Stage::Ack(_) => client.input.len() <= HELD_BYTES_MAX,
                Stage::Closing | Stage::Lingering => client.discarded_bytes <= DISCARDED_BYTES_MAX,
                Stage::Gone => false,
            };
        if is_wanted && !client.receiving {
            self.receive_from_client(cx, slot);
        } else if !is_wanted && client.receiving && !client.paused {
            client.paused = true;
            cx.io
                .cancel(token(Kind::HttpReceive, slot), bare(Kind::Cancel));
        }
    }

    fn want_answer_sent(&mut self, slot: Slot) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        if !client.out.is_empty() && client.sending_bytes == 0 && !client.pumped {
            client.pumped = true;
            self.pump.push(slot);
        }
    }

    /// Closes once the last answer has been sent and the client has seen it: it closes as well, or has
    /// had its time (`check_clients`), or goes on and on.
    fn close_client_if_done(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        let is_over = client.ended || client.discarded_bytes > DISCARDED_BYTES_MAX;
        match client.stage {
            Stage::Closing if client.has_sent_all() && !is_over => {
                if let Some(socket) = &client.socket {
                    cx.io.shutdown(socket, Shutdown::Write);
                }
                client.stage = Stage::Lingering;
                client.since_ns = cx.awake_ns;
            }
            Stage::Closing if client.has_sent_all() => self.hang_up(cx, slot),
            Stage::Lingering if is_over => self.hang_up(cx, slot),
            Stage::Gone => self.bury_client(cx, slot),
            _ => {}
        }
    }

    /// The client is gone, or is not worth waiting for: what was to be sent to it is dropped.
    pub(super) fn abort(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        if let Some(socket) = &client.socket {
            cx.io.drop_unsent_on_close(socket);
        }
        client.out = Vec::new();
        self.hang_up(cx, slot);
    }

    /// Closes both directions; the connection is forgotten when the kernel is through with it.
    pub(super) fn hang_up(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        if client.stage != Stage::Gone {
            client.stage = Stage::Gone;
            client.drop_input();
            if let Some(socket) = &client.socket {
                // Ends what is under way.
                cx.io.shutdown(socket, Shutdown::Both);
            }
            if client.receiving && !client.paused {
                client.paused = true;
                cx.io
                    .cancel(token(Kind::HttpReceive, slot), bare(Kind::Cancel));
            }
        }
        self.count_held(slot);
        self.bury_client(cx, slot);
    }

    pub(super) fn bury_client(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        if client.stage != Stage::Gone || client.receiving || client.sending_bytes > 0 {
            return;
        }
        let place = client.place;
        self.forget(slot);
        self.dismiss(cx, place);
    }

    fn dismiss(&self, cx: &Context<I>, place: Option<Customer>) {
        let admission = &cx.shared.admission;
        admission.leave_http();
        if let Some(customer) = place {
            admission.leave(ListenerKind::Http, customer);
        }
    }
}

fn incomplete() -> HttpError {
    HttpError {
        status: 400,
        error: "incomplete_request",
        detail: "the connection was closed before the request was whole".to_owned(),
        close: true,
    }
}
