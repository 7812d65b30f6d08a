//! Options of an input that do not go together, and inputs that do not go together with the rest.

use weir_protocol::frame::FRAME_FIRST_BYTE_BYTES_MAX;
use weir_sink::Acks;
use weir_source::{clash, AckMode, Answers, Protocol};

use crate::analyzer::HttpAnalyzer;
use crate::input::{Input, Speaks, ANY, INPUTS_MAX};
use crate::input_options::INPUT_OPTIONS;
use crate::{values, Config, TlsMode};

impl Input {
    /// Whether its options go together.
    ///
    /// # Errors
    /// Which do not, and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let protocols = self.speaks.to_string();
        self.check_transport()?;
        if !self.has_acks() {
            let has_none = |what: &str| {
                Err(format!(
                    "{what}: {protocols} has no acks; allowed: without it"
                ))
            };
            if self.ack == Some(AckMode::Acked) {
                return has_none("ack=acked");
            }
            if self.deadline.is_some() {
                return has_none("deadline");
            }
        }
        for (option, _) in self.options() {
            if !option.only.is_empty() && !self.speaks_one_of(option.only) {
                let key = option.key;
                let with = option.only.join(", ");
                return Err(format!("{key}: {protocols} has none; allowed: with {with}"));
            }
        }
        self.check_pairs()?;
        if self.tls == TlsMode::Optional && self.shared_key_file.is_some() {
            return Err("tls=optional: with shared_key_file the distributor speaks first, so no first bytes tell whether it is TLS; allowed: tls=required".to_owned());
        }
        if self.users_file.is_some() && self.shared_key_file.is_none() {
            return Err("users_file: users are asked for with a shared key only; allowed: with shared_key_file".to_owned());
        }
        let is_alone = matches!(&self.speaks, Speaks::Only(all) if all.len() == 1);
        if self.shared_key_file.is_some() && !is_alone {
            return Err(format!("protocol {protocols}: with shared_key_file the distributor speaks first, so nothing can be told by first bytes; allowed: forward alone"));
        }
        Ok(())
    }

    /// What goes with datagrams, or only with them.
    fn check_transport(&self) -> Result<(), String> {
        if !self.is_udp() {
            return match self.receive_buffer_bytes {
                Some(_) => Err("receive_buffer: allowed: with transport=udp".to_owned()),
                None => Ok(()),
            };
        }
        let protocols = self.protocols();
        if protocols.len() > 1 {
            return Err(format!(
                "transport=udp: protocol {} is told by the first bytes of a connection, and a datagram has none; allowed: syslog alone",
                self.speaks
            ));
        }
        for (option, _) in self.options() {
            let why = match option.key {
                "ack" | "deadline" => "nothing is ever answered to a datagram",
                "proxy_from" => "a datagram has no PROXY header",
                key if key.starts_with("tls") => "TLS needs a connection",
                "framing" | "continuation" => "a datagram is one message",
                "unpacked_bytes" => "a datagram unpacks to 64KiB at most",
                "max_connections" => "datagrams have no connections",
                _ => continue,
            };
            let key = option.key;
            return Err(format!("{key}: {why}; allowed: without it"));
        }
        Ok(())
    }

    /// The flag that it is given by, with its name.
    pub(crate) fn flag(&self) -> String {
        match self.is_of_any() {
            true => "--any".to_owned(),
            false => format!("--input {}", self.name()),
        }
    }

    /// It is that of `--any`.
    fn is_of_any(&self) -> bool {
        self.own_name.as_deref() == Some(ANY) && self.speaks == Speaks::Any
    }

    /// What it speaks can be told apart by first bytes.
    fn check_pairs(&self) -> Result<(), String> {
        let Speaks::Only(protocols) = &self.speaks else {
            return Ok(());
        };
        for (index, one) in protocols.iter().enumerate() {
            for other in &protocols[..index] {
                if let Some(why) = clash(*other, *one) {
                    return Err(format!(
                        "protocol {}: {} and {} cannot be told apart by their first bytes: {why}; allowed: an input for each",
                        self.speaks,
                        other.as_str(),
                        one.as_str()
                    ));
                }
            }
        }
        Ok(())
    }

    /// Its emitters are answered when analyzers have ACKed.
    pub fn chains_acks(&self) -> bool {
        let is_acked = |one: &Protocol| one.answers() != Answers::Never;
        self.protocols().iter().any(is_acked) && self.ack_mode() == AckMode::Acked
    }

    /// Its emitters may wait for an ack that a reference client gives only when more messages come.
    fn may_hang(&self) -> bool {
        // Whoever speaks Weir's own acked link has a window, and is asked for the last ACKs when it ends.
        let is_others = |one: &Protocol| one.answers() != Answers::Never && *one != Protocol::Acked;
        let waits = self.protocols().iter().any(is_others);
        waits && self.ack_mode() == AckMode::Acked
    }
}

impl Config {
    /// All inputs: those of `--input`, and that of `--any`.
    pub fn all_inputs(&self) -> Vec<Input> {
        let mut inputs = self.inputs.clone();
        if let Some(listen) = self.any {
            let mut input = Input::new(Speaks::Any, listen);
            input.own_name = Some(ANY.to_owned());
            inputs.push(input);
        }
        inputs
    }

    /// Whether inputs go together with each other, and with the rest.
    ///
    /// # Errors
    /// The input, and what is allowed.
    pub(crate) fn check_inputs(&self) -> Result<(), String> {
        let inputs = self.all_inputs();
        if inputs.len() > INPUTS_MAX {
            let count = inputs.len();
            return Err(format!(
                "--input: {count} inputs, at most {INPUTS_MAX} allowed"
            ));
        }
        for (index, input) in inputs.iter().enumerate() {
            let flag = flag_of(input);
            let name = input.name();
            if inputs[..index].iter().any(|other| other.name() == name) {
                return Err(format!(
                    "{flag}: another input is called {name} as well; allowed: a name of its own (name=...)"
                ));
            }
            input.check().map_err(|why| format!("{flag}: {why}"))?;
            self.check_frames(input)
                .map_err(|why| format!("{flag}: {why}"))?;
            if input.may_hang() && self.may_ack_late() {
                return Err(format!("{flag}: {}", late_acks()));
            }
            if let Some(weak) = self.weak_analyzer().filter(|_| input.chains_acks()) {
                return Err(format!("{flag}: {}", weak_acks(weak)));
            }
        }
        Ok(())
    }

    /// The first input whose emitters are answered when analyzers have ACKed, as it is given.
    pub fn chained_input(&self) -> Option<String> {
        let inputs = self.all_inputs();
        inputs.iter().find(|input| input.chains_acks()).map(flag_of)
    }

    /// What waits for the lag of an analyzer without ACKs is in its window: a smaller one would move every 5 s only.
    pub(crate) fn check_lags(&self) -> Result<(), String> {
        for analyzer in &self.http.analyzers {
            let delivery = analyzer.delivery();
            let lag = delivery.outlet().lag_bytes;
            let is_lagged = delivery.sink().facts().acks == Acks::Lagged;
            if is_lagged && u64::from(lag) > self.window_bytes / 2 {
                let (id, place) = (analyzer.id(), analyzer.place_text());
                let [lag, most] = [u64::from(lag), self.window_bytes / 2].map(values::show_bytes);
                return Err(format!(
                    "analyzer {id} ({place}): lag {lag}: allowed: at most half of --window, {most}"
                ));
            }
        }
        Ok(())
    }

    /// The first analyzer whose ACKs prove too little for an emitter that waits for them.
    fn weak_analyzer(&self) -> Option<&HttpAnalyzer> {
        let mut analyzers = self.http.analyzers.iter();
        analyzers.find(|analyzer| analyzer.refuses_to_chain())
    }

    /// Frames can be told from others as long as their first byte is 0.
    fn check_frames(&self, input: &Input) -> Result<(), String> {
        let has_frames = input.protocols().contains(&Protocol::Frames);
        let others = |one: &&Protocol| ![Protocol::Frames, Protocol::Acked].contains(one);
        let has_others = input.protocols().iter().any(|one| others(&one));
        let (largest, most) = (self.frame_bytes_max, FRAME_FIRST_BYTE_BYTES_MAX);
        if has_frames && has_others && largest > most {
            let [largest, most] = [largest, most].map(|bytes| values::show_bytes(u64::from(bytes)));
            return Err(format!(
                "with --max-frame {largest} a frame may begin with any byte, so it cannot be told from what else is spoken here; allowed: --max-frame {most} at most, or frames on an input of their own"
            ));
        }
        Ok(())
    }

    /// An analyzer may come that ACKs only every n-th message and never the rest: a reference client. Where
    /// analyzers must show a token, those are refused.
    fn may_ack_late(&self) -> bool {
        self.protection.analyzer_token_file.is_none() && self.ack_presume.is_zero()
    }
}

/// What stands before an error of an input.
fn flag_of(input: &Input) -> String {
    match input.is_of_any() {
        true => format!("--any {}", input.listen),
        false => format!("--input {input}"),
    }
}

fn late_acks() -> String {
    let option = INPUT_OPTIONS.iter().find(|option| option.key == "ack");
    let key = option.map_or("ack", |option| option.key);
    format!(
        "its senders wait for an ack before they send more, and it comes when analyzers have ACKed. A reference analyzer (--analyzers) ACKs every tenth message and never the rest, so both would wait for ever; allowed: {key}=received for this input, --ack-presume TIME (1s), or --analyzer-token-file, which only native analyzers have a place for"
    )
}

impl HttpAnalyzer {
    /// Whether it goes together with such an input, see [`Config::chained_input`].
    ///
    /// # Errors
    /// The input, and what is allowed.
    pub fn check_chain(&self, input: Option<&str>) -> Result<(), String> {
        match input.filter(|_| self.refuses_to_chain()) {
            Some(flag) => Err(format!("{flag}: {}", weak_acks(self))),
            None => Ok(()),
        }
    }
}

fn weak_acks(analyzer: &HttpAnalyzer) -> String {
    let (id, place) = (analyzer.id(), analyzer.place_text());
    format!(
        "its senders are told that analyzers have ACKed, and analyzer {id} ({place}) never says so: only its kernel does; allowed: ack=received for this input, or weak_acks=allow behind that URL"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(inputs: &[&str]) -> Config {
        let parsed = inputs.iter().map(|text| text.parse().expect(text));
        Config {
            inputs: parsed.collect(),
            ..Config::default()
        }
    }

    #[test]
    fn inputs_have_names_and_places_of_their_own() {
        let ok = config(&[
            "frames@127.0.0.1:1",
            "frames@127.0.0.1:2",
            "frames@127.0.0.2:1?name=x",
        ]);
        assert_eq!(ok.check(), Ok(()));
        for (inputs, why) in [
            (
                ["frames@127.0.0.1:1", "frames@127.0.0.2:1"],
                "called frames-1 as well",
            ),
            (["frames@127.0.0.1:1", "acked@0.0.0.0:1"], "listens there"),
            (
                ["frames@127.0.0.1:1", "acked@127.0.0.1:8080"],
                "--emitters listens there",
            ),
        ] {
            let error = config(&inputs).check().expect_err(why);
            assert!(error.contains(why) && error.contains("allowed"), "{error}");
        }
        let many: Vec<String> = (0..=INPUTS_MAX)
            .map(|n| format!("frames@127.0.0.1:{}", n + 1))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(config(&many)
            .check()
            .is_err_and(|why| why.contains("33 inputs")));
    }

    #[test]
    fn acks_that_prove_too_little_answer_nobody() {
        let weak = |inputs: &[&str], analyzer: &str| {
            let mut config = config(inputs);
            config.ack_presume = std::time::Duration::from_secs(1);
            let [id, place] = ["old", analyzer];
            let place: crate::Place = place.parse().expect(place);
            let analyzer = HttpAnalyzer::new(id, place, 1.0).expect("valid");
            config.http.analyzers = vec![analyzer];
            config.check()
        };
        let input = "forward@127.0.0.1:1?name=f";
        let error = weak(&[input], "syslog://h").expect_err("chained");
        for what in [
            "--input forward@127.0.0.1:1?name=f: ",
            "analyzer old (syslog://h:514)",
            "ack=received for this input",
            "weak_acks=allow behind that URL",
        ] {
            assert!(error.contains(what), "{error}");
        }
        for (input, analyzer) in [
            (input, "syslog://h?weak_acks=allow"),
            ("forward@127.0.0.1:1?ack=received", "syslog://h"),
            ("syslog@127.0.0.1:1", "syslog-octet://h"),
            (input, "relp://h"),
        ] {
            assert_eq!(weak(&[input], analyzer), Ok(()), "{input} {analyzer}");
        }
    }

    #[test]
    fn a_lag_fits_into_the_window() {
        let with = |place: &str, window_bytes: u64| {
            let place: crate::Place = place.parse().expect(place);
            let mut config = Config {
                window_bytes,
                ..Config::default()
            };
            config.http.analyzers = vec![HttpAnalyzer::new("old", place, 1.0).expect("valid")];
            config.check_lags()
        };
        let error = with("syslog://h", 256 << 10).expect_err("too large");
        assert!(
            error.contains("analyzer old (syslog://h:514): lag 256KiB"),
            "{error}"
        );
        assert!(
            error.contains("at most half of --window, 128KiB"),
            "{error}"
        );
        assert_eq!(with("syslog://h", 512 << 10), Ok(()));
        assert_eq!(with("syslog://h?lag=1KiB", 256 << 10), Ok(()));
        assert_eq!(with("relp://h", 256 << 10), Ok(()));
    }

    #[test]
    fn the_port_for_all_is_an_input() {
        let mut config = config(&[]);
        config.any = Some(([127, 0, 0, 1], 5000).into());
        let all = config.all_inputs();
        assert_eq!((all.len(), all[0].name().as_str()), (1, "any"));
        config.inputs = vec!["frames@127.0.0.1:1?name=any".parse().expect("valid")];
        assert!(config
            .check()
            .is_err_and(|why| why.contains("--any 127.0.0.1:5000: another input is called any")));
    }
}
