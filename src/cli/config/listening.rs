//! Sockets that were passed to the process, against the addresses that are configured.
//!
//! A socket goes before the default of its flag. An address that somebody wrote down must be the socket's:
//! of two places that say where the distributor listens, one would be silently wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::layers::Source;
use super::loaded::Origins;
use crate::config::{Admin, Config, Input};
use crate::service::sockets::{AdminSocket, Sockets, INPUT_PREFIX};

/// Where the sockets that were passed listen; none: the distributor opens its own.
#[derive(Clone, Debug, Default)]
pub struct Listening {
    emitters: Option<SocketAddr>,
    analyzers: Option<SocketAddr>,
    http: Option<SocketAddr>,
    admin: Option<Admin>,
    inputs: BTreeMap<String, SocketAddr>,
}

impl Listening {
    /// Where they listen.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn of(sockets: &Sockets) -> Result<Listening, String> {
        let [emitters, analyzers, http] = sockets.addresses()?;
        let unknown = |error| format!("the admin socket that was passed: {error}");
        let admin = match &sockets.admin {
            None => None,
            Some(AdminSocket::Unix(listener)) => {
                let address = listener.local_addr().map_err(unknown)?;
                let path = address.as_pathname().map(PathBuf::from);
                Some(Admin::Path(path.unwrap_or_default()))
            }
            Some(AdminSocket::Tcp(listener)) => {
                Some(Admin::Tcp(listener.local_addr().map_err(unknown)?))
            }
        };
        Ok(Listening {
            emitters,
            analyzers,
            http,
            admin,
            inputs: sockets.input_addresses()?,
        })
    }

    /// A socket that was passed for an input listens where the input is configured.
    fn check_inputs(&self, config: &Config) -> Result<(), String> {
        let inputs = config.all_inputs();
        let names: Vec<String> = inputs.iter().map(Input::name).collect();
        for (name, at) in &self.inputs {
            let Some(input) = inputs.iter().find(|input| input.name() == *name) else {
                let known = match names.is_empty() {
                    true => "there is none".to_owned(),
                    false => format!("allowed: {INPUT_PREFIX} and one of {}", names.join(", ")),
                };
                return Err(format!(
                    "a socket called {INPUT_PREFIX}{name} was passed (FileDescriptorName=), and no input is called {name}; {known}"
                ));
            };
            if input.is_udp() {
                return Err(format!(
                    "--input {input}: the socket that was passed takes connections (ListenStream=); allowed: none for transport=udp"
                ));
            }
            if input.listen != *at {
                return Err(format!(
                    "--input {input}: the socket that was passed listens on {at}; allowed: that address, or another ListenStream= of the socket unit"
                ));
            }
        }
        Ok(())
    }

    /// Puts their addresses into the configuration.
    ///
    /// # Errors
    /// An address was configured, and it is another.
    pub(super) fn put_into(&self, config: &mut Config, origins: &Origins) -> Result<(), String> {
        self.check_inputs(config)?;
        let check = |id: &str, configured: &str, passed: &str| {
            let source = origins.value(id).source;
            let is_written = !matches!(source, Source::Default | Source::Fallback(_));
            if is_written && configured != passed {
                return Err(format!(
                    "--{id} {configured}: the socket that was passed listens on {passed}; leave --{id} out, or change the socket unit (ListenStream=)"
                ));
            }
            Ok(())
        };
        if let Some(at) = self.emitters {
            check("emitters", &config.emitters.to_string(), &at.to_string())?;
            config.emitters = at;
        }
        if let Some(at) = self.analyzers {
            check("analyzers", &config.analyzers.to_string(), &at.to_string())?;
            config.analyzers = at;
        }
        if let Some(at) = self.http {
            let configured = config.http.listen;
            let configured = configured.map_or("off".to_owned(), |at| at.to_string());
            check("http", &configured, &at.to_string())?;
            config.http.listen = Some(at);
        }
        if let Some(at) = &self.admin {
            let configured = config.admin.as_ref();
            let configured = configured.map_or("off".to_owned(), Admin::to_string);
            check("admin", &configured, &at.to_string())?;
            config.admin = Some(at.clone());
        }
        Ok(())
    }
}
