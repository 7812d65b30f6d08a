//! Who is called what: one name is one analyzer, over all shards and all kinds.
//!
//! ```text
//! native      its id; another instance of the same id waits until the first has gone
//! over HTTP   the id that it is configured with, kept for it from then on
//! reference   they have none: the name of their certificate, or else their address, and the lowest number that is free
//!             behind it (a.example.org#1, 10.0.0.5-1)
//! ```
//!
//! Shared by the shards and the control side, behind one lock: touched when a link comes or goes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_engine::OTHERS;

/// Longest reason that is kept of an analyzer that is down, in characters: a line that is read by people.
const WHY_CHARS_MAX: usize = 300;

/// Why a name cannot be had; for whoever asked, and for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InUse {
    /// By whom.
    pub(super) holder: String,
}

#[derive(Debug)]
struct Native {
    instance: Option<u64>,
    /// Address of the link that came first.
    address: Arc<str>,
    links: usize,
}

#[derive(Default)]
struct Table {
    natives: BTreeMap<Arc<str>, Native>,
    /// Names of reference clients, and the addresses that they are at now.
    references: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids of analyzers over HTTP that are configured, up or not, and their endpoints.
    http: BTreeMap<Arc<str>, String>,
    /// Why shards gave up those of them that have not come up since.
    why_down: BTreeMap<Arc<str>, Arc<str>>,
    /// Whom the certificates name of those that are connected and have shown one.
    certificates: BTreeMap<Arc<str>, Arc<str>>,
}

/// All names.
#[derive(Default)]
pub(super) struct Names(Mutex<Table>);

impl Names {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A link of a native analyzer comes up. Each one that does is to be given back by [`Names::link_gone`].
    pub(super) fn native_link(
        &self,
        name: &Arc<str>,
        instance: Option<u64>,
        address: &Arc<str>,
    ) -> Result<(), InUse> {
        let mut table = self.table();
        if **name == *OTHERS {
            let holder = "the analyzers that are added up".to_owned();
            return Err(InUse { holder });
        }
        if let Some(endpoint) = table.http.get(name) {
            let holder = format!("the analyzer over HTTP at {endpoint}");
            return Err(InUse { holder });
        }
        if let Some(address) = table.references.get(name) {
            let holder = format!("the reference client at {address}");
            return Err(InUse { holder });
        }
        let native = table.natives.entry(Arc::clone(name));
        let native = native.or_insert_with(|| Native {
            instance,
            address: Arc::clone(address),
            links: 0,
        });
        if native.instance != instance {
            let holder = format!("another instance at {}", native.address);
            return Err(InUse { holder });
        }
        native.links += 1;
        Ok(())
    }

    /// A link is gone, of a native analyzer or of a reference client.
    pub(super) fn link_gone(&self, name: &str) {
        let mut table = self.table();
        if table.references.remove(name).is_some() {
            table.certificates.remove(name);
            return;
        }
        if let Some(native) = table.natives.get_mut(name) {
            native.links -= 1;
            if native.links == 0 {
                table.natives.remove(name);
                table.certificates.remove(name);
            }
        }
    }

    /// Who has this name now has shown a certificate, or none.
    pub(super) fn certified(&self, name: &Arc<str>, certificate: Option<&Arc<str>>) {
        let certificates = &mut self.table().certificates;
        match certificate {
            Some(certificate) => {
                certificates.insert(Arc::clone(name), Arc::clone(certificate));
            }
            None => drop(certificates.remove(name)),
        }
    }

    /// Whom the certificates of analyzers name, by their names.
    pub(super) fn certificates(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        self.table().certificates.clone()
    }

    /// A name for a reference client at this address, made of that of its certificate if it has one: the same one again,
    /// when it comes back and no other of that host, or with that certificate, has taken it meanwhile.
    pub(super) fn reference(
        &self,
        host: Option<IpAddr>,
        certificate: Option<&str>,
        address: &Arc<str>,
    ) -> Arc<str> {
        let mut table = self.table();
        let host = match (certificate, host) {
            // No certificate has that sign in a name: it is nobody else's.
            (Some(name), _) => format!("{name}#"),
            (None, Some(ip)) => format!("{}-", ip.to_canonical()),
            (None, None) => "unknown-".to_owned(),
        };
        let mut number = 0u64;
        let name = loop {
            number += 1;
            let name: Arc<str> = format!("{host}{number}").into();
            if !table.has(&name) {
                break name;
            }
        };
        let address = Arc::clone(address);
        table.references.insert(Arc::clone(&name), address);
        name
    }

    /// An analyzer over HTTP is configured: from now on nobody else gets its id. Who has it now keeps it; then
    /// he is told, and the analyzer comes up when he has gone.
    pub(super) fn http_added(&self, name: &Arc<str>, endpoint: String) -> Option<InUse> {
        self.table().http.insert(Arc::clone(name), endpoint);
        self.holder(name)
    }

    pub(super) fn http_removed(&self, name: &str) {
        let mut table = self.table();
        table.http.remove(name);
        table.why_down.remove(name);
    }

    /// A shard gave up an analyzer over HTTP.
    pub(super) fn http_down(&self, name: &Arc<str>, why: &str) {
        let mut table = self.table();
        if table.http.contains_key(name) {
            let why: String = why.chars().take(WHY_CHARS_MAX).collect();
            table.why_down.insert(Arc::clone(name), why.into());
        }
    }

    /// It comes up.
    pub(super) fn http_up(&self, name: &str) {
        self.table().why_down.remove(name);
    }

    /// Why shards gave up analyzers over HTTP that have not come up since, by their names.
    pub(super) fn why_down(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        self.table().why_down.clone()
    }

    /// Who holds a name other than as an analyzer over HTTP.
    pub(super) fn holder(&self, name: &str) -> Option<InUse> {
        let table = self.table();
        let native = table.natives.get(name).map(|native| {
            let address = &native.address;
            format!("the native analyzer at {address}")
        });
        let reference = table.references.get(name);
        let reference = reference.map(|address| format!("the reference client at {address}"));
        native.or(reference).map(|holder| InUse { holder })
    }
}

impl Table {
    fn has(&self, name: &str) -> bool {
        self.natives.contains_key(name)
            || self.references.contains_key(name)
            || self.http.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arc(text: &str) -> Arc<str> {
        text.into()
    }

    #[test]
    fn an_instance_may_have_many_links_and_another_waits_until_the_last_is_gone() {
        let names = Names::default();
        let link =
            |instance, address: &str| names.native_link(&arc("a"), instance, &arc(address)).err();
        assert_eq!(link(Some(1), "10.0.0.1:1"), None);
        assert_eq!(link(Some(1), "10.0.0.1:2"), None);
        let refused = link(Some(2), "10.0.0.2:1").expect("in use");
        assert_eq!(refused.holder, "another instance at 10.0.0.1:1");
        assert!(
            link(None, "10.0.0.1:3").is_some(),
            "it does not say who it is"
        );
        names.link_gone("a");
        assert!(link(Some(2), "10.0.0.2:1").is_some());
        names.link_gone("a");
        assert_eq!(link(Some(2), "10.0.0.2:1"), None);
        names.certified(&arc("a"), Some(&arc("a.example.org")));
        assert_eq!(names.certificates()["a"], arc("a.example.org"));
        names.link_gone("a");
        assert!(names.table().natives.is_empty() && names.certificates().is_empty());
    }

    #[test]
    fn why_one_is_down_is_known_until_it_comes_up_or_is_removed() {
        let names = Names::default();
        names.http_down(&arc("a"), "it is not configured");
        assert!(names.why_down().is_empty());
        for name in ["a", "b"] {
            let _ = names.http_added(&arc(name), "http://h".into());
            names.http_down(&arc(name), &"ä".repeat(2 * WHY_CHARS_MAX));
        }
        assert_eq!(names.why_down()["a"].chars().count(), WHY_CHARS_MAX);
        names.http_down(&arc("a"), "connection reset");
        assert_eq!(names.why_down()["a"], arc("connection reset"));
        names.http_up("a");
        assert!(!names.why_down().contains_key("a") && names.why_down().contains_key("b"));
        names.http_removed("b");
        assert!(names.why_down().is_empty());
    }

    #[test]
    fn one_name_over_all_kinds() {
        let names = Names::default();
        let at = arc("10.0.0.5:4711");
        let host = Some(IpAddr::from([10, 0, 0, 5]));
        let native = |name: &str| names.native_link(&arc(name), None, &at).err();
        assert_eq!(&*names.reference(host, None, &at), "10.0.0.5-1");
        assert!(native("10.0.0.5-1").is_some_and(|used| used.holder.contains("10.0.0.5:4711")));
        assert_eq!(native("10.0.0.5-2"), None);
        assert_eq!(&*names.reference(host, None, &at), "10.0.0.5-3");
        names.link_gone("10.0.0.5-1");
        assert_eq!(
            &*names.reference(host, None, &at),
            "10.0.0.5-1",
            "it is back"
        );
        assert!(native(OTHERS).is_some());

        let used = names.http_added(&arc("10.0.0.5-2"), "http://h".into());
        assert!(used.is_some_and(|used| used.holder.contains("native analyzer at 10.0.0.5:4711")));
        assert!(native("10.0.0.5-2").is_some(), "kept for the one over HTTP");
        names.link_gone("10.0.0.5-2");
        assert_eq!(names.holder("10.0.0.5-2"), None, "it may come up");
        names.http_removed("10.0.0.5-2");
        assert_eq!(native("10.0.0.5-2"), None);
        let v4 = Some("::ffff:10.0.0.5".parse().expect("an address"));
        assert_eq!(&*names.reference(v4, None, &at), "10.0.0.5-4");
        let certified = |name| names.reference(host, Some(name), &at);
        assert_eq!(&*certified("a.example.org"), "a.example.org#1");
        assert_eq!(&*certified("a.example.org"), "a.example.org#2");
    }
}
