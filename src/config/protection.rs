//! Who may connect, how often, and with what: limits that protect a distributor from its peers.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::credential::secret_file;
use crate::settings::settings;
use crate::{flags, values, Config, Hosts, OrOff};

/// Most networks of a list: each connection is compared with all of them.
const NETWORKS_MAX: usize = 1024;
/// Most origins of [`Cors`].
const ORIGINS_MAX: usize = 64;
/// A file with a token is read so far: a longer line is refused anyway.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;
/// Shortest and longest token, in bytes.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=256;

settings! {
/// Everything that protects. What a flag only names is read by [`Config::resolve`].
#[derive(clap::Args, Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Requests that one client address may make in a time (1000/15m); off: no
    /// limit. Of IPv6, a /64 is one client
    #[arg(long, value_name = "N/TIME", default_value = "off", value_parser = flags::rate_limit, help_heading = "Protection")]
    pub rate_limit: OrOff<RateLimit>,
    /// Most connections of one client address (of IPv6: of one /64), on --emitters and on --http each, and most
    /// analyzers on --analyzers, all shards together; of those that have not spoken there, each shard; 0: no limit
    #[arg(id = "max_per_address", long = "max-per-address", value_name = "N", default_value_t = 0, value_parser = values::number(0..=usize::MAX), help_heading = "Protection")]
    pub connections_per_address_max: usize,
    /// Who is one client for --max-per-address and --rate-limit, where it has shown a certificate: both, its address
    /// and its certificate's name together; address alone; or certificate, its name alone, wherever it is
    #[arg(long, value_name = "POLICY", default_value = "both", value_parser = PossibleValuesParser::new(LimitBy::WORDS).map(|word| LimitBy::of(&word)), help_heading = "Protection")]
    pub limit_by: LimitBy,
    /// Networks that emitters may connect from (10.0.0.0/8,fd00::/8); default: all
    #[arg(id = "allow_emitters", long = "allow-emitters", value_name = "CIDR", value_delimiter = ',', value_parser = flags::network, help_heading = "Protection")]
    pub emitter_networks: Vec<IpNet> as _,
    /// Those of `--allow-emitters`.
    #[arg(skip)]
    pub allow_emitters: AllowList,
    /// Networks that analyzers may connect from; default: all
    #[arg(id = "allow_analyzers", long = "allow-analyzers", value_name = "CIDR", value_delimiter = ',', value_parser = flags::network, help_heading = "Protection")]
    pub analyzer_networks: Vec<IpNet> as _,
    /// Those of `--allow-analyzers`.
    #[arg(skip)]
    pub allow_analyzers: AllowList,
    /// Networks that HTTP clients may connect from; default: all
    #[arg(id = "allow_http", long = "allow-http", value_name = "CIDR", value_delimiter = ',', value_parser = flags::network, help_heading = "Protection")]
    pub http_networks: Vec<IpNet> as _,
    /// Those of `--allow-http`.
    #[arg(skip)]
    pub allow_http: AllowList,
    /// File whose first line is the token that native analyzers must show: 16 to 256 bytes of
    /// visible ASCII. Reference clients, which have no place for one, are refused then
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "Protection")]
    pub analyzer_token_file: Option<PathBuf> as _,
    /// What native analyzers must show.
    #[arg(skip)]
    pub analyzer_token: Option<Token>,
    /// File whose first line is the token that operators must show
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "Protection")]
    pub admin_token_file: Option<PathBuf> as _,
    /// What operators must show.
    #[arg(skip)]
    pub admin_token: Option<Token>,
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
    /// --proxy-header that is none of theirs, and --max-per-address leaves them out. Default: none; then all
    /// clients behind a proxy are one, the proxy
    #[arg(id = "trusted_proxies", long = "trusted-proxies", value_name = "CIDR", value_delimiter = ',', value_parser = flags::network, help_heading = "Protection")]
    pub proxy_networks: Vec<IpNet> as _,
    /// Those of `--trusted-proxies`.
    #[arg(skip)]
    pub trusted_proxies: AllowList,
    /// Header in which the proxies of --trusted-proxies say who asks. The other one is the client's own word:
    /// proxies pass on what they do not write
    #[arg(long, value_name = "HEADER", default_value = "x-forwarded-for", value_parser = PossibleValuesParser::new(["x-forwarded-for", "forwarded"]).map(flags::proxy_header), help_heading = "Protection")]
    pub proxy_header: ProxyHeader,
}
}

/// Who is one client of those that have shown a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitBy {
    /// Whoever is at one address, with one name: neither many behind an address share a limit, nor many hosts that
    /// have one certificate.
    #[default]
    Both,
    /// Whoever is at one address.
    Address,
    /// Whoever has a certificate of one name.
    Certificate,
}

impl LimitBy {
    /// The words for it.
    pub(crate) const WORDS: [&'static str; 3] = ["both", "address", "certificate"];

    fn of(word: &str) -> LimitBy {
        match word {
            "address" => LimitBy::Address,
            "certificate" => LimitBy::Certificate,
            _ => LimitBy::Both,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            LimitBy::Both => "both",
            LimitBy::Address => "address",
            LimitBy::Certificate => "certificate",
        }
    }
}

/// Where a proxy says who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, addresses with commas between.
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
}

impl ProxyHeader {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            ProxyHeader::XForwardedFor => "X-Forwarded-For",
            ProxyHeader::Forwarded => "Forwarded",
        }
    }
}

impl Default for Protection {
    /// As [`Config::default`]: everybody may do everything.
    fn default() -> Protection {
        Config::default().protection
    }
}

impl Protection {
    /// Makes lists of networks, and reads the token files.
    pub(crate) fn resolve(&mut self) -> Result<(), String> {
        let allow = |flag: &str, list: &[IpNet]| {
            AllowList::new(list.to_vec()).map_err(|why| format!("{flag}: {why}"))
        };
        self.allow_emitters = allow("--allow-emitters", &self.emitter_networks)?;
        self.allow_analyzers = allow("--allow-analyzers", &self.analyzer_networks)?;
        self.allow_http = allow("--allow-http", &self.http_networks)?;
        self.trusted_proxies = allow("--trusted-proxies", &self.proxy_networks)?;
        let token = |flag: &str, file: &Option<PathBuf>| {
            let read = |path: &PathBuf| {
                read_token(path).map_err(|why| format!("{flag} {}: {why}", path.display()))
            };
            file.as_ref().map(read).transpose()
        };
        self.analyzer_token = token("--analyzer-token-file", &self.analyzer_token_file)?;
        self.admin_token = token("--admin-token-file", &self.admin_token_file)?;
        Ok(())
    }
}

fn read_token(path: &Path) -> Result<Token, String> {
    let text = weir_tls::read_regular(path, TOKEN_FILE_BYTES_MAX);
    let text = text.map_err(|error| error.to_string())?;
    Token::from_file_text(&text)
}

/// So many requests in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests, 1 or more.
    pub requests: u32,
    /// Time, more than zero.
    pub per: Duration,
}

/// Networks that may connect; an empty list allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(Vec<IpNet>);

impl AllowList {
    /// A list without repetitions.
    ///
    /// # Errors
    /// More than 1024 networks.
    pub fn new(mut networks: Vec<IpNet>) -> Result<AllowList, String> {
        networks.sort_unstable();
        networks.dedup();
        match networks.len() {
            0..=NETWORKS_MAX => Ok(AllowList(networks)),
            many => Err(format!("{many} networks, at most {NETWORKS_MAX} allowed")),
        }
    }

    /// Whether there is no limit.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this address is in a network of the list.
    pub fn lists(&self, address: IpAddr) -> bool {
        !self.is_empty() && self.allows(address)
    }

    /// Whether this address may connect. An IPv4 client of an IPv6 listener counts as IPv4.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.is_empty() || self.0.iter().any(|network| network.contains(&address))
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<String> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&networks.join(","))
    }
}

/// Which web pages may read answers (the header Access-Control-Allow-Origin).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// None.
    #[default]
    Off,
    /// All.
    Any,
    /// Those from these origins, in the spelling of the Origin header: scheme, host, port.
    Origins(Vec<String>),
}

impl Cors {
    /// The origin that an answer to a request from `origin` allows.
    pub fn allowed<'a>(&self, origin: Option<&'a str>) -> Option<&'a str> {
        match self {
            Cors::Off => None,
            Cors::Any => Some("*"),
            Cors::Origins(origins) => {
                origin.filter(|origin| origins.iter().any(|allowed| allowed == origin))
            }
        }
    }
}

impl FromStr for Cors {
    type Err = String;

    /// `off`, `*`, or origins with commas between them.
    fn from_str(text: &str) -> Result<Cors, String> {
        match text {
            "off" => return Ok(Cors::Off),
            "*" => return Ok(Cors::Any),
            _ => {}
        }
        let origins: Vec<String> = text.split(',').map(str::to_owned).collect();
        let is_origin = |origin: &String| {
            let host = origin
                .strip_prefix("https://")
                .or_else(|| origin.strip_prefix("http://"));
            host.is_some_and(|host| {
                !host.is_empty()
                    && host.bytes().all(|byte| byte.is_ascii_graphic())
                    && !host.contains(['/', '?', '#', '@', '*'])
                    && !host.contains(|c: char| c.is_ascii_uppercase())
            })
        };
        if origins.len() > ORIGINS_MAX || !origins.iter().all(is_origin) {
            return Err(format!(
                "allowed: off, *, or 1 to {ORIGINS_MAX} origins as browsers send them (https://logs.example.org,http://localhost:8000)"
            ));
        }
        Ok(Cors::Origins(origins))
    }
}

impl fmt::Display for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cors::Off => f.write_str("off"),
            Cors::Any => f.write_str("*"),
            Cors::Origins(origins) => f.write_str(&origins.join(",")),
        }
    }
}

/// The token on the first line of a file's text, without white space around it.
///
/// # Errors
/// What is allowed; never the token.
pub fn token_text(text: &[u8]) -> Result<&[u8], String> {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.trim_ascii();
    if !TOKEN_BYTES.contains(&line.len()) || !line.iter().all(u8::is_ascii_graphic) {
        return Err(format!(
            "its first line has {} bytes; allowed: {} to {} bytes of visible ASCII",
            line.len(),
            TOKEN_BYTES.start(),
            TOKEN_BYTES.end()
        ));
    }
    Ok(line)
}

/// A shared secret. Only its digest is kept, so that neither memory nor a log line has it, and the
/// time that a comparison takes says nothing about it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// The token on the first line of a file's text, without white space around it.
    ///
    /// # Errors
    /// What is allowed; never the token.
    pub fn from_file_text(text: &[u8]) -> Result<Token, String> {
        Ok(Token(Sha256::digest(token_text(text)?).into()))
    }

    /// Whether what a peer shows is the token.
    pub fn accepts(&self, shown: &[u8]) -> bool {
        <[u8; 32]>::from(Sha256::digest(shown)) == self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AllowList {
        let networks = text.split(',').map(|net| net.parse().expect("a network"));
        AllowList::new(networks.collect()).expect("short")
    }

    #[test]
    fn an_empty_list_allows_all_and_another_only_its_networks() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(AllowList::default().allows(address("1.2.3.4")));
        let list = list("10.0.0.0/8,192.168.1.7/32,fd00::/8");
        for allowed in ["10.255.0.1", "192.168.1.7", "fd12::1", "::ffff:10.1.2.3"] {
            assert!(list.allows(address(allowed)), "{allowed}");
        }
        for refused in ["11.0.0.1", "192.168.1.8", "fe80::1", "::ffff:11.0.0.1"] {
            assert!(!list.allows(address(refused)), "{refused}");
        }
        let many = (0..=NETWORKS_MAX as u32).map(|n| IpNet::from(IpAddr::from(n.to_be_bytes())));
        assert!(AllowList::new(many.collect()).is_err());
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        assert_eq!("off".parse(), Ok(Cors::Off));
        assert_eq!("*".parse(), Ok(Cors::Any));
        let two = "https://a.b:1,http://[::1]:2";
        let origins: Cors = two.parse().expect("origins");
        assert_eq!(origins.to_string(), two);
        for bad in [
            "",
            "a.b",
            "https://",
            "https://a/",
            "https://A.b",
            "https://a,",
            "https://*.b",
        ] {
            assert!(
                bad.parse::<Cors>()
                    .is_err_and(|why| why.contains("allowed")),
                "{bad}"
            );
        }
    }

    #[test]
    fn tokens_are_compared_and_never_shown() {
        let token = Token::from_file_text(b"  0123456789abcdef \r\nsecond line").expect("16 bytes");
        assert!(token.accepts(b"0123456789abcdef"));
        for wrong in [&b"0123456789abcdeF"[..], b"0123456789abcdef ", b""] {
            assert!(!token.accepts(wrong));
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
        for bad in [
            &b""[..],
            b"\n0123456789abcdef",
            b"0123456789abcde",
            b"0123456789 abcdef",
        ] {
            let error = Token::from_file_text(bad).expect_err("refused");
            assert!(
                error.contains("16 to 256 bytes of visible ASCII"),
                "{error}"
            );
            assert!(!error.contains("0123"), "{error}");
        }
        assert!(Token::from_file_text(&[b'x'; 257]).is_err());
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
