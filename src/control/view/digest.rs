//! One number for ids, weights and pins: replicas that have the same divide alike, and those that differ are seen.
//!
//! ```text
//! analyzers that replicas share: id, weight in force, pin --.
//! wanted weights: id, weight, pin --------------------------+--> sorted --> SHA-256 --> its first 48 bits
//! ```
//!
//! An analyzer with one connection only (a reference client) is at one replica, so that it does not count, unless a
//! weight is wanted for it.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use weir_engine::{Entry, Reach, Wanted};

/// The number, below 2^48: a sample of Prometheus has it exactly.
pub fn of(entries: &[Entry], wanted: &[Wanted]) -> u64 {
    let is_wanted = |entry: &Entry| wanted.iter().any(|one| one.name == entry.name);
    let is_shared =
        |entry: &&Entry| !matches!(entry.reach, Reach::SingleLink { .. }) || is_wanted(entry);
    let in_force = entries.iter().filter(is_shared).map(|entry| {
        let weight = entry.effective_weight();
        (b'e', &*entry.name, weight.to_bits(), entry.pinned)
    });
    let wanted = wanted
        .iter()
        .map(|one| (b'w', &*one.name, one.weight.to_bits(), one.pin));
    let all: BTreeSet<_> = in_force.chain(wanted).collect();
    let mut hash = Sha256::new();
    for (kind, name, weight, pin) in all {
        hash.update([kind, u8::from(pin)]);
        hash.update(weight.to_be_bytes());
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
    }
    let bytes = hash.finalize();
    let first = bytes.iter().take(6);
    first.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::{LinkEpoch, Sink};

    fn entry(analyzer: u32, name: &str, weight: f64) -> Entry {
        Entry {
            analyzer,
            name: name.into(),
            sink: Sink::Native,
            weight,
            draining: false,
            pinned: false,
            ejected: false,
            reach: Reach::LinkPerShard,
        }
    }

    fn wanted(name: &str, weight: f64, pin: bool) -> Wanted {
        let name = name.into();
        Wanted { name, weight, pin }
    }

    #[test]
    fn the_same_ids_weights_and_pins_have_the_same_digest_and_others_another() {
        let two = [entry(0, "a", 0.5), entry(1, "b", 0.25)];
        let file = [wanted("a", 0.5, false), wanted("z", 1.0, true)];
        let digest = of(&two, &file);
        assert!(digest < 1 << 48);
        // In another order, with other numbers: another replica.
        let other = [entry(7, "b", 0.25), entry(9, "a", 0.5)];
        let turned = [file[1].clone(), file[0].clone()];
        assert_eq!(of(&other, &turned), digest);
        let with = |change: fn(&mut Entry)| {
            let mut changed = two.clone();
            change(&mut changed[0]);
            of(&changed, &file)
        };
        let differ = [
            with(|entry| entry.weight = 0.6),
            with(|entry| entry.pinned = true),
            with(|entry| entry.draining = true),
            with(|entry| entry.name = "c".into()),
            of(&two[..1], &file),
            of(&two, &file[..1]),
            of(&two, &[file[0].clone(), wanted("z", 1.0, false)]),
            of(&two, &[file[0].clone(), wanted("z", 1.5, true)]),
            of(&two, &[]),
            digest,
        ];
        let distinct: BTreeSet<u64> = differ.into_iter().collect();
        assert_eq!(distinct.len(), differ.len(), "{differ:?}");
    }

    #[test]
    fn a_client_of_one_replica_counts_only_where_its_weight_is_wanted() {
        let mut single = entry(3, "10.0.0.5-1", 1.0);
        single.reach = Reach::SingleLink {
            home: 0,
            epoch: LinkEpoch::new(0, 1),
        };
        let here = [entry(0, "a", 0.5), single];
        assert_eq!(of(&here, &[]), of(&here[..1], &[]));
        let file = [wanted("10.0.0.5-1", 1.0, false)];
        assert_ne!(of(&here, &file), of(&here[..1], &file));
    }
}
