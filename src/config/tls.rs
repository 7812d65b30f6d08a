//! TLS at the ports of a distributor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use weir_tls::{
    Allowed, AllowedNames, ClientCertificates, MinVersion, SecuredLink, Served, ServerFiles,
    Unusable, NAMES_MAX,
};

use crate::credential::secret_file;
use crate::settings::{settings, Report, Reported};
use crate::{Admin, Config};

/// Most certificates of --tls-cert.
const PAIRS_MAX: usize = 64;

/// Whether TLS is spoken at a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// It is not.
    #[default]
    Off,
    /// Who speaks it may; its first bytes tell.
    Optional,
    /// Nothing else is.
    Required,
}

/// The words for it.
pub(crate) const TLS_MODES: &[&str] = &["off", "optional", "required"];

impl TlsMode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsMode::Off => "off",
            TlsMode::Optional => "optional",
            TlsMode::Required => "required",
        }
    }

    pub(crate) fn of(word: &str) -> Option<TlsMode> {
        let all = [TlsMode::Off, TlsMode::Optional, TlsMode::Required];
        all.into_iter().find(|mode| mode.as_str() == word)
    }
}

impl Reported for TlsMode {
    fn report(&self, name: &str, to: &mut Report) {
        to.insert(name.to_owned(), self.as_str().to_owned());
    }
}

impl Reported for AllowedNames {
    fn report(&self, name: &str, to: &mut Report) {
        let names: Vec<String> = self.iter().map(ToString::to_string).collect();
        to.insert(name.to_owned(), names.join(","));
    }
}

impl Reported for MinVersion {
    fn report(&self, name: &str, to: &mut Report) {
        to.insert(name.to_owned(), self.as_str().to_owned());
    }
}

impl Reported for Option<ClientCertificates> {
    fn report(&self, name: &str, to: &mut Report) {
        to.insert(name.to_owned(), clients_word(*self).to_owned());
    }
}

impl Reported for Vec<PathBuf> {
    fn report(&self, name: &str, to: &mut Report) {
        let paths: Vec<String> = { self.iter() }.map(|it| it.display().to_string()).collect();
        to.insert(name.to_owned(), paths.join(","));
    }
}

pub(crate) fn clients_word(clients: Option<ClientCertificates>) -> &'static str {
    clients.map_or("auto", |clients| match clients {
        ClientCertificates::Off => "off",
        ClientCertificates::Optional => "optional",
        ClientCertificates::Required => "required",
    })
}

/// Whose id an analyzer may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnalyzerIds {
    /// One of the names of its certificate, if it shows one.
    #[default]
    Auto,
    /// Any.
    Any,
    /// One of the names of its certificate; who shows none is refused.
    Certificate,
}

impl AnalyzerIds {
    /// The words for it.
    pub(crate) const WORDS: [&'static str; 3] = ["auto", "any", "certificate"];

    fn of(word: &str) -> AnalyzerIds {
        match word {
            "any" => AnalyzerIds::Any,
            "certificate" => AnalyzerIds::Certificate,
            _ => AnalyzerIds::Auto,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            AnalyzerIds::Auto => "auto",
            AnalyzerIds::Any => "any",
            AnalyzerIds::Certificate => "certificate",
        }
    }
}

impl Reported for AnalyzerIds {
    fn report(&self, name: &str, to: &mut Report) {
        to.insert(name.to_owned(), self.as_str().to_owned());
    }
}

fn mode(word: String) -> TlsMode {
    TlsMode::of(&word).unwrap_or_default()
}

/// Behind an alias, so that clap takes it for one value. None: as what is said elsewhere has it.
type Clients = Option<ClientCertificates>;

/// The words for it.
pub(crate) const TLS_CLIENTS: &[&str] = &["auto", "off", "optional", "required"];

fn clients(word: String) -> Clients {
    clients_of(&word)
}

pub(crate) fn clients_of(word: &str) -> Clients {
    match word {
        "off" => Some(ClientCertificates::Off),
        "optional" => Some(ClientCertificates::Optional),
        "required" => Some(ClientCertificates::Required),
        _ => None,
    }
}

pub(crate) fn names(text: &str) -> Result<AllowedNames, String> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let names: Result<Vec<Allowed>, String> = parts
        .map(|part| part.parse().map_err(|why| format!("{part}: {why}")))
        .collect();
    let names = names?;
    match names.len() {
        0 => Err("allowed: one name at least, with commas between several".to_owned()),
        1..=NAMES_MAX => Ok(AllowedNames::new(names)),
        many => Err(format!("{many} names, allowed: {NAMES_MAX}")),
    }
}

settings! {
/// TLS: where it is spoken, and with which certificates.
#[derive(clap::Args, Clone, Debug)]
pub struct TlsConfig {
    /// TLS at the port of --emitters: off, optional (who does not speak it is let in as well; the first bytes tell), or
    /// required
    #[arg(long, value_name = "POLICY", default_value = "off", value_parser = PossibleValuesParser::new(TLS_MODES).map(mode), help_heading = "TLS")]
    pub emitters_tls: TlsMode,
    /// TLS at the port of --analyzers
    #[arg(long, value_name = "POLICY", default_value = "off", value_parser = PossibleValuesParser::new(TLS_MODES).map(mode), help_heading = "TLS")]
    pub analyzers_tls: TlsMode,
    /// TLS at the port of --http
    #[arg(long, value_name = "POLICY", default_value = "off", value_parser = PossibleValuesParser::new(TLS_MODES).map(mode), help_heading = "TLS")]
    pub http_tls: TlsMode,
    /// TLS at --admin, where that is an address: off, optional, required
    #[arg(long, value_name = "POLICY", default_value = "off", value_parser = PossibleValuesParser::new(TLS_MODES).map(mode), help_heading = "TLS")]
    pub admin_tls: TlsMode,
    /// The certificate that is shown, and behind it those of the CAs that signed it, PEM. Several times: a client gets the
    /// first that has the name which it asks for (SNI), or else the first
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    pub tls_cert: Vec<PathBuf>,
    /// Its private key, PEM, without a passphrase; as many as --tls-cert, in the same order
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    pub tls_key: Vec<PathBuf>,
    /// CAs whose certificates clients must show, PEM
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients must show a certificate: off, optional (who shows none is let in), required, or auto: required
    /// with --tls-client-ca
    #[arg(long, value_name = "POLICY", default_value = "auto", value_parser = PossibleValuesParser::new(TLS_CLIENTS).map(clients), help_heading = "TLS")]
    pub tls_clients: Clients,
    /// Whose certificates let a client in: names of them (DNS, *.DNS, URI, e-mail, IP), CN=name, or sha256:FINGERPRINT;
    /// default: everybody's that the CAs have signed
    #[arg(long, value_name = "LIST", value_parser = names, help_heading = "TLS")]
    pub tls_names: Option<AllowedNames>,
    /// The same as --tls-clients at the port of --emitters alone; auto: as --tls-clients
    #[arg(long, value_name = "POLICY", default_value = "auto", value_parser = PossibleValuesParser::new(TLS_CLIENTS).map(clients), help_heading = "TLS")]
    pub emitters_tls_clients: Clients,
    /// The same as --tls-names at the port of --emitters alone; default: as --tls-names
    #[arg(long, value_name = "LIST", value_parser = names, help_heading = "TLS")]
    pub emitters_tls_names: Option<AllowedNames>,
    /// The same as --tls-clients at the port of --analyzers alone; auto: as --tls-clients
    #[arg(long, value_name = "POLICY", default_value = "auto", value_parser = PossibleValuesParser::new(TLS_CLIENTS).map(clients), help_heading = "TLS")]
    pub analyzers_tls_clients: Clients,
    /// The same as --tls-names at the port of --analyzers alone; default: as --tls-names
    #[arg(long, value_name = "LIST", value_parser = names, help_heading = "TLS")]
    pub analyzers_tls_names: Option<AllowedNames>,
    /// The same as --tls-clients at the port of --http alone; auto: as --tls-clients
    #[arg(long, value_name = "POLICY", default_value = "auto", value_parser = PossibleValuesParser::new(TLS_CLIENTS).map(clients), help_heading = "TLS")]
    pub http_tls_clients: Clients,
    /// The same as --tls-names at the port of --http alone; default: as --tls-names
    #[arg(long, value_name = "LIST", value_parser = names, help_heading = "TLS")]
    pub http_tls_names: Option<AllowedNames>,
    /// Certificates of clients that were revoked: lists of the CAs (CRL), PEM
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    pub tls_revoked: Option<PathBuf>,
    /// Ids that analyzers may have: any; certificate, names of their certificates (NAME, or NAME# and more), and who shows
    /// none is refused; or auto: the same of who shows a certificate, and any of others
    #[arg(long, alias = "analyzer-id", value_name = "POLICY", default_value = "auto", value_parser = PossibleValuesParser::new(AnalyzerIds::WORDS).map(|word| AnalyzerIds::of(&word)), help_heading = "TLS")]
    pub analyzers_tls_ids: AnalyzerIds,
    /// Oldest version that is spoken
    #[arg(long, value_name = "POLICY", default_value = "1.2", value_parser = PossibleValuesParser::new(MinVersion::WORDS).map(|word| MinVersion::of(&word)), help_heading = "TLS")]
    pub tls_min: MinVersion,
    /// Keys of session tickets that several distributors share, so that clients resume with any of them: base64 of 80 or
    /// 48 random bytes a line, as HAProxy has them. The last but one makes tickets, the last three take them. Default:
    /// own ones
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    pub tls_ticket_keys: Option<PathBuf>,
    /// Append the secrets of all connections over TLS, to analyzers as well, to this file, as SSLKEYLOGFILE does, which
    /// itself is not looked at: to read captured packets. Whoever has the file can read all of them
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_key_log: Option<PathBuf>,
    /// What the files of each port have, by [`TlsPort::key`], once they were read; empty where TLS is not spoken.
    #[arg(skip)]
    pub served: BTreeMap<String, Arc<Served>> as _,
    /// Handshakes under way at each port of each shard, at most. What descriptors leave, no setting.
    #[arg(skip)]
    pub handshakes: usize as _,
}
}

/// What one port says itself; what it leaves out is as for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnTls {
    /// The certificate that is shown there.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// CAs of its clients.
    pub client_ca: Option<PathBuf>,
    /// What of them is asked.
    pub clients: Clients,
    /// Who of them is let in.
    pub names: Option<AllowedNames>,
}

impl OwnTls {
    /// It says something itself.
    pub fn is_given(&self) -> bool {
        *self != OwnTls::default()
    }
}

/// A port where TLS is spoken.
#[derive(Debug)]
pub struct TlsPort {
    /// What it is known by: `emitters`, `analyzers`, `http`, `admin`, or `inputs.NAME`.
    pub key: String,
    /// What is said of it: a flag with dashes.
    flag: String,
    mode: TlsMode,
    own: OwnTls,
}

impl TlsPort {
    /// The key of an input.
    pub fn key_of_input(name: &str) -> String {
        format!("inputs.{name}")
    }

    /// How its own setting is written.
    fn setting(&self, what: &str) -> String {
        match self.key.starts_with("inputs.") {
            true => format!("{}: {}", self.flag, what.replace('-', "_")),
            false => format!("{}-{what}", self.flag),
        }
    }
}

impl Config {
    /// Ports where TLS is spoken.
    fn tls_ports(&self) -> Vec<TlsPort> {
        let tls = &self.tls;
        let own = |clients: Clients, names: &Option<AllowedNames>| OwnTls {
            clients,
            names: names.clone(),
            ..OwnTls::default()
        };
        let main = [
            (
                "emitters",
                tls.emitters_tls,
                own(tls.emitters_tls_clients, &tls.emitters_tls_names),
            ),
            (
                "analyzers",
                tls.analyzers_tls,
                own(tls.analyzers_tls_clients, &tls.analyzers_tls_names),
            ),
            (
                "http",
                tls.http_tls,
                own(tls.http_tls_clients, &tls.http_tls_names),
            ),
            ("admin", tls.admin_tls, OwnTls::default()),
        ];
        let main = main.into_iter().map(|(name, mode, own)| TlsPort {
            key: name.to_owned(),
            flag: format!("--{name}"),
            mode,
            own,
        });
        let inputs = self.all_inputs().into_iter().map(|input| TlsPort {
            key: TlsPort::key_of_input(&input.name()),
            flag: input.flag(),
            mode: input.tls,
            own: input.own_tls,
        });
        let all = main.chain(inputs);
        all.filter(|port| port.mode != TlsMode::Off).collect()
    }

    /// TLS is spoken somewhere.
    pub fn speaks_tls(&self) -> bool {
        !self.tls_ports().is_empty()
    }

    /// Ports of each shard where TLS is spoken; that of operators is the process's.
    pub fn tls_ports_of_shards(&self) -> usize {
        let ports = self.tls_ports();
        ports.iter().filter(|port| port.key != "admin").count()
    }

    /// Files of certificates, keys, CAs and lists, where TLS is spoken, also towards analyzers: they may change while the
    /// distributor runs.
    pub fn tls_paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for port in self.tls_ports() {
            let files = self.tls_files(&port);
            paths.extend(files.pairs.into_iter().flat_map(|(cert, key)| [cert, key]));
            let more = [files.client_ca, files.revoked, files.ticket_keys];
            paths.extend(more.into_iter().flatten());
        }
        let analyzers = self.http.analyzers.iter();
        paths.extend(analyzers.flat_map(|analyzer| analyzer.delivery().tls_paths()));
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// Certificates that clients refuse, or soon will; keys that everybody on this host can read. It reads files. Nothing
    /// where TLS is not spoken.
    pub fn tls_troubles(&self) -> Vec<String> {
        let mut all = BTreeSet::new();
        for port in self.tls_ports() {
            let flag = match port.own.key {
                Some(_) => port.setting("tls-key"),
                None => "--tls-key".to_owned(),
            };
            let files = self.tls_files(&port);
            let keys = files.pairs.iter().map(|(_, key)| (&flag[..], key));
            let tickets = { files.ticket_keys.iter() }.map(|path| ("--tls-ticket-keys", path));
            for (flag, path) in keys.chain(tickets) {
                let exposed = weir_tls::exposed_key(path);
                all.extend(exposed.map(|why| format!("{flag} {why}")));
            }
            let wrong = weir_tls::troubles(&files).into_iter();
            all.extend(wrong.map(|what| format!("TLS: {what}")));
        }
        for analyzer in self.http_analyzers() {
            let paths = analyzer.delivery().tls_paths();
            let wrong = paths.iter().flat_map(|path| weir_tls::expiring(path));
            let of = |what: String| format!("TLS: analyzer {}: {what}", analyzer.id());
            all.extend(wrong.map(of));
        }
        all.into_iter().collect()
    }

    /// Nobody comes in at this port who shows no certificate.
    pub(crate) fn lets_in_by_certificate(&self, key: &str) -> bool {
        let mut ports = self.tls_ports().into_iter().filter(|port| port.key == key);
        ports.any(|port| {
            let clients = self.tls_files(&port).clients;
            port.mode == TlsMode::Required && clients == ClientCertificates::Required
        })
    }

    /// What an operator may not have meant, one sentence each.
    pub(crate) fn tls_warnings(&self) -> Vec<String> {
        let mut warnings = self.tls_troubles();
        if let Some(path) = &self.tls.tls_key_log {
            let path = path.display();
            warnings.push(format!("--tls-key-log {path}: the secrets of all connections over TLS, to analyzers as well, are written there; whoever has the file can read what they say. Take the flag away when the fault is found"));
        }
        let ports = self.tls_ports();
        let asked = |port: &TlsPort| self.tls_files(port).client_ca;
        let asks = |port: &TlsPort| self.tls_files(port).clients != ClientCertificates::Off;
        if self.tls.tls_client_ca.is_some() && !ports.is_empty() && !ports.iter().any(asks) {
            warnings.push("--tls-client-ca: no port asks clients for certificates (--tls-clients off), so it keeps nobody out; allowed: --tls-clients required or optional".to_owned());
        }
        let analyzers = ports.iter().find(|port| port.key == "analyzers");
        let analyzers = analyzers.map(|port| self.tls_files(port));
        if let Some(files) = analyzers.filter(|files| files.names.is_empty()) {
            let mut emitters = ports.iter().filter(|port| port.key != "analyzers");
            let ca = files.client_ca;
            if ca.is_some() && emitters.any(|port| asked(port) == ca) {
                warnings.push("--analyzers-tls: any certificate of --tls-client-ca, an emitter's as well, lets in whoever has it, and gets messages; --analyzers-tls-names says whose may".to_owned());
            }
        }
        warnings
    }

    /// What a port serves, as files.
    fn tls_files(&self, port: &TlsPort) -> ServerFiles {
        let (tls, own) = (&self.tls, &port.own);
        let pairs = match own.cert.clone().zip(own.key.clone()) {
            Some(pair) => vec![pair],
            None => { tls.tls_cert.iter().cloned() }
                .zip(tls.tls_key.iter().cloned())
                .collect(),
        };
        let client_ca = own.client_ca.as_ref().or(tls.tls_client_ca.as_ref());
        // A CA of its own is there to be asked for.
        let of_all = tls.tls_clients.filter(|_| own.client_ca.is_none());
        let clients = own.clients.or(of_all).unwrap_or(match client_ca {
            Some(_) => ClientCertificates::Required,
            None => ClientCertificates::Off,
        });
        let asks = clients != ClientCertificates::Off;
        let names = own.names.as_ref().or(tls.tls_names.as_ref());
        ServerFiles {
            pairs,
            client_ca: client_ca.filter(|_| asks).cloned(),
            clients,
            revoked: tls.tls_revoked.clone().filter(|_| asks),
            names: names.filter(|_| asks).cloned().unwrap_or_default(),
            min_version: tls.tls_min,
            is_http: ["http", "admin"].contains(&&port.key[..]),
            ticket_keys: tls.tls_ticket_keys.clone(),
            key_log: tls.tls_key_log.clone(),
        }
    }

    /// Reads certificates and keys, where TLS is spoken. `before`: what is in force; a certificate that is served there is
    /// not refused because it has expired since.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn read_tls(&mut self, before: Option<&Config>) -> Result<(), Unusable> {
        let mut served = BTreeMap::new();
        for port in self.tls_ports() {
            let files = self.tls_files(&port);
            let before = before.and_then(|before| before.tls.served.get(&port.key));
            let read = Served::read_after(&files, before.map(|it| &**it))?;
            served.insert(port.key, Arc::new(read));
        }
        self.tls.served = served;
        Ok(())
    }

    /// What the same files have now, as far as they can be used; the others, and why.
    pub fn renew_tls(&mut self) -> Vec<String> {
        let mut refused = BTreeSet::new();
        for port in self.tls_ports() {
            let files = self.tls_files(&port);
            let Some(served) = self.tls.served.get_mut(&port.key) else {
                continue;
            };
            match Served::renewed(&files, served) {
                Ok((renewed, found)) => {
                    *served = Arc::new(renewed);
                    refused.extend(found.iter().map(ToString::to_string));
                }
                Err(unusable) => {
                    refused.insert(unusable.to_string());
                }
            }
        }
        refused.into_iter().collect()
    }

    /// How TLS is begun with each analyzer that it is spoken to.
    pub fn tls_links(&self) -> Vec<Arc<SecuredLink>> {
        let analyzers = self.http.analyzers.iter();
        let links = analyzers.filter_map(|analyzer| analyzer.delivery().link());
        links.cloned().collect()
    }

    /// Whether what is said of TLS goes together.
    ///
    /// # Errors
    /// The flag, and what is allowed.
    pub(crate) fn check_tls(&self) -> Result<(), String> {
        let tls = &self.tls;
        match (tls.tls_cert.len(), tls.tls_key.len()) {
            (1.., 0) => return Err("--tls-cert: its key is missing (--tls-key)".to_owned()),
            (0, 1..) => return Err("--tls-key: its certificate is missing (--tls-cert)".to_owned()),
            (certs, keys) if certs != keys => {
                return Err(format!("--tls-cert: {certs} certificates and {keys} keys; allowed: a --tls-key for each, in the same order"));
            }
            (certs, _) if certs > PAIRS_MAX => {
                return Err(format!(
                    "--tls-cert: {certs} certificates, allowed: {PAIRS_MAX}"
                ));
            }
            _ => {}
        }
        if tls.admin_tls != TlsMode::Off && !matches!(self.admin, Some(Admin::Tcp(_))) {
            return Err("--admin-tls: there is no TCP address of operators, and a Unix socket needs none; allowed: with --admin IP:PORT".to_owned());
        }
        let ports = self.tls_ports();
        if tls.tls_ticket_keys.is_some() && ports.is_empty() {
            return Err("--tls-ticket-keys: TLS is not spoken; allowed: with --emitters-tls and the like, --tls-cert and --tls-key".to_owned());
        }
        for port in &ports {
            self.check_tls_port(port)?;
        }
        for input in self.all_inputs() {
            if input.tls == TlsMode::Off && input.own_tls.is_given() {
                let flag = input.flag();
                return Err(format!("{flag}: tls_cert, tls_key, tls_client_ca, tls_clients, tls_names: TLS is not spoken there; allowed: with tls=required or optional"));
            }
        }
        let mut asks = ports.iter().map(|port| self.tls_files(port).clients);
        let none_asks = asks.all(|clients| clients == ClientCertificates::Off);
        for (flag, is_given) in [
            ("--tls-names", tls.tls_names.is_some()),
            ("--tls-revoked", tls.tls_revoked.is_some()),
        ] {
            if is_given && none_asks {
                return Err(format!(
                    "{flag}: clients show no certificates; allowed: with --tls-client-ca"
                ));
            }
        }
        let mut analyzers = self.http.analyzers.iter();
        let has_links = analyzers.any(|analyzer| analyzer.delivery().secured.is_some());
        if tls.tls_key_log.is_some() && ports.is_empty() && !has_links {
            return Err("--tls-key-log: TLS is spoken nowhere; allowed: with --emitters-tls and the like, and with analyzers at https:// and the like".to_owned());
        }
        let mut analyzers = ports.iter().filter(|port| port.key == "analyzers");
        let analyzers_show =
            analyzers.any(|port| self.tls_files(port).clients != ClientCertificates::Off);
        if tls.analyzers_tls_ids == AnalyzerIds::Certificate && !analyzers_show {
            return Err("--analyzers-tls-ids certificate: analyzers show no certificates; allowed: with --analyzers-tls and --tls-client-ca".to_owned());
        }
        Ok(())
    }

    fn check_tls_port(&self, port: &TlsPort) -> Result<(), String> {
        match (&port.own.cert, &port.own.key) {
            (Some(_), None) => {
                let (cert, key) = (port.setting("tls-cert"), port.setting("tls-key"));
                return Err(format!("{cert}: its key is missing ({key})"));
            }
            (None, Some(_)) => {
                let (cert, key) = (port.setting("tls-cert"), port.setting("tls-key"));
                return Err(format!("{key}: its certificate is missing ({cert})"));
            }
            _ => {}
        }
        let files = self.tls_files(port);
        if files.pairs.is_empty() {
            return Err("TLS is asked for, and there is no certificate to show; allowed: with --tls-cert and --tls-key".to_owned());
        }
        let asks = files.clients != ClientCertificates::Off;
        if asks && files.client_ca.is_none() {
            let said = match port.own.clients {
                Some(_) => port.setting("tls-clients"),
                None => "--tls-clients".to_owned(),
            };
            return Err(format!("{said}: clients are asked for certificates, and no CA of theirs is known; allowed: with --tls-client-ca"));
        }
        for (what, is_given) in [
            ("tls-names", port.own.names.is_some()),
            ("tls-client-ca", port.own.client_ca.is_some()),
        ] {
            if is_given && !asks {
                let said = port.setting(what);
                return Err(format!("{said}: clients show no certificates there; allowed: with a CA of theirs (--tls-client-ca), and without tls-clients off"));
            }
        }
        Ok(())
    }
}
