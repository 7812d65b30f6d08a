//! TLS at the ports of a distributor.

use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use weir_tls::{
    Allowed, AllowedNames, ClientCertificates, MinVersion, Served, ServerFiles, Unusable, NAMES_MAX,
};

use crate::credential::secret_file;
use crate::settings::{settings, Report, Reported};
use crate::{Admin, Config};

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
        let word = self.map_or("auto", |clients| match clients {
            ClientCertificates::Off => "off",
            ClientCertificates::Optional => "optional",
            ClientCertificates::Required => "required",
        });
        to.insert(name.to_owned(), word.to_owned());
    }
}

fn mode(word: String) -> TlsMode {
    TlsMode::of(&word).unwrap_or_default()
}

/// Behind an alias, so that clap takes it for one value.
type Clients = Option<ClientCertificates>;

fn clients(word: String) -> Clients {
    match word.as_str() {
        "off" => Some(ClientCertificates::Off),
        "optional" => Some(ClientCertificates::Optional),
        "required" => Some(ClientCertificates::Required),
        _ => None,
    }
}

fn names(text: &str) -> Result<AllowedNames, String> {
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
    /// The certificate that is shown, and behind it those of the CAs that signed it, PEM
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM, without a passphrase
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    pub tls_key: Option<PathBuf>,
    /// CAs whose certificates clients must show, PEM
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients must show a certificate: off, optional (who shows none is let in), required, or auto: required
    /// with --tls-client-ca
    #[arg(long, value_name = "POLICY", default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "off", "optional", "required"]).map(clients), help_heading = "TLS")]
    pub tls_clients: Clients,
    /// Whose certificates let a client in: names of them (DNS, *.DNS, URI, e-mail, IP), CN=name, or sha256:FINGERPRINT;
    /// default: everybody's that the CAs have signed
    #[arg(long, value_name = "LIST", value_parser = names, help_heading = "TLS")]
    pub tls_names: Option<AllowedNames>,
    /// Certificates of clients that were revoked: lists of the CAs (CRL), PEM
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    pub tls_revoked: Option<PathBuf>,
    /// Oldest version that is spoken
    #[arg(long, value_name = "POLICY", default_value = "1.2", value_parser = PossibleValuesParser::new(MinVersion::WORDS).map(|word| MinVersion::of(&word)), help_heading = "TLS")]
    pub tls_min: MinVersion,
    /// Keys of session tickets that several distributors share, so that clients resume with any of them: base64 of 80 or
    /// 48 random bytes a line, as HAProxy has them. The last but one makes tickets, the last three take them. Default:
    /// own ones
    #[arg(long, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    pub tls_ticket_keys: Option<PathBuf>,
    /// What these files have, once they were read; none where TLS is not spoken.
    #[arg(skip)]
    pub served: Option<Arc<Served>> as _,
}
}

impl TlsConfig {
    /// Files that are read, and that may change while the distributor runs.
    pub fn paths(&self) -> Vec<PathBuf> {
        let all = [
            &self.tls_cert,
            &self.tls_key,
            &self.tls_client_ca,
            &self.tls_revoked,
            &self.tls_ticket_keys,
        ];
        all.into_iter().flatten().cloned().collect()
    }

    /// Certificates that clients refuse, or soon will; keys that everybody on this host can read. It reads files.
    pub fn troubles(&self) -> Vec<String> {
        let secrets = [
            ("--tls-key", &self.tls_key),
            ("--tls-ticket-keys", &self.tls_ticket_keys),
        ];
        let exposed = secrets.into_iter().filter_map(|(flag, path)| {
            let why = path.as_deref().and_then(weir_tls::exposed_key)?;
            Some(format!("{flag} {why}"))
        });
        let files = self.files();
        let wrong = files.iter().flat_map(weir_tls::troubles);
        exposed
            .chain(wrong.map(|what| format!("TLS: {what}")))
            .collect()
    }

    /// What is served, as files; none without a certificate.
    pub fn files(&self) -> Option<ServerFiles> {
        let pair = self.tls_cert.clone().zip(self.tls_key.clone())?;
        let auto = match self.tls_client_ca {
            Some(_) => ClientCertificates::Required,
            None => ClientCertificates::Off,
        };
        Some(ServerFiles {
            pairs: vec![pair],
            client_ca: self.tls_client_ca.clone(),
            clients: self.tls_clients.unwrap_or(auto),
            revoked: self.tls_revoked.clone(),
            names: self.tls_names.clone().unwrap_or_default(),
            min_version: self.tls_min,
            ticket_keys: self.tls_ticket_keys.clone(),
        })
    }
}

impl Config {
    /// TLS is spoken somewhere.
    pub fn speaks_tls(&self) -> bool {
        let tls = &self.tls;
        let ports = [
            tls.emitters_tls,
            tls.analyzers_tls,
            tls.http_tls,
            tls.admin_tls,
        ];
        let inputs = self.all_inputs().into_iter().map(|input| input.tls);
        ports
            .into_iter()
            .chain(inputs)
            .any(|mode| mode != TlsMode::Off)
    }

    /// Reads certificates and keys, where TLS is spoken.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn read_tls(&mut self) -> Result<(), Unusable> {
        self.tls.served = match self.tls.files().filter(|_| self.speaks_tls()) {
            Some(files) => Some(Arc::new(Served::read(&files)?)),
            None => None,
        };
        Ok(())
    }

    /// Whether what is said of TLS goes together.
    ///
    /// # Errors
    /// The flag, and what is allowed.
    pub(crate) fn check_tls(&self) -> Result<(), String> {
        let tls = &self.tls;
        match (&tls.tls_cert, &tls.tls_key) {
            (Some(_), None) => return Err("--tls-cert: its key is missing (--tls-key)".to_owned()),
            (None, Some(_)) => {
                return Err("--tls-key: its certificate is missing (--tls-cert)".to_owned())
            }
            (None, None) if self.speaks_tls() => {
                return Err("TLS is asked for, and there is no certificate to show; allowed: with --tls-cert and --tls-key".to_owned());
            }
            _ => {}
        }
        if tls.admin_tls != TlsMode::Off && !matches!(self.admin, Some(Admin::Tcp(_))) {
            return Err("--admin-tls: there is no TCP address of operators, and a Unix socket needs none; allowed: with --admin IP:PORT".to_owned());
        }
        if tls.tls_ticket_keys.is_some() && tls.tls_cert.is_none() {
            return Err(
                "--tls-ticket-keys: TLS is not spoken; allowed: with --tls-cert and --tls-key"
                    .to_owned(),
            );
        }
        let asks = matches!(
            tls.tls_clients,
            Some(ClientCertificates::Optional | ClientCertificates::Required)
        );
        if asks && tls.tls_client_ca.is_none() {
            return Err("--tls-clients: clients are asked for certificates, and no CA of theirs is known; allowed: with --tls-client-ca".to_owned());
        }
        for (flag, is_given) in [
            ("--tls-names", tls.tls_names.is_some()),
            ("--tls-revoked", tls.tls_revoked.is_some()),
        ] {
            if is_given && tls.tls_client_ca.is_none() {
                return Err(format!(
                    "{flag}: clients show no certificates; allowed: with --tls-client-ca"
                ));
            }
        }
        Ok(())
    }
}
