//! Flags about who may connect, how often, and with what.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::cli::values;
use crate::config::{Admin, AllowList, Cors, Hosts, Protection, RateLimit, Token};

/// A file with a token is read so far: a longer line is refused anyway.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;
/// Longest path of a Unix socket, in bytes (`sun_path` and its final zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A limit, or `off`.
#[derive(Clone, Copy, Debug)]
pub struct RateLimited(pub Option<RateLimit>);

/// A listener for operators, or `off`.
#[derive(Clone, Debug)]
pub struct AdminAt(pub Option<Admin>);

/// Protection from peers, and of the control.
#[derive(clap::Args, Clone, Debug)]
pub struct ProtectionArgs {
    /// Where operators connect: the path of a Unix socket, an address (which needs
    /// --admin-token-file), or off. Under systemd with RuntimeDirectory=: admin.sock in there
    #[arg(long, value_name = "PATH|ADDR", default_value = "off", value_parser = admin, help_heading = "Sockets")]
    pub admin: AdminAt,

    /// Requests that one client address may make in a time (1000/15m); off: no
    /// limit. Of IPv6, a /64 is one client
    #[arg(long, value_name = "N/TIME", default_value = "off", value_parser = rate_limit, help_heading = "Protection")]
    pub rate_limit: RateLimited,
    /// Most connections of one client address (of IPv6: of one /64), on --emitters and on --http each, and most
    /// analyzers on --analyzers, all shards together; of those that have not spoken there, each shard; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = values::number(0..=usize::MAX), help_heading = "Protection")]
    pub max_per_address: usize,
    /// Networks that emitters may connect from (10.0.0.0/8,fd00::/8); default: all
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = network, help_heading = "Protection")]
    pub allow_emitters: Vec<IpNet>,
    /// Networks that analyzers may connect from; default: all
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = network, help_heading = "Protection")]
    pub allow_analyzers: Vec<IpNet>,
    /// Networks that HTTP clients may connect from; default: all
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = network, help_heading = "Protection")]
    pub allow_http: Vec<IpNet>,
    /// File whose first line is the token that native analyzers must show: 16 to 256 bytes of
    /// visible ASCII. Reference clients, which have no place for one, are refused then
    #[arg(long, value_name = "FILE", help_heading = "Protection")]
    pub analyzer_token_file: Option<PathBuf>,
    /// File whose first line is the token that operators must show
    #[arg(long, value_name = "FILE", help_heading = "Protection")]
    pub admin_token_file: Option<PathBuf>,
    /// Web pages that may read answers of --http: off, * (all), or those from a list of origins
    #[arg(
        long,
        value_name = "ORIGINS",
        default_value = "off",
        help_heading = "Protection"
    )]
    pub cors: Cors,
    /// Names that browsers may ask --http and --admin for, beside IP addresses, names without a dot and this
    /// machine's own: own, * (all), or a list (weir.example.org). Of a web page that asks under another name, or
    /// for another site than --cors has, nothing is taken
    #[arg(
        long,
        value_name = "NAMES",
        default_value = "own",
        help_heading = "Protection"
    )]
    pub http_hosts: Hosts,
    /// Networks of proxies in front of --http: --rate-limit and --allow-http are about the right-most address of
    /// X-Forwarded-For that is none of theirs, and --max-per-address leaves them out. Default: none; then all
    /// clients behind a proxy are one, the proxy
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = network, help_heading = "Protection")]
    pub trusted_proxies: Vec<IpNet>,
}

impl ProtectionArgs {
    /// The configuration that the flags describe. Reads the token files.
    ///
    /// # Errors
    /// The flag, the value and what is allowed.
    pub fn config(&self) -> Result<Protection, String> {
        let allow = |flag: &str, list: &[IpNet]| {
            AllowList::new(list.to_vec()).map_err(|why| format!("{flag}: {why}"))
        };
        let token = |flag: &str, file: &Option<PathBuf>| {
            let read = |path: &PathBuf| {
                read_token(path).map_err(|why| format!("{flag} {}: {why}", path.display()))
            };
            file.as_ref().map(read).transpose()
        };
        Ok(Protection {
            rate_limit: self.rate_limit.0,
            connections_per_address_max: self.max_per_address,
            allow_emitters: allow("--allow-emitters", &self.allow_emitters)?,
            allow_analyzers: allow("--allow-analyzers", &self.allow_analyzers)?,
            allow_http: allow("--allow-http", &self.allow_http)?,
            analyzer_token: token("--analyzer-token-file", &self.analyzer_token_file)?,
            admin_token: token("--admin-token-file", &self.admin_token_file)?,
            cors: self.cors.clone(),
            http_hosts: self.http_hosts.clone(),
            trusted_proxies: allow("--trusted-proxies", &self.trusted_proxies)?,
        })
    }
}

fn read_token(path: &Path) -> Result<Token, String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(TOKEN_FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    Token::from_file_text(&text)
}

/// A path has a slash in it, so that an address that is misspelt is not taken for one.
fn admin(text: &str) -> Result<AdminAt, String> {
    if text == "off" {
        return Ok(AdminAt(None));
    }
    if let Ok(address) = text.parse() {
        return Ok(AdminAt(Some(Admin::Tcp(address))));
    }
    if !text.contains('/') || text.len() > SOCKET_PATH_BYTES_MAX || text.ends_with('/') {
        return Err(format!(
            "allowed: off, a path with a / in it of at most {SOCKET_PATH_BYTES_MAX} bytes (./admin.sock), or an IP address and a port (127.0.0.1:8082)"
        ));
    }
    Ok(AdminAt(Some(Admin::Path(text.into()))))
}

fn rate_limit(text: &str) -> Result<RateLimited, String> {
    if text == "off" {
        return Ok(RateLimited(None));
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
    Ok(RateLimited(Some(limit)))
}

/// A network, or an address alone. Bits beyond the prefix do not count.
fn network(text: &str) -> Result<IpNet, String> {
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
            assert_eq!(admin(text).map(|admin| admin.0), Ok(expected), "{text}");
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
        let limit = rate_limit("1000/15m").map(|limit| limit.0);
        let per = Duration::from_secs(900);
        assert_eq!(
            limit,
            Ok(Some(RateLimit {
                requests: 1000,
                per
            }))
        );
        assert_eq!(rate_limit("off").map(|limit| limit.0), Ok(None));
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

    #[test]
    fn tokens_come_from_the_first_line_of_a_file() {
        let path = std::env::temp_dir().join(format!("weir-token-{}", std::process::id()));
        std::fs::write(&path, "0123456789abcdef\nnot this").expect("written");
        let token = read_token(&path).expect("a token");
        assert!(token.accepts(b"0123456789abcdef"));
        std::fs::write(&path, "short").expect("written");
        assert!(read_token(&path).is_err_and(|why| why.contains("5 bytes; allowed: 16 to 256")));
        std::fs::remove_file(&path).expect("removed");
        assert!(read_token(&path).is_err_and(|why| why.contains("No such file")));
    }
}
