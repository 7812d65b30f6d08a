//! How the state is made: from new reports, and from what it was before.
//!
//! ```text
//! reports --> names --> lanes --> links that ended --> what is known of each analyzer --> a sample of all counters
//!                                                                 `--> rows --> bottleneck --> events
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::books;
use super::bottleneck;
use super::json::unix_ms;
use super::rates::{AnalyzerSample, Sample, ShardSample};
use super::row::{name_of, Kind, Row, RowShare, Standing, Totals};
use super::state::{Known, Pulse, State};
use super::track::LaneTrack;
use weir_config::Place;
use weir_engine::{Entry, Proportion, Reach};
use weir_ledger::run_report::{Share, Stamp};
use weir_shard::{HttpAnalyzerReport, ShardReport};
use weir_sink::Sink;

/// Analyzers that left are shown as offline for this long.
const GONE_SHOWN: Duration = Duration::from_secs(600);
/// Of those, so many at most: addresses of reference clients are never the same again.
const GONE_MAX: usize = 64;
/// What a look can say at most of the time before it: whoever looks so late stood still himself.
const LOOK_COVERS: Duration = Duration::from_secs(1);

/// What the roster says of one analyzer.
struct Seat<'a> {
    entry: &'a Entry,
    target_share: f64,
}

impl State {
    /// Takes the newest reports. [`State::http`], [`State::refused`], [`State::certificates`], [`State::why_down`], [`State::ramps`],
    /// [`State::wanted`] and [`State::draining`] are to be set before.
    pub fn note(&mut self, now: Stamp, reports: Vec<ShardReport>) {
        let since_ns = now.mono_ns.saturating_sub(self.now.mono_ns);
        self.now = now;
        self.reports = reports;
        self.totals = totals(&self.reports);
        self.ledger = books::ledger(&self.reports);
        self.note_pulses(since_ns);
        self.note_digest();
        self.note_names();
        self.note_lanes();
        self.note_ended();
        self.note_known();
        self.posts.note(&self.reports, &self.names);
        self.posts.retain(|name| self.known.contains_key(name));
        let sample = self.sample();
        self.rates.note(sample);
        self.rows = self.make_rows();
        self.bottleneck = bottleneck::find(self);
        self.events
            .note(now, &self.rows, &self.reports, &self.names);
    }

    fn note_pulses(&mut self, since_ns: u64) {
        let since_ns = since_ns.min(LOOK_COVERS.as_nanos() as u64); // a second
        self.pulses.resize(self.reports.len(), Pulse::default());
        for (pulse, report) in self.pulses.iter_mut().zip(&self.reports) {
            pulse.still_ns = match pulse.turns == report.pace.turns {
                true => pulse.still_ns + since_ns,
                false => 0,
            };
            pulse.turns = report.pace.turns;
            let stalls = report.counters.stalls;
            let is_new = pulse.stalled_since_ns.is_none() || pulse.stalls != stalls;
            if !report.stalled {
                pulse.stalled_since_ns = None;
            } else if is_new {
                pulse.stalled_since_ns = Some(self.now.mono_ns);
            }
            pulse.stalls = stalls;
        }
    }

    /// Numbers of analyzers that anything in the reports names.
    fn note_names(&mut self) {
        let before = std::mem::take(&mut self.names);
        for report in &self.reports {
            let lanes = report.lanes.iter().map(|lane| lane.analyzer);
            let ended = report.ended.iter().map(|ended| ended.analyzer);
            let posts = report.http_analyzers.iter().map(|posts| posts.analyzer);
            for analyzer in lanes.chain(ended).chain(posts) {
                if let Some(name) = before.get(&analyzer) {
                    self.names.insert(analyzer, Arc::clone(name));
                }
            }
            for entry in &report.roster.entries {
                self.names.insert(entry.analyzer, Arc::clone(&entry.name));
            }
        }
    }

    fn note_lanes(&mut self) {
        let mut gone = std::mem::take(&mut self.lanes);
        let (mono_ns, ms) = (self.now.mono_ns, unix_ms(self.now));
        for report in &self.reports {
            for lane in &report.lanes {
                let key = (report.shard, lane.epoch);
                let (name, mut track) = gone.remove(&key).unwrap_or_else(|| {
                    let name = name_of(&self.names, lane.analyzer);
                    (name, LaneTrack::new(mono_ns))
                });
                track.note(lane, mono_ns, ms);
                self.lanes.insert(key, (name, track));
            }
        }
        for (name, track) in gone.into_values() {
            if let Some(known) = self.known.get_mut(&name) {
                known.gone.add(&track.buckets);
            }
        }
    }

    fn note_ended(&mut self) {
        let before = std::mem::take(&mut self.ended);
        for report in &self.reports {
            for ended in &report.ended {
                let key = (report.shard, ended.epoch);
                self.ended.insert(key);
                let name = name_of(&self.names, ended.analyzer);
                let lane = self.lanes.get(&key).map(|(name, _)| Arc::clone(name));
                let known = self.known.get_mut(&lane.unwrap_or(name));
                if let Some(known) = known.filter(|_| !before.contains(&key)) {
                    known.rerouted += ended.left();
                }
            }
        }
    }

    fn note_known(&mut self) {
        let (now_ns, now_ms) = (self.now.mono_ns, unix_ms(self.now));
        let entries = self.reports.first().map(|first| Arc::clone(&first.roster));
        for entry in entries.iter().flat_map(|roster| &roster.entries) {
            let kind = match entry.reach {
                Reach::LinkPerShard => Kind::Native,
                Reach::SingleLink { .. } => Kind::Reference,
                Reach::Http { .. } => Kind::Http,
            };
            let known = self.known.entry(Arc::clone(&entry.name));
            let known = known.or_insert_with(|| Known::new(kind, now_ms));
            (known.kind, known.weight, known.seen_ns) = (kind, entry.weight, now_ns);
            known.sink = Some(entry.sink);
        }
        for status in &self.http {
            let known = self.known.entry(Arc::clone(&status.id));
            let known = known.or_insert_with(|| Known::new(Kind::Http, now_ms));
            known.seen_ns = now_ns;
            if self.reports.first().is_none_or(|first| {
                let mut entries = first.roster.entries.iter();
                !entries.any(|entry| entry.name == status.id)
            }) {
                known.weight = status.weight;
            }
        }
        for (name, _) in self.lanes.values() {
            if let Some(known) = self.known.get_mut(name) {
                known.seen_ns = now_ns;
            }
        }
        for share in &self.ledger.analyzers {
            if let Some(known) = self.known.get_mut(share.analyzer.as_str()) {
                if share.assigned > known.assigned {
                    (known.assigned, known.last_distribution_ms) = (share.assigned, now_ms);
                }
            }
        }
        self.forget();
    }

    fn forget(&mut self) {
        let gone_ns = GONE_SHOWN.as_nanos() as u64; // a constant below an hour
        let now_ns = self.now.mono_ns;
        let gone = |known: &Known| known.seen_ns < now_ns;
        self.known
            .retain(|_, known| now_ns - known.seen_ns < gone_ns);
        let mut ages: Vec<u64> = self
            .known
            .values()
            .filter(|known| gone(known))
            .map(|known| known.seen_ns)
            .collect();
        if ages.len() > GONE_MAX {
            ages.sort_unstable_by(|a, b| b.cmp(a));
            let oldest = ages[GONE_MAX - 1];
            self.known
                .retain(|_, known| !gone(known) || known.seen_ns >= oldest);
        }
    }

    fn sample(&self) -> Sample {
        let shard = |(report, pulse): (&ShardReport, &Pulse)| {
            let since = pulse.stalled_since_ns.unwrap_or(self.now.mono_ns);
            ShardSample {
                received: report.balance.received,
                received_bytes: report.counters.received_bytes,
                acked: report.balance.acked,
                busy_ns: report.pace.busy_ns,
                stalled_ns: report.counters.stalled_ns + (self.now.mono_ns - since),
            }
        };
        let analyzer = |share: &Share| {
            let sample = AnalyzerSample {
                assigned: share.assigned,
                acked: share.acked,
            };
            (share.analyzer.as_str().into(), sample)
        };
        let mut inputs: Vec<u64> = Vec::new();
        for report in &self.reports {
            inputs.resize(inputs.len().max(report.inputs.len()), 0);
            for (sum, input) in inputs.iter_mut().zip(&report.inputs) {
                *sum += input.messages;
            }
        }
        Sample {
            inputs,
            mono_ns: self.now.mono_ns,
            shards: self.reports.iter().zip(&self.pulses).map(shard).collect(),
            analyzers: self.ledger.analyzers.iter().map(analyzer).collect(),
        }
    }

    fn make_rows(&self) -> Vec<Row> {
        let seats = self.seats();
        let given = self.rates.given();
        let mut rows: Vec<Row> = Vec::with_capacity(self.known.len());
        for (name, known) in &self.known {
            let seat = seats.get(&**name);
            let mut row = self.bare_row(name, known, seat.map(|seat| seat.entry));
            row.target_share = seat.map_or(0.0, |seat| seat.target_share);
            row.recent_share = given.as_ref().map(|given| given.share(name));
            row.acked_rate = self.rates.acked(name);
            rows.push(row);
        }
        self.add_lanes(&mut rows);
        for row in &mut rows {
            let entry = seats.get(&*row.id).map(|seat| seat.entry);
            row.standing = self.standing(row, entry);
        }
        rows
    }

    /// The roster by name. Each row looks here: a search of the roster for each would cost the square of the analyzers.
    fn seats(&self) -> BTreeMap<&str, Seat<'_>> {
        let all = Proportion::of(self.entries().iter().map(Entry::effective_weight));
        let mut seats = BTreeMap::new();
        for entry in self.entries() {
            let seat = seats.entry(&*entry.name).or_insert(Seat {
                entry,
                target_share: 0.0,
            });
            seat.target_share += all.share(entry.effective_weight());
        }
        seats
    }

    fn bare_row(&self, name: &Arc<str>, known: &Known, entry: Option<&Entry>) -> Row {
        let status = self.http.iter().find(|status| status.id == *name);
        let shares = &self.ledger.analyzers;
        let share = shares.binary_search_by(|share| share.analyzer.as_str().cmp(name));
        let share = share.ok().map(|index| &shares[index]);
        let posts = match known.kind {
            Kind::Http => self.posts_now(name),
            Kind::Native | Kind::Reference => HttpAnalyzerReport::default(),
        };
        let ramp = self.ramps.iter().find(|ramp| ramp.analyzer == *name);
        // A pin goes before a slow start.
        let is_pinned = entry.is_some_and(|entry| entry.pinned);
        let ramp = ramp.filter(|ramp| !(ramp.is_slow_start && is_pinned));
        let slow_start = ramp.filter(|ramp| ramp.is_slow_start);
        // One that never was up is what its URL says.
        let scheme = || {
            let place: Place = status?.endpoint.parse().ok()?;
            Some(place.delivery.sink())
        };
        let sink = known.sink.or_else(scheme).unwrap_or(Sink::Http);
        let checked = status.and_then(|status| status.error.clone());
        // The checks may find nothing wrong with what messages fail at.
        let given_up = || {
            let why = self.why_down.get(name).filter(|_| entry.is_none());
            why.map(|why| why.to_string())
        };
        Row {
            id: Arc::clone(name),
            certificate: self.certificates.get(name).map(Arc::clone),
            kind: known.kind,
            protocol: sink.as_str(),
            acks: sink.facts().acks.worth().as_str(),
            standing: Standing::Offline,
            weight: slow_start.map_or(known.weight, |ramp| ramp.to),
            ramp_weight: ramp.map(|_| known.weight),
            pinned: is_pinned,
            ramping: ramp.is_some(),
            target_share: 0.0,
            recent_share: None,
            acked_rate: 0.0,
            p50: None,
            p99: None,
            in_flight: 0,
            queued: 0,
            held_bytes: 0,
            lanes: 0,
            lanes_full: 0,
            rerouted: known.rerouted,
            share: share.map(row_share).unwrap_or_default(),
            last_distribution: known.last_distribution_ms,
            consecutive_failures: status
                .map_or(0, |status| status.consecutive_failures)
                .max(posts.consecutive_failures),
            endpoint: status.map(|status| status.endpoint.clone()),
            last_health_check: status.and_then(|status| status.last_health_check),
            error: checked.or_else(given_up),
            latencies: known.gone,
        }
    }

    /// Adds up each analyzer's lanes.
    fn add_lanes(&self, rows: &mut [Row]) {
        let mut recent: Vec<Option<Histogram<u64>>> = vec![None; rows.len()];
        for report in &self.reports {
            for lane in &report.lanes {
                let Some((name, track)) = self.lanes.get(&(report.shard, lane.epoch)) else {
                    continue;
                };
                let Ok(index) = rows.binary_search_by(|row| row.id.cmp(name)) else {
                    continue;
                };
                let row = &mut rows[index];
                row.in_flight += lane.in_flight;
                row.queued += lane.queued;
                row.held_bytes += lane.held_bytes;
                row.latencies.add(&track.buckets);
                if lane.down {
                    continue;
                }
                row.lanes += 1;
                row.lanes_full += usize::from(lane.full);
                track.recent(&mut recent[index]);
            }
        }
        for (row, recent) in rows.iter_mut().zip(recent) {
            if let Some(recent) = recent.filter(|recent| !recent.is_empty()) {
                let seconds = |quantile| recent.value_at_quantile(quantile) as f64 / 1e6;
                (row.p50, row.p99) = (Some(seconds(0.5)), Some(seconds(0.99)));
            }
        }
    }

    fn standing(&self, row: &Row, entry: Option<&Entry>) -> Standing {
        let status = self.http.iter().find(|status| status.id == row.id);
        let Some(entry) = entry else {
            return match status {
                _ if row.in_flight + row.queued > 0 => Standing::Rerouting,
                Some(status) if status.ejected => Standing::Ejected,
                _ => Standing::Offline,
            };
        };
        match entry {
            Entry { ejected: true, .. } => Standing::Ejected,
            Entry { draining: true, .. } => Standing::Draining,
            _ if row.lanes_full > 0 => Standing::Full,
            _ if row.lanes < self.reports.len() => Standing::Partly,
            _ => Standing::Up,
        }
    }
}

fn row_share(share: &Share) -> RowShare {
    RowShare {
        assigned: share.assigned,
        acked: share.acked,
        due_share: share.target_share,
        real_share: share.real_share,
        share_error: share.error,
        share_bound: share.bound,
    }
}

fn totals(reports: &[ShardReport]) -> Totals {
    let mut totals = Totals::default();
    for report in reports {
        totals.balance.add(&report.balance);
        totals.counters.add(&report.counters);
        totals.emitters += report.emitters;
        totals.links += report.links;
        totals.http_connections += report.http.connections;
    }
    totals
}
