//! `weir cert`: a CA and pairs of certificate and key, for trying TLS out.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::values;
use crate::out;
use crate::streams::say;
use crate::tls::{check_pair, Facts};

/// The names of CAs of this program begin so. It signs with no others: it does not know what they are for.
const CA_NAME: &str = "Weir trial CA";
/// Of keys.
const MODE_SECRET: u32 = 0o600;
const MODE_OPEN: u32 = 0o644;
/// Clocks of hosts differ.
const EARLIER: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Makes a CA, certificates and keys, to try TLS out with. Where it counts, use a CA that keeps its key apart.
///
/// DIR gets ca.pem and ca.key, and for the distributor and each client NAME.pem and NAME.key. Keys are readable by their
/// owner alone. A CA that it made before in DIR is used again. It never overwrites a file.
///
/// Exit status: 0 made, 1 a file is there already or cannot be written, 2 usage.
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Directory for the files; it is made if need be
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    /// Names and IP addresses of the distributor, all in one certificate; the first names its files. Clients must ask
    /// for one of them
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        default_value = "localhost,127.0.0.1,::1"
    )]
    name: Vec<String>,
    /// Names of clients, for each a certificate of its own: DNS names, or URIs (spiffe://example.org/web)
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    client: Vec<String>,
    /// How long they are valid
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = values::number(1..=3650_u32))]
    days: u32,
    /// Leave a pair as it is that is there already, and make the others: for start scripts that run again
    #[arg(long)]
    keep: bool,
}

/// Makes them.
pub fn run(args: &Args) -> ExitCode {
    match make(args) {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("weir cert: {error}"));
            ExitCode::from(1)
        }
    }
}

/// A file that is to be written.
struct File {
    path: PathBuf,
    text: String,
    mode: u32,
}

/// Who signs, and its files if it is new.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    files: Vec<File>,
}

fn make(args: &Args) -> Result<String, String> {
    let [ca_pem, ca_key] = ["ca.pem", "ca.key"].map(|name| args.dir.join(name));
    let distributor = stem(args.name.first().map_or("", String::as_str))?;
    let mut wanted = vec![distributor];
    for client in &args.client {
        wanted.push(stem(client)?);
    }
    for name in args.name.iter().chain(&args.client) {
        alternative(name)?;
    }
    for (at, name) in wanted.iter().enumerate() {
        if wanted[..at].contains(name) || name == "ca" {
            return Err(format!("{name}: two pairs would have the files {name}.pem and {name}.key; allowed: names that differ, none of them ca"));
        }
    }
    let is_kept =
        |name: &String| args.keep && pair_paths(&args.dir, name).iter().all(|path| path.exists());
    if wanted.iter().all(is_kept) {
        let dir = args.dir.display();
        return Ok(format!(
            "All of it is in {dir} already, and was left as it is."
        ));
    }
    let is_kept: Vec<bool> = wanted.iter().map(is_kept).collect();
    let to_make = wanted
        .iter()
        .zip(&is_kept)
        .filter(|(_, is_kept)| !**is_kept);
    let pairs = to_make.flat_map(|(name, _)| pair_paths(&args.dir, name));
    if let Some(there) = pairs.into_iter().find(|path| path.exists()) {
        let path = there.display();
        return Err(format!("{path} is there already, and nothing is overwritten; nothing was written. Allowed: other names, another --dir, or remove it first"));
    }
    let ca = match (ca_pem.exists(), ca_key.exists()) {
        (false, false) => new_ca(&ca_pem, &ca_key, args.days)?,
        (true, true) => known_ca(&ca_pem, &ca_key)?,
        (true, false) => return Err(half(&ca_pem, &ca_key)),
        (false, true) => return Err(half(&ca_key, &ca_pem)),
    };
    let mut files = ca.files;
    let is_new = !files.is_empty();
    let (server_is_kept, clients_are_kept) = is_kept.split_first().unwrap_or((&false, &[]));
    if !server_is_kept {
        let (names, issuer) = (&args.name, &ca.issuer);
        files.extend(pair(&args.dir, names, args.days, Use::Server, issuer)?);
    }
    for (client, is_kept) in args.client.iter().zip(clients_are_kept) {
        if *is_kept {
            continue;
        }
        let names = std::slice::from_ref(client);
        files.extend(pair(&args.dir, names, args.days, Use::Client, &ca.issuer)?);
    }
    write_all(&args.dir, &files)?;
    Ok(what_next(args, &files, is_new, &wanted))
}

fn half(there: &Path, missing: &Path) -> String {
    let [there, missing] = [there, missing].map(Path::display);
    format!("{there} is there and {missing} is not, so nothing can be signed; allowed: both, or neither")
}

/// What files of a name are called.
fn stem(name: &str) -> Result<String, String> {
    let stem: String = name
        .chars()
        .map(|c| match c {
            '*' => '_',
            c if c.is_ascii_alphanumeric() || "-._".contains(c) => c,
            _ => '-',
        })
        .collect();
    match stem.trim_matches(['.', '-']) {
        "" => Err(format!(
            "{name:?}: allowed: a DNS name, an IP address, or a URI"
        )),
        stem => Ok(stem.to_owned()),
    }
}

fn pair_paths(dir: &Path, name: &str) -> [PathBuf; 2] {
    ["pem", "key"].map(|end| dir.join(format!("{name}.{end}")))
}

/// What a certificate is for.
#[derive(Clone, Copy)]
enum Use {
    Server,
    Client,
}

/// Valid from a little before now on.
fn params(days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.not_before = (now - EARLIER).into();
    params.not_after = (now + DAY * days).into();
    params
}

fn new_ca(ca_pem: &Path, ca_key: &Path, days: u32) -> Result<Ca, String> {
    let key = new_key()?;
    let mut params = params(days);
    let mark: String = { key.public_key_raw().iter().rev().take(4) }
        .map(|byte| format!("{byte:02x}"))
        .collect();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{CA_NAME} {mark}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let signed = params.self_signed(&key).map_err(not_made)?;
    let files = vec![
        secret(ca_key.to_owned(), key.serialize_pem()),
        open(ca_pem.to_owned(), signed.pem()),
    ];
    let issuer = Issuer::new(params, key);
    Ok(Ca { issuer, files })
}

/// One that this program has made before.
fn known_ca(ca_pem: &Path, ca_key: &Path) -> Result<Ca, String> {
    let facts: Facts = check_pair(ca_pem, ca_key).map_err(|unusable| unusable.to_string())?;
    let name = facts.peer.common_name.unwrap_or_default();
    if !name.starts_with(CA_NAME) {
        let path = ca_pem.display();
        return Err(format!("{path} is a CA ({name}) that weir cert has not made, and it does not sign for others; allowed: another --dir"));
    }
    let text = fs::read_to_string(ca_key).map_err(named(ca_key))?;
    let key = KeyPair::from_pem(&text).map_err(|error| format!("{}: {error}", ca_key.display()))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let files = Vec::new();
    let issuer = Issuer::new(params, key);
    Ok(Ca { issuer, files })
}

fn pair(
    dir: &Path,
    names: &[String],
    days: u32,
    of: Use,
    issuer: &Issuer<'static, KeyPair>,
) -> Result<[File; 2], String> {
    let key = new_key()?;
    let mut params = params(days);
    let first = names.first().map_or("", String::as_str);
    params.distinguished_name.push(DnType::CommonName, first);
    for name in names {
        params.subject_alt_names.push(alternative(name)?);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match of {
        Use::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Use::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    let signed = params.signed_by(&key, issuer).map_err(not_made)?;
    let [pem_path, key_path] = pair_paths(dir, &stem(first)?);
    Ok([
        secret(key_path, key.serialize_pem()),
        open(pem_path, signed.pem()),
    ])
}

fn alternative(name: &str) -> Result<SanType, String> {
    if let Ok(ip) = name.parse() {
        return Ok(SanType::IpAddress(ip));
    }
    let text = name.try_into();
    let text = text.map_err(|_| format!("{name:?}: allowed: ASCII"))?;
    if name.contains("://") {
        return Ok(SanType::URI(text));
    }
    let is_label = |label: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_*".contains(c);
        (1..=63).contains(&label.len()) && label.chars().all(fits)
    };
    match name.split('.').all(is_label) {
        true => Ok(SanType::DnsName(text)),
        false => Err(format!(
            "{name:?}: allowed: a DNS name, an IP address, or a URI"
        )),
    }
}

/// ECDSA with P-256, which everything can do.
fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(not_made)
}

fn not_made(error: rcgen::Error) -> String {
    format!("a certificate cannot be made: {error}")
}

fn named(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}

fn secret(path: PathBuf, text: String) -> File {
    let mode = MODE_SECRET;
    File { path, text, mode }
}

fn open(path: PathBuf, text: String) -> File {
    let mode = MODE_OPEN;
    File { path, text, mode }
}

fn write_all(dir: &Path, files: &[File]) -> Result<(), String> {
    DirBuilder::new()
        .recursive(true)
        .create(dir)
        .map_err(named(dir))?;
    for file in files {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(file.mode);
        let written = options
            .open(&file.path)
            .and_then(|mut to| to.write_all(file.text.as_bytes()));
        written.map_err(named(&file.path))?;
    }
    Ok(())
}

/// What there is now, and the two commands to try.
fn what_next(args: &Args, files: &[File], is_new: bool, names: &[String]) -> String {
    let at = |name: &str| args.dir.join(name).display().to_string();
    let shown = |file: &File| format!("{}\n", file.path.display());
    let mut text: String = files.iter().map(shown).collect();
    if !is_new {
        text += &format!("Signed by the CA that was there: {}\n", at("ca.pem"));
    }
    let server = &names[0];
    let (cert, key) = (at(&format!("{server}.pem")), at(&format!("{server}.key")));
    let ca = at("ca.pem");
    let host = match args.name[0].contains(':') {
        true => format!("[{}]", args.name[0]),
        false => args.name[0].clone(),
    };
    let mut distributor = format!("weir distributor --emitters-tls required --analyzers-tls required --tls-cert {cert} --tls-key {key}");
    let mut emitter = format!("weir emitter --addr {host}:8080 --tls --tls-ca {ca}");
    if let Some(client) = names.get(1) {
        distributor += &format!(" --tls-client-ca {ca}");
        let [pem, key] = pair_paths(&args.dir, client).map(|path| path.display().to_string());
        emitter += &format!(" --tls-cert {pem} --tls-key {key}");
    }
    text + &format!(
        "Valid for {} days. Keep ca.key to yourself: whoever has it is trusted.\n\nTry it:\n  {distributor}\n  {emitter}\n",
        args.days
    )
}
