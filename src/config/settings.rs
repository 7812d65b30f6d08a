//! A setting is one field: its flag with help, range and default, its value, and its name in run reports.
//!
//! ```text
//!   /// What it is for                                  help, manual, schema, weir.toml
//!   #[arg(long, default_value = "30s", ...)]            flag; file key and variable are made of it
//!   pub ack_timeout: Duration,                          value; "ack_timeout_ns" in a run report
//!   pub body_bytes_max: usize as "http_body_bytes_max"  under another name there
//!   pub instance: u64 as _                              not there
//! ```
//!
//! `Default` parses an empty command line: there is no second default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use weir_engine::OnSlow;
use weir_sink::Dialect;

use crate::{
    Accept, Admin, AllowList, Cors, Hosts, HttpAnalyzer, Input, LimitBy, ProxyHeader, RateLimit,
    Token, WantedWeight,
};

/// Settings by their names, in base units.
pub(crate) type Report = BTreeMap<String, String>;

/// What a run report says of a value.
pub(crate) trait Reported {
    /// What it says when there is none.
    const ABSENT: &'static str = "off";

    /// Adds it.
    fn report(&self, name: &str, to: &mut Report);
}

/// Defines a group of settings.
macro_rules! settings {
    (
        $(#[$($of_group:tt)*])*
        pub struct $group:ident {
            $( $(#[$($of_field:tt)*])* pub $field:ident: $value:ty $(as $name:tt)?, )*
        }
    ) => {
        $(#[$($of_group)*])*
        pub struct $group {
            $( $(#[$($of_field)*])* pub $field: $value, )*
        }

        impl crate::settings::Reported for $group {
            fn report(&self, _: &str, to: &mut crate::settings::Report) {
                $( crate::settings::report_field!(self, to, $field $(as $name)?); )*
            }
        }
    };
}

macro_rules! report_field {
    ($group:ident, $to:ident, $field:ident) => {
        crate::settings::Reported::report(&$group.$field, stringify!($field), $to)
    };
    ($group:ident, $to:ident, $field:ident as _) => {};
    ($group:ident, $to:ident, $field:ident as $name:literal) => {
        crate::settings::Reported::report(&$group.$field, $name, $to)
    };
}
pub(crate) use {report_field, settings};

fn add(name: &str, value: impl fmt::Display, to: &mut Report) {
    to.insert(name.to_owned(), value.to_string());
}

macro_rules! reported_as_displayed {
    ($($value:ty),*) => {
        $(impl Reported for $value {
            fn report(&self, name: &str, to: &mut Report) {
                add(name, self, to);
            }
        })*
    };
}
reported_as_displayed!(bool, u16, u32, u64, usize);
reported_as_displayed!(std::net::SocketAddr, Admin, AllowList, Cors, Hosts);

impl<T: Reported> Reported for Option<T> {
    fn report(&self, name: &str, to: &mut Report) {
        match self {
            Some(value) => value.report(name, to),
            None => add(name, T::ABSENT, to),
        }
    }
}

impl Reported for Duration {
    fn report(&self, name: &str, to: &mut Report) {
        add(&format!("{name}_ns"), self.as_nanos(), to);
    }
}

impl Reported for PathBuf {
    fn report(&self, name: &str, to: &mut Report) {
        add(name, self.display(), to);
    }
}

impl Reported for Dialect {
    const ABSENT: &'static str = "auto";

    fn report(&self, name: &str, to: &mut Report) {
        add(name, self.as_str(), to);
    }
}

/// Only whether there is one.
impl Reported for Token {
    const ABSENT: &'static str = "false";

    fn report(&self, name: &str, to: &mut Report) {
        add(name, true, to);
    }
}

impl Reported for RateLimit {
    fn report(&self, name: &str, to: &mut Report) {
        let RateLimit { requests, per } = self;
        add(name, format!("{requests} in {} ns", per.as_nanos()), to);
    }
}

impl Reported for Accept {
    fn report(&self, name: &str, to: &mut Report) {
        add(name, format!("{self:?}").to_lowercase(), to);
    }
}

impl Reported for LimitBy {
    fn report(&self, name: &str, to: &mut Report) {
        add(name, self.as_str().to_owned(), to);
    }
}

impl Reported for ProxyHeader {
    fn report(&self, name: &str, to: &mut Report) {
        add(name, self.as_str().to_lowercase(), to);
    }
}

impl Reported for OnSlow {
    fn report(&self, name: &str, to: &mut Report) {
        add(name, format!("{self:?}").to_lowercase(), to);
    }
}

impl Reported for Vec<usize> {
    fn report(&self, name: &str, to: &mut Report) {
        let texts: Vec<String> = self.iter().map(usize::to_string).collect();
        add(name, texts.join(","), to);
    }
}

impl Reported for Vec<std::net::SocketAddr> {
    fn report(&self, name: &str, to: &mut Report) {
        let texts: Vec<String> = self.iter().map(ToString::to_string).collect();
        add(name, texts.join(","), to);
    }
}

impl Reported for Vec<String> {
    fn report(&self, name: &str, to: &mut Report) {
        add(name, self.join(","), to);
    }
}

impl Reported for Vec<HttpAnalyzer> {
    fn report(&self, name: &str, to: &mut Report) {
        let texts: Vec<String> = self.iter().map(HttpAnalyzer::to_string).collect();
        add(name, texts.join(" "), to);
    }
}

impl Reported for Vec<WantedWeight> {
    fn report(&self, name: &str, to: &mut Report) {
        let texts: Vec<String> = self.iter().map(WantedWeight::to_string).collect();
        add(name, texts.join(" "), to);
    }
}

impl Reported for Vec<Input> {
    fn report(&self, name: &str, to: &mut Report) {
        let texts: Vec<String> = self.iter().map(Input::to_string).collect();
        add(name, texts.join(" "), to);
    }
}
