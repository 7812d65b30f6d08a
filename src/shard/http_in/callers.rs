//! Who sends a request, and whether its answer is theirs to have.
//!
//! ```text
//! client --> trusted proxy --> shard     --proxy-header: what the client says, client's address
//!                                                                              '- the right-most that is no
//! browser of a page ----------> shard     Host, Origin: src/config/hosts.rs  trusted proxy's
//! ```

use std::net::IpAddr;

use super::rate::RateHeaders;
use super::Clients;
use crate::context::Context;
use crate::hops::{self, HEADER as HOPS_HEADER, MAX as HOPS_MAX};
use crate::port::Io;
use crate::slab::Slot;
use weir_config::{AllowList, Protection, ProxyHeader};
use weir_http::{forwarded, quoted, x_forwarded_for, Hop, Request};

impl<I: Io> Clients<I> {
    /// Whether a request may be served; if not it has been answered.
    pub(super) fn admits_request(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        request: &Request,
        is_open_to_programs: bool,
    ) -> bool {
        self.knows_site(cx, slot, request, is_open_to_programs)
            && self.knows_caller(cx, slot, request)
    }

    /// `is_open_to_programs`: a browser sends its Origin with such a request, so the name that it was sent to
    /// does not matter without one.
    fn knows_site(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        request: &Request,
        is_open_to_programs: bool,
    ) -> bool {
        if is_open_to_programs && request.origin.is_none() {
            return true;
        }
        let protection = &cx.live.protection;
        let known = protection
            .http_hosts
            .check(request.host, request.origin, &protection.cors);
        let Err(stranger) = known else {
            return true;
        };
        let is_probe = request.origin.is_none()
            && matches!(request.method, "GET" | "HEAD")
            && request.path.starts_with("/health");
        if let Some(client) = self.table.get_mut(slot) {
            client.is_stranger = true;
        }
        if is_probe {
            return true;
        }
        self.refuse(stranger.reason());
        self.answer_error(cx, slot, 403, "Forbidden", &stranger.to_string(), &[]);
        false
    }

    fn knows_caller(&mut self, cx: &mut Context<I>, slot: Slot, request: &Request) -> bool {
        let Some(client) = self.table.get_mut(slot) else {
            return false;
        };
        let protection = &cx.live.protection;
        let proxies = &protection.trusted_proxies;
        let is_forwarded = client.peer.is_some_and(|peer| proxies.lists(peer));
        let said = match client.peer {
            Some(peer) if is_forwarded => caller_of(request, protection, peer),
            Some(peer) => Hop::Address(peer),
            None => Hop::Unsaid,
        };
        let caller = match said {
            Hop::Address(caller) => Some(caller),
            Hop::Unsaid | Hop::Malformed(_) => None,
        };
        client.caller = caller;
        let client = &*client;
        let (allow, rate) = (&protection.allow_http, protection.rate_limit);
        // Who has no proxy between was looked at when it connected.
        if is_forwarded
            && !caller.is_some_and(|caller| allow.allows(caller))
            && (caller.is_some() || !allow.is_empty() || rate.is_some())
        {
            let (reason, detail) = not_allowed(said, protection.proxy_header.as_str());
            self.refuse(reason);
            self.answer_error(cx, slot, 403, "Forbidden", &detail, &[]);
            return false;
        }
        let (Some(rate), Some(caller)) = (rate, caller) else {
            return true;
        };
        // Behind a proxy the certificate is the proxy's.
        let certificate = client.certificate.as_deref().filter(|_| !is_forwarded);
        let customer = cx.customer(caller, certificate);
        let taken = cx.shared.admission.take(customer, rate, cx.now_ns);
        if let Some(client) = self.table.get_mut(slot) {
            client.rate = Some(Box::new(RateHeaders::new(rate, &taken)));
        }
        let Some(wait_s) = taken.wait_s else {
            return true;
        };
        self.refuse("rate_limit");
        let retry = wait_s.to_string();
        let detail = format!("this client has used up its requests, more in {retry} s");
        let headers = [("Retry-After", retry.as_str())];
        self.answer_error(cx, slot, 429, "Too many requests", &detail, &headers);
        false
    }

    /// How many distributors a request has come through. None: too many, or this one; it is answered.
    pub(super) fn hops_of(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        request: &Request,
    ) -> Option<u8> {
        let own = &self.pseudonym;
        let is_own = |value: &str| value.split([' ', ',']).any(|word| word == own);
        let comes_back = request.headers("via").any(is_own);
        let hops = hops::of(request);
        if !comes_back && hops < HOPS_MAX {
            return Some(hops);
        }
        self.refuse("loop_detected");
        let detail = match comes_back {
            true => {
                "header Via names this distributor: an endpoint of an analyzer is its own address"
                    .into()
            }
            false => {
                format!("header {HOPS_HEADER}: {hops} distributors; allowed: fewer than {HOPS_MAX}")
            }
        };
        self.answer_error(cx, slot, 508, "Loop detected", &detail, &[]);
        None
    }
}

fn not_allowed(said: Hop, header: &str) -> (&'static str, String) {
    let detail = match said {
        Hop::Address(caller) => {
            let detail = format!("address {caller}: not in the networks of --allow-http");
            return ("address_not_allowed", detail);
        }
        Hop::Unsaid => format!("header {header} of a trusted proxy does not say who asks, and a rule is about addresses"),
        Hop::Malformed(value) => format!(
            "header {header} of a trusted proxy has {}, and a rule is about addresses; allowed: an IP address, with or without a port",
            quoted(value)
        ),
    };
    ("address_unknown", detail)
}

/// The right-most address that is no trusted proxy's, of all headers together; the left-most if all are. What a proxy
/// hides ends the way there.
fn caller_of<'a>(request: &Request<'a>, protection: &Protection, peer: IpAddr) -> Hop<'a> {
    let proxies = &protection.trusted_proxies;
    let header = protection.proxy_header;
    let values = request.header_values(header.as_str()).rev();
    match header {
        ProxyHeader::XForwardedFor => first_client(values.flat_map(x_forwarded_for), peer, proxies),
        ProxyHeader::Forwarded => first_client(values.flat_map(forwarded), peer, proxies),
    }
}

fn first_client<'a>(
    hops: impl Iterator<Item = Hop<'a>>,
    peer: IpAddr,
    proxies: &AllowList,
) -> Hop<'a> {
    let mut caller = peer;
    for hop in hops {
        let Hop::Address(address) = hop else {
            return hop;
        };
        caller = address;
        if !proxies.lists(caller) {
            break;
        }
    }
    Hop::Address(caller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_most_address_that_is_no_proxy_counts() {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network"));
        let proxies = AllowList::new(networks.to_vec()).expect("short");
        let peer = "10.0.0.1".parse().expect("an address");
        let x_cases: [(&[&str], Option<&str>); 12] = [
            (&[], Some("10.0.0.1")),
            (&["203.0.113.1"], Some("203.0.113.1")),
            (&["1.1.1.1, 203.0.113.1"], Some("203.0.113.1")),
            (&["1.1.1.1", "203.0.113.2 ,10.9.9.9"], Some("203.0.113.2")),
            (&["203.0.113.1:4711"], Some("203.0.113.1")),
            (&["[2001:db8::1]:80, fd00::1"], Some("2001:db8::1")),
            (&["::ffff:203.0.113.1"], Some("203.0.113.1")),
            (&["10.1.1.1, 10.2.2.2"], Some("10.1.1.1")),
            (&["203.0.113.1, unknown"], None),
            (&["203.0.113.1,"], None),
            (&["unknown, 203.0.113.1"], Some("203.0.113.1")),
            (&["203.0.113.1, unknown, 10.2.2.2"], None),
        ];
        let cases: [(&[&str], Option<&str>); 8] = [
            (&[], Some("10.0.0.1")),
            (&["for=1.1.1.1, for=203.0.113.1"], Some("203.0.113.1")),
            (
                &[
                    "for=1.1.1.1",
                    "for=203.0.113.2, for=\"[fd00::1]:80\";proto=https",
                ],
                Some("203.0.113.2"),
            ),
            (&["for=203.0.113.1, for=_hidden, for=10.2.2.2"], None),
            (&["for=203.0.113.1, proto=https"], None),
            (&["for=\"evil", "for=203.0.113.1"], Some("203.0.113.1")),
            (&["for=10.1.1.1, for=10.2.2.2"], Some("10.1.1.1")),
            (&["203.0.113.1"], None),
        ];
        let said = |hop| match hop {
            Hop::Address(address) => Some(address),
            Hop::Unsaid | Hop::Malformed(_) => None,
        };
        let expected = |text: Option<&str>| text.map(|text| text.parse().expect("an address"));
        for (headers, caller) in x_cases {
            let hops = headers
                .iter()
                .rev()
                .flat_map(|value| x_forwarded_for(value.as_bytes()));
            let found = said(first_client(hops, peer, &proxies));
            assert_eq!(found, expected(caller), "{headers:?}");
        }
        for (headers, caller) in cases {
            let hops = headers
                .iter()
                .rev()
                .flat_map(|value| forwarded(value.as_bytes()));
            let found = said(first_client(hops, peer, &proxies));
            assert_eq!(found, expected(caller), "{headers:?}");
        }
    }
}
