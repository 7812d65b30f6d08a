//! Where a distributor listens: the sockets that were passed, and those that it binds itself.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::datagrams::open;
use super::error::StartError;
use super::listen::{bound_unread, divide_passed, listen, not_heeded, place, Listener, Passed};
use super::start::ServedPorts;
use crate::secured::SecuredPort;
use crate::uring::kernel_release;
use weir_config::{AllowList, Config, Input, TlsMode, TlsPort};
use weir_shard::{EmitterListener, InputAt};
use weir_tls::ServerPort;

/// Where emitters, analyzers and HTTP clients connect.
type Addresses = (SocketAddr, SocketAddr, Option<SocketAddr>);

/// The listening sockets of all shards.
pub(super) struct Bound {
    /// Of each shard: that of `--emitters`, then one for each input.
    pub(super) emitters: Vec<Vec<EmitterListener<Listener>>>,
    pub(super) analyzers: Vec<Listener>,
    /// Of each shard: where datagrams come, with the numbers of their inputs.
    pub(super) datagrams: Vec<Vec<(usize, OwnedFd)>>,
    /// Empty: nobody listens for HTTP.
    pub(super) http: Vec<Listener>,
    pub(super) at: Addresses,
    pub(super) inputs_at: Vec<InputAt>,
}

impl Bound {
    /// Takes the sockets that were passed, and binds those that were not.
    pub(super) fn of(
        config: &Config,
        mut passed: Passed,
        has_http: bool,
        served: &ServedPorts,
    ) -> Result<Bound, StartError> {
        let secured =
            |key: &str, name: &str, mode, from| secured(served.get(key), name, mode, from);
        let nobody = AllowList::default;
        let shards = config.shards;
        let mut emitters: Vec<Vec<EmitterListener<Listener>>> = Vec::new();
        emitters.resize_with(shards, Vec::new);
        let own = ("--emitters", config.emitters);
        let tls = secured("emitters", "emitters", config.tls.emitters_tls, nobody());
        let emitters_at = take(config, &mut emitters, own, passed.emitters, tls)?;
        let mut inputs_at = Vec::new();
        let mut datagrams: Vec<Vec<(usize, OwnedFd)>> = Vec::new();
        datagrams.resize_with(shards, Vec::new);
        for (number, input) in (1..).zip(config.all_inputs()) {
            let name = input.name();
            if input.is_udp() {
                let address = input_of_datagrams(config, (number, &input), &mut datagrams)?;
                inputs_at.push(InputAt { name, address });
                no_listener(&mut emitters);
                continue;
            }
            let sockets = passed.inputs.remove(&name).unwrap_or_default();
            let flag = format!("--input {name}");
            let at = (&flag[..], input.listen);
            // The number of networks was looked at when they were read.
            let proxies = AllowList::new(input.proxy_from.clone()).unwrap_or_default();
            let tls = secured(&TlsPort::key_of_input(&name), &name, input.tls, proxies);
            let address = take(config, &mut emitters, at, sockets, tls)?;
            inputs_at.push(InputAt { name, address });
        }
        let mut analyzers = listeners(config, "--analyzers", config.analyzers, passed.analyzers)?;
        set(
            &mut analyzers,
            secured("analyzers", "analyzers", config.tls.analyzers_tls, nobody()),
        );
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let http = match has_http {
            true => {
                let address = config.http.listen.unwrap_or(nowhere);
                let mut http = of_emitters(config, "--http", address, passed.http)?;
                set(
                    &mut http,
                    secured("http", "http", config.tls.http_tls, nobody()),
                );
                http
            }
            false => Vec::new(),
        };
        if let Some(why) = not_heeded(config.accept, &kernel_release()) {
            log::warn!("{why}");
        }
        let http_at = http.first().map(address).transpose();
        let at = (emitters_at, address(&analyzers[0])?, http_at?);
        Ok(Bound {
            emitters,
            analyzers,
            datagrams,
            http,
            at,
            inputs_at,
        })
    }
}

/// A listener for each shard where emitters connect; where that is.
fn take(
    config: &Config,
    emitters: &mut [Vec<EmitterListener<Listener>>],
    (flag, at): (&str, SocketAddr),
    sockets: Vec<TcpListener>,
    secured: Option<Arc<SecuredPort>>,
) -> Result<SocketAddr, StartError> {
    let outlives = !sockets.is_empty();
    let mut listeners = of_emitters(config, flag, at, sockets)?;
    set(&mut listeners, secured);
    let at = address(&listeners[0])?;
    for (of_shard, listener) in emitters.iter_mut().zip(listeners) {
        let listener = Some(listener);
        of_shard.push(EmitterListener { listener, outlives });
    }
    Ok(at)
}

/// A socket for each shard where datagrams come.
fn input_of_datagrams(
    config: &Config,
    (number, input): (usize, &Input),
    datagrams: &mut [Vec<(usize, OwnedFd)>],
) -> Result<SocketAddr, StartError> {
    let opened = open(input, config.shards);
    let (address, sockets) = opened.map_err(|error| StartError::Listen {
        flag: format!("--input {}", input.name()),
        address: input.listen,
        error,
    })?;
    for (of_shard, socket) in datagrams.iter_mut().zip(sockets) {
        of_shard.push((number, socket));
    }
    Ok(address)
}

/// Listeners have the numbers of their inputs: one that has none keeps its place.
fn no_listener(emitters: &mut [Vec<EmitterListener<Listener>>]) {
    for of_shard in emitters {
        of_shard.push(EmitterListener {
            listener: None,
            outlives: false,
        });
    }
}

/// A listener for each shard: those that were passed, or new ones.
fn listeners(
    config: &Config,
    flag: &str,
    address: SocketAddr,
    passed: Vec<TcpListener>,
) -> Result<Vec<Listener>, StartError> {
    let (shards, timeout, flag) = (config.shards, config.peer_timeout, flag.to_owned());
    match passed.is_empty() {
        false => divide_passed(passed, shards, timeout)
            .map_err(|error| StartError::Passed { flag, error }),
        true => listen(address, shards, timeout).map_err(|error| StartError::Listen {
            flag,
            address,
            error,
        }),
    }
}

/// The same for emitters or HTTP clients: what they do not read is bounded, and each shard has its core's.
fn of_emitters(
    config: &Config,
    flag: &str,
    address: SocketAddr,
    passed: Vec<TcpListener>,
) -> Result<Vec<Listener>, StartError> {
    let listeners = listeners(config, flag, address, passed)?;
    let bound = bound_unread(&listeners);
    let placed = bound.and_then(|()| place(&listeners, config.accept, &config.cores));
    placed.map_err(|error| StartError::Passed {
        flag: flag.to_owned(),
        error,
    })?;
    Ok(listeners)
}

/// What is served at a port where TLS is spoken.
fn secured(
    served: Option<&Arc<ServerPort>>,
    name: &str,
    mode: TlsMode,
    proxies: AllowList,
) -> Option<Arc<SecuredPort>> {
    let served = served.filter(|_| mode != TlsMode::Off)?;
    Some(Arc::new(SecuredPort {
        name: name.to_owned(),
        is_optional: mode == TlsMode::Optional,
        served: Arc::clone(served),
        proxies,
    }))
}

fn set(listeners: &mut [Listener], secured: Option<Arc<SecuredPort>>) {
    for listener in listeners {
        listener.secured.clone_from(&secured);
    }
}

fn address(listener: &Listener) -> Result<SocketAddr, StartError> {
    let address = listener.socket.local_addr();
    address.map_err(|error| StartError::Resource {
        what: "listener",
        error,
    })
}
