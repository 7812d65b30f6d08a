//! Texts of flags that no other type reads: words, lists, things that may be off. An error says what is allowed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;
use weir_engine::OnSlow;
use weir_sink::Dialect;

use crate::{values, Accept, Admin, ProxyHeader, RateLimit};

/// Longest path of a Unix socket, in bytes (`sun_path` and its final zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A value, or the word `off`. Of another name than `Option`, which clap takes for a flag that may be missing.
pub type OrOff<T> = Option<T>;
/// A value, or the word `auto`.
pub type OrAuto<T> = Option<T>;

/// Cores in the order in which shards take them.
#[derive(Clone, Debug)]
pub struct CoreList(pub Vec<usize>);

/// Cores of this machine that the process may use.
pub(crate) fn present_cores() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.iter().map(|core| core.id).collect()
}

/// `0-3`, `0,2`, `0-1,4`: each core once, and present.
pub(crate) fn cores(text: &str) -> Result<CoreList, String> {
    let allowed = || "allowed: numbers and ranges, such as 0-3 or 0,2".to_owned();
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| allowed())?;
        let last: usize = last.trim().parse().map_err(|_| allowed())?;
        if first > last || last > 4095 {
            return Err(allowed());
        }
        list.extend(first..=last);
    }
    let present = present_cores();
    for (index, core) in list.iter().enumerate() {
        if !present.contains(core) {
            return Err(format!(
                "core {core} is not available here (available: {present:?})"
            ));
        }
        if list[..index].contains(core) {
            return Err(format!("core {core} is named twice"));
        }
    }
    Ok(CoreList(list))
}

/// One of the words that the parser lets through, as are the next ones.
pub(crate) fn dialect(text: String) -> OrAuto<Dialect> {
    match text.as_str() {
        "typed" => Some(Dialect::Typed),
        "compact" => Some(Dialect::Compact),
        _ => None,
    }
}

pub(crate) fn accept(text: String) -> Accept {
    match text.as_str() {
        "local" => Accept::Local,
        _ => Accept::Spread,
    }
}

pub(crate) fn proxy_header(text: String) -> ProxyHeader {
    match text.as_str() {
        "forwarded" => ProxyHeader::Forwarded,
        _ => ProxyHeader::XForwardedFor,
    }
}

pub(crate) fn on_slow(text: String) -> OnSlow {
    match text.as_str() {
        "wait" => OnSlow::Wait,
        _ => OnSlow::Spill,
    }
}

pub(crate) fn level(text: String) -> LevelFilter {
    text.parse().unwrap_or(LevelFilter::Info)
}

pub(crate) fn listen(text: &str) -> Result<OrOff<SocketAddr>, String> {
    match text {
        "off" => Ok(None),
        _ => values::address(text)
            .map(Some)
            .map_err(|why| format!("{why}, or off")),
    }
}

/// Never, or a time in which peers do more than connect.
pub(crate) fn connection_age(text: &str) -> Result<Duration, String> {
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(30 * 86_400));
    let fits = |age: Duration| age.is_zero() || (least..=most).contains(&age);
    values::duration_where(text, fits, "1s to 720h, or 0s for never")
}

/// Never, or a time in which an analyzer that ACKs at once has done so.
pub(crate) fn ack_presume(text: &str) -> Result<Duration, String> {
    let (least, most) = (Duration::from_millis(10), Duration::from_secs(3600));
    let fits = |time: Duration| time.is_zero() || (least..=most).contains(&time);
    values::duration_where(text, fits, "10ms to 1h, or 0s for never")
}

pub(crate) fn dead_letter_dir(text: &str) -> Result<OrOff<PathBuf>, String> {
    match text {
        "off" => Ok(None),
        _ if text.contains('/') => Ok(Some(text.into())),
        _ => Err("allowed: the path of a folder, with a / in it (./refused), or off".to_owned()),
    }
}

/// A path has a slash in it, so that an address that is misspelt is not taken for one.
pub(crate) fn admin(text: &str) -> Result<OrOff<Admin>, String> {
    if text == "off" {
        return Ok(None);
    }
    if let Ok(address) = text.parse() {
        return Ok(Some(Admin::Tcp(address)));
    }
    if !text.contains('/') || text.len() > SOCKET_PATH_BYTES_MAX || text.ends_with('/') {
        return Err(format!(
            "allowed: off, a path with a / in it of at most {SOCKET_PATH_BYTES_MAX} bytes (./admin.sock), or an IP address and a port (127.0.0.1:8082)"
        ));
    }
    Ok(Some(Admin::Path(text.into())))
}

pub(crate) fn rate_limit(text: &str) -> Result<OrOff<RateLimit>, String> {
    if text == "off" {
        return Ok(None);
    }
    let limit = || {
        let (requests, per) = text.split_once('/')?;
        let requests = requests.parse().ok().filter(|requests| *requests > 0)?;
        let per =
            values::duration_within(Duration::from_millis(1)..=Duration::from_secs(86400))(per)
                .ok()?;
        Some(RateLimit { requests, per })
    };
    let limit = limit().ok_or_else(|| {
        "allowed: off, or a number of requests from 1 and a time of 1ms to 24h (1000/15m)"
            .to_owned()
    })?;
    Ok(Some(limit))
}

/// A network, or an address alone. Bits beyond the prefix do not count.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from).ok();
    text.parse::<IpNet>()
        .ok()
        .map(|network| network.trunc())
        .or_else(address)
        .ok_or_else(|| "allowed: networks or IP addresses (10.0.0.0/8,fd00::/8,192.168.1.7)".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists() {
        assert_eq!(cores("0").map(|list| list.0), Ok(vec![0]));
        for bad in ["", "x", "3-1", "0,0", "99999", "0-", "4000"] {
            assert!(cores(bad).is_err(), "{bad}");
        }
        assert!(cores("3-1").is_err_and(|why| why.contains("0-3 or 0,2")));
    }

    #[test]
    fn admin_is_a_path_with_a_slash_or_an_address() {
        let path = |text: &str| Some(Admin::Path(text.into()));
        for (text, expected) in [
            ("off", None),
            ("./off", path("./off")),
            ("/run/weir/admin.sock", path("/run/weir/admin.sock")),
            (
                "[::1]:9",
                Some(Admin::Tcp(([0, 0, 0, 0, 0, 0, 0, 1], 9).into())),
            ),
        ] {
            assert_eq!(admin(text), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "localhost:9000",
            "1.2.3.4",
            "on",
            "/run/",
            &"/x".repeat(54),
        ] {
            assert!(
                admin(bad).is_err_and(|why| why.contains("allowed: off")),
                "{bad}"
            );
        }
    }

    #[test]
    fn rates_are_requests_in_a_time() {
        let per = Duration::from_secs(900);
        assert_eq!(
            rate_limit("1000/15m"),
            Ok(Some(RateLimit {
                requests: 1000,
                per
            }))
        );
        assert_eq!(rate_limit("off"), Ok(None));
        for bad in [
            "", "1000", "0/1s", "-1/1s", "1/0s", "1/25h", "1/1", "/1s", "1/1s/1s",
        ] {
            assert!(
                rate_limit(bad).is_err_and(|why| why.contains("allowed: off")),
                "{bad}"
            );
        }
    }

    #[test]
    fn an_age_is_none_or_a_second_and_more() {
        assert_eq!(connection_age("0s"), Ok(Duration::ZERO));
        assert_eq!(connection_age("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(connection_age("720h"), Ok(Duration::from_secs(2_592_000)));
        for bad in ["999ms", "721h"] {
            let why = "allowed: 1s to 720h, or 0s for never".to_owned();
            assert_eq!(connection_age(bad), Err(why), "{bad}");
        }
        for bad in ["", "10", "off"] {
            let why = connection_age(bad).expect_err(bad);
            assert!(why.contains("allowed: a number and a unit"), "{why}");
        }
    }

    #[test]
    fn an_ack_is_presumed_never_or_after_a_time() {
        assert_eq!(ack_presume("0s"), Ok(Duration::ZERO));
        assert_eq!(ack_presume("1s"), Ok(Duration::from_secs(1)));
        for bad in ["9ms", "61m"] {
            let why = "allowed: 10ms to 1h, or 0s for never".to_owned();
            assert_eq!(ack_presume(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn networks_have_a_prefix_or_are_one_address() {
        let shown = |text: &str| network(text).map(|network| network.to_string());
        assert_eq!(shown("10.1.2.3/8").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(shown("192.168.1.7").as_deref(), Ok("192.168.1.7/32"));
        assert_eq!(shown("fd00::/8").as_deref(), Ok("fd00::/8"));
        let here = IpAddr::from([127, 0, 0, 1]);
        assert!(network("0.0.0.0/0").is_ok_and(|all| all.contains(&here)));
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "a/8",
            "10.0.0.0/",
            "10.0.0.1:80",
        ] {
            assert!(
                network(bad).is_err_and(|why| why.contains("allowed: networks")),
                "{bad}"
            );
        }
    }
}
