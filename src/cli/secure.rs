//! TLS with distributors: options that all programs share which talk to one.

use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::config::secret_file;
use crate::discover::{Target, Targets};
use crate::tls::{
    check_pair, exposed_key, server_name, ClientCertificates, ClientFiles, Connector, MinVersion,
    Served, ServerFiles,
};

/// See the head of this file. The certificate of a distributor must be of the host that was asked for, as it stands on
/// the command line: what DNS answers does not count.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Secure {
    /// Speak TLS with distributors; https:// says so as well
    #[arg(long, global = true, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL", help_heading = "TLS")]
    tls: bool,
    /// CAs whose certificates distributors may show, PEM; default: those that this system trusts
    #[arg(long, global = true, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    tls_ca: Option<PathBuf>,
    /// Certificate to show to distributors that ask for one, and behind it those of the CAs that signed it, PEM
    #[arg(long, global = true, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM, without a passphrase
    #[arg(long, global = true, value_name = "FILE", value_parser = secret_file(), help_heading = "TLS")]
    tls_key: Option<PathBuf>,
    /// Whose certificate is expected (a DNS name or an IP address); default: that of the host in the address
    #[arg(long, global = true, value_name = "NAME", value_parser = name, help_heading = "TLS")]
    tls_name: Option<String>,
    /// Oldest version that is spoken
    #[arg(long, global = true, value_name = "POLICY", default_value = "1.2", value_parser = PossibleValuesParser::new(MinVersion::WORDS).map(|word| MinVersion::of(&word)), help_heading = "TLS")]
    tls_min: MinVersion,
}

fn name(text: &str) -> Result<String, String> {
    server_name(text).map(|_| text.to_owned())
}

impl Secure {
    /// Whom the certificate names that is shown, if it can be read.
    pub fn certificate(&self) -> Option<String> {
        let facts = check_pair(self.tls_cert.as_ref()?, self.tls_key.as_ref()?);
        Some(facts.ok()?.peer.name())
    }

    /// `--tls` was said.
    pub fn is_asked(&self) -> bool {
        self.tls
    }

    /// What is shown; both, or neither. clap's `requires` would not do: a variable of the environment is a default to it.
    fn pair(&self) -> Result<Option<(PathBuf, PathBuf)>, String> {
        match (self.tls_cert.clone(), self.tls_key.clone()) {
            (Some(_), None) => Err("--tls-cert: its key is missing (--tls-key)".to_owned()),
            (None, Some(_)) => Err("--tls-key: its certificate is missing (--tls-cert)".to_owned()),
            (cert, key) => Ok(cert.zip(key)),
        }
    }

    /// What makes connections; none without TLS. `is_needed`: an address says https://. It reads files.
    ///
    /// # Errors
    /// The flag, or the file, that does not fit, and why.
    pub fn connector(&self, is_needed: bool) -> Result<Option<Arc<Connector>>, String> {
        let pair = self.pair()?;
        if !self.tls && !is_needed {
            let idle = [
                ("--tls-ca", self.tls_ca.is_some()),
                ("--tls-cert", self.tls_cert.is_some()),
                ("--tls-name", self.tls_name.is_some()),
            ];
            return match idle.into_iter().find(|(_, is_given)| *is_given) {
                Some((flag, _)) => Err(format!(
                    "{flag}: TLS is not spoken; allowed: with --tls, or where an address says https://"
                )),
                None => Ok(None),
            };
        }
        self.warn_of_key();
        let connector = Connector::new(ClientFiles {
            ca: self.tls_ca.clone(),
            pair,
            name: self.tls_name.clone(),
            min_version: self.tls_min,
        });
        connector
            .map(|connector| Some(Arc::new(connector)))
            .map_err(|why| format!("TLS: {why}"))
    }

    fn warn_of_key(&self) {
        if let Some(why) = self.tls_key.as_deref().and_then(exposed_key) {
            log::warn!("--tls-key {why}");
        }
    }

    /// The other way round: what is shown to who connects here, with `--tls-cert`; with `--tls-ca` only who shows a
    /// certificate of these CAs is let in. It reads files.
    ///
    /// # Errors
    /// As [`Secure::connector`].
    pub fn served(&self) -> Result<Option<Arc<Served>>, String> {
        let Some(pair) = self.pair()? else {
            return match &self.tls_ca {
                Some(_) => Err(
                    "--tls-ca: TLS is not spoken at --http; allowed: with --tls-cert and --tls-key"
                        .into(),
                ),
                None => Ok(None),
            };
        };
        let clients = match self.tls_ca {
            Some(_) => ClientCertificates::Required,
            None => ClientCertificates::Off,
        };
        self.warn_of_key();
        let served = Served::read(&ServerFiles {
            pairs: vec![pair],
            client_ca: self.tls_ca.clone(),
            clients,
            min_version: self.tls_min,
            ..ServerFiles::default()
        });
        served
            .map(|served| Some(Arc::new(served)))
            .map_err(|why| format!("TLS: {why}"))
    }

    /// The same for `--addr`.
    ///
    /// # Errors
    /// As [`Secure::connector`]; nobody has written whose certificate is expected.
    pub fn connector_to(&self, addr: &[Targets]) -> Result<Option<Arc<Connector>>, String> {
        let connector = self.connector(false)?;
        let mut targets = addr.iter().flat_map(|it| it.as_slice());
        match targets.find(|target| matches!(target, Target::Srv(_))) {
            Some(target) if self.tls && self.tls_name.is_none() => Err(format!(
                "--addr {target}: DNS says who is there, so it is not known whose certificate to expect; allowed: with --tls-name"
            )),
            _ => Ok(connector),
        }
    }
}
