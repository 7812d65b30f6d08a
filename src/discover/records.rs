//! DNS messages: a question as bytes, and what an answer says.

use std::net::IpAddr;

use simple_dns::rdata::{RData, OPT};
use simple_dns::{Name, Packet, PacketFlag, Question, CLASS, OPCODE, QTYPE, RCODE, TYPE};

/// What fits into a datagram on any path (DNS flag day 2020).
pub(crate) const UDP_BYTES_MAX: usize = 1_232;
/// Records of an answer that are looked at.
pub(crate) const RECORDS_MAX: usize = 1_024;
/// Aliases one after the other.
const ALIASES_MAX: usize = 8;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    A,
    Aaaa,
    Srv,
}

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// With an OPT record; servers from before 1999 refuse it.
    pub(crate) edns: bool,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Service {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    pub(crate) target: String,
    /// Told along with it; empty: to be asked for.
    pub(crate) ips: Vec<IpAddr>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Of A and AAAA. May be empty: the name has none.
    Addresses(Vec<IpAddr>),
    /// Of SRV, likewise.
    Services(Vec<Service>),
    /// No such name.
    NoName,
    /// It did not fit: ask over TCP.
    Truncated,
    /// It does not understand the OPT record.
    NoEdns,
    /// The server could not, or would not.
    Failed(String),
}

/// Why bytes are passed over: they are no answer to this question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotTheAnswer;

impl Kind {
    fn as_type(self) -> TYPE {
        match self {
            Kind::A => TYPE::A,
            Kind::Aaaa => TYPE::AAAA,
            Kind::Srv => TYPE::SRV,
        }
    }
}

/// What [`read_answer`] made of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// No answer to this question: others may follow.
    NotTheAnswer,
    /// An answer without records: cut, refused, failed, no such name.
    NoRecords,
    /// Addresses that it gives, those of all targets of an SRV record included.
    Addresses(Vec<IpAddr>),
}

/// Reads a nameserver's bytes as the answer to a question with this number: for A, or for SRV. For fuzzers and other tests
/// of the reader.
pub fn read_answer(id: u16, name: &str, is_srv: bool, bytes: &[u8]) -> Heard {
    let query = Query {
        id,
        name: name.to_owned(),
        kind: if is_srv { Kind::Srv } else { Kind::A },
        edns: true,
    };
    match query.read(bytes) {
        Err(NotTheAnswer) => Heard::NotTheAnswer,
        Ok(Answer::Addresses(ips)) => Heard::Addresses(ips),
        Ok(Answer::Services(services)) => {
            Heard::Addresses(services.into_iter().flat_map(|it| it.ips).collect())
        }
        Ok(_) => Heard::NoRecords,
    }
}

/// Names are compared without case, and without the dot at the end.
fn bare(name: &Name) -> String {
    name.to_string().trim_end_matches('.').to_ascii_lowercase()
}

impl Query {
    /// As it is sent.
    ///
    /// # Errors
    /// The name does not fit into a question.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        let mut packet = Packet::new_query(self.id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let named = |error| format!("name {:?}: {error}", self.name);
        let name = Name::new(&self.name).map_err(named)?;
        let (kind, class) = (self.kind.as_type(), CLASS::IN);
        let question = Question::new(name, kind.into(), class.into(), false);
        packet.questions.push(question);
        if self.edns {
            *packet.opt_mut() = Some(OPT {
                opt_codes: Vec::new(),
                udp_packet_size: UDP_BYTES_MAX as u16,
                version: 0,
            });
        }
        packet.build_bytes_vec().map_err(named)
    }

    /// What bytes say, if they answer this.
    ///
    /// # Errors
    /// They do not: others may.
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<Answer, NotTheAnswer> {
        // The number first: whoever cannot guess it cannot make this side do more.
        if bytes.first_chunk() != Some(&self.id.to_be_bytes()) {
            return Err(NotTheAnswer);
        }
        let Ok(packet) = Packet::parse(bytes) else {
            return Ok(self.unreadable(bytes));
        };
        let is_reply = packet.has_flags(PacketFlag::RESPONSE);
        if !is_reply || packet.opcode() != OPCODE::StandardQuery || !self.is_asked(&packet) {
            return Err(NotTheAnswer);
        }
        if packet.has_flags(PacketFlag::TRUNCATION) {
            return Ok(Answer::Truncated);
        }
        Ok(match packet.rcode() {
            RCODE::NoError => self.records(&packet),
            RCODE::NameError => Answer::NoName,
            RCODE::FormatError if self.edns => Answer::NoEdns,
            RCODE::ServerFailure => Answer::Failed("SERVFAIL".into()),
            RCODE::Refused => Answer::Failed("REFUSED".into()),
            other => Answer::Failed(format!("{other:?}")),
        })
    }

    fn is_asked(&self, packet: &Packet) -> bool {
        let [question] = &packet.questions[..] else {
            // Some servers answer FORMERR with a bare header.
            return packet.questions.is_empty() && packet.rcode() == RCODE::FormatError;
        };
        let name = self.name.trim_end_matches('.').to_ascii_lowercase();
        question.qtype == QTYPE::TYPE(self.kind.as_type()) && bare(&question.qname) == name
    }

    /// A cut answer is often unreadable, and says in its head that it is cut.
    fn unreadable(&self, bytes: &[u8]) -> Answer {
        const TRUNCATED: u8 = 0b1000_0010;
        match bytes.get(2) {
            Some(flags) if flags & TRUNCATED == TRUNCATED => Answer::Truncated,
            _ => Answer::Failed("an answer that cannot be read".into()),
        }
    }

    fn records(&self, packet: &Packet) -> Answer {
        let names = self.names(packet);
        let answers = packet.answers.iter().take(RECORDS_MAX);
        let mine = answers.filter(|record| names.contains(&bare(&record.name)));
        if self.kind != Kind::Srv {
            let mut ips: Vec<IpAddr> = mine.filter_map(|record| ip(&record.rdata)).collect();
            ips.sort_unstable();
            ips.dedup();
            return Answer::Addresses(ips);
        }
        let service = |data: &RData| match data {
            RData::SRV(srv) => Some(Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: bare(&srv.target),
                ips: Vec::new(),
            }),
            _ => None,
        };
        let mut all: Vec<Service> = mine.filter_map(|record| service(&record.rdata)).collect();
        // A target of "." means: not here (RFC 2782).
        all.retain(|service| !service.target.is_empty() && service.port > 0);
        all.sort_unstable();
        all.dedup();
        for service in &mut all {
            let along = packet.additional_records.iter().take(RECORDS_MAX);
            let along = along.filter(|record| bare(&record.name) == service.target);
            service.ips = along.filter_map(|record| ip(&record.rdata)).collect();
            service.ips.sort_unstable();
            service.ips.dedup();
        }
        Answer::Services(all)
    }

    /// The name asked for, and what it is an alias of.
    fn names(&self, packet: &Packet) -> Vec<String> {
        let mut names = vec![self.name.trim_end_matches('.').to_ascii_lowercase()];
        while names.len() <= ALIASES_MAX {
            let Some(last) = names.last() else { break };
            let alias =
                packet
                    .answers
                    .iter()
                    .take(RECORDS_MAX)
                    .find_map(|record| match &record.rdata {
                        RData::CNAME(alias) if bare(&record.name) == *last => Some(bare(&alias.0)),
                        _ => None,
                    });
            match alias {
                Some(alias) if !names.contains(&alias) => names.push(alias),
                _ => break,
            }
        }
        names
    }
}

fn ip(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.address.into())),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.address.into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::rdata::{A, CNAME, SRV};
    use simple_dns::ResourceRecord;

    fn query(name: &str, kind: Kind) -> Query {
        Query {
            id: 7,
            name: name.into(),
            kind,
            edns: true,
        }
    }

    fn reply<'a>(query: &'a Query, records: Vec<(&'a str, RData<'a>)>) -> Packet<'a> {
        let mut packet = Packet::new_reply(query.id);
        let name = Name::new(&query.name).expect("a name");
        let kind = query.kind.as_type().into();
        let question = Question::new(name, kind, CLASS::IN.into(), false);
        packet.questions.push(question);
        for (name, data) in records {
            let name = Name::new(name).expect("a name");
            packet
                .answers
                .push(ResourceRecord::new(name, CLASS::IN, 5, data));
        }
        packet
    }

    fn a(last: u8) -> RData<'static> {
        RData::A(A {
            address: u32::from_be_bytes([192, 0, 2, last]),
        })
    }

    fn cname(of: &'static str) -> RData<'static> {
        RData::CNAME(CNAME(Name::new(of).expect("a name")))
    }

    fn bytes(packet: &Packet) -> Vec<u8> {
        packet.build_bytes_vec_compressed().expect("encodes")
    }

    #[test]
    fn only_the_answer_to_this_question_is_taken() {
        let mine = query("Weir.Example", Kind::A);
        let good = bytes(&reply(&mine, vec![("weir.example", a(1))]));
        let one = Answer::Addresses(vec![[192, 0, 2, 1].into()]);
        assert_eq!(mine.read(&good), Ok(one));
        let mut other_id = good.clone();
        other_id[1] ^= 1;
        assert_eq!(mine.read(&other_id), Err(NotTheAnswer));
        for (name, kind) in [("weir.example", Kind::Aaaa), ("evil.example", Kind::A)] {
            let other = query(name, kind);
            let bytes = bytes(&reply(&other, vec![("weir.example", a(1))]));
            assert_eq!(mine.read(&bytes), Err(NotTheAnswer), "{name}");
        }
        let question = mine.encode().expect("encodes");
        assert_eq!(
            mine.read(&question),
            Err(NotTheAnswer),
            "a question is no answer"
        );
    }

    #[test]
    fn records_of_other_names_do_not_count_and_aliases_do() {
        let mine = query("weir", Kind::A);
        let records = vec![
            ("weir", cname("b")),
            ("b", cname("c")),
            ("c", a(3)),
            ("c", a(2)),
            ("c", a(3)),
            ("x", a(9)),
        ];
        let read = mine.read(&bytes(&reply(&mine, records)));
        let ips = [[192, 0, 2, 2], [192, 0, 2, 3]].map(IpAddr::from);
        assert_eq!(read, Ok(Answer::Addresses(ips.to_vec())));
        let round = vec![("weir", cname("b")), ("b", cname("weir"))];
        let read = mine.read(&bytes(&reply(&mine, round)));
        assert_eq!(read, Ok(Answer::Addresses(Vec::new())));
    }

    #[test]
    fn services_come_with_the_addresses_that_are_told_along() {
        let mine = query("_a._tcp.weir", Kind::Srv);
        let srv = |port, target: &'static str| {
            RData::SRV(SRV {
                priority: 1,
                weight: 2,
                port,
                target: Name::new_unchecked(target),
            })
        };
        let name = "_a._tcp.weir";
        let records = vec![(name, srv(8081, "W0.x")), (name, srv(8082, "w1.x"))];
        let mut packet = reply(&mine, records);
        let told = Name::new("w0.X").expect("a name");
        let told = ResourceRecord::new(told, CLASS::IN, 5, a(4));
        packet.additional_records.push(told);
        let Ok(Answer::Services(services)) = mine.read(&bytes(&packet)) else {
            panic!("services");
        };
        let told: Vec<_> = services
            .iter()
            .map(|it| (&it.target[..], it.ips.len()))
            .collect();
        assert_eq!(told, [("w0.x", 1), ("w1.x", 0)]);
        assert_eq!((services[0].priority, services[0].weight), (1, 2));
    }

    #[test]
    fn what_servers_refuse_is_told_apart() {
        let mine = query("weir", Kind::A);
        let of = |rcode| {
            let mut packet = reply(&mine, Vec::new());
            *packet.rcode_mut() = rcode;
            mine.read(&bytes(&packet)).expect("the answer")
        };
        assert_eq!(of(RCODE::NoError), Answer::Addresses(Vec::new()));
        assert_eq!(of(RCODE::NameError), Answer::NoName);
        assert_eq!(of(RCODE::FormatError), Answer::NoEdns);
        assert_eq!(of(RCODE::ServerFailure), Answer::Failed("SERVFAIL".into()));
        let mut cut = reply(&mine, vec![("weir", a(1))]);
        cut.set_flags(PacketFlag::TRUNCATION);
        let cut = bytes(&cut);
        assert_eq!(mine.read(&cut), Ok(Answer::Truncated));
        assert_eq!(mine.read(&cut[..cut.len() - 3]), Ok(Answer::Truncated));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mine = query("weir", Kind::Srv);
        let whole = bytes(&reply(&mine, vec![("weir", a(1)), ("weir", cname("b"))]));
        for end in 0..whole.len() {
            let _ = mine.read(&whole[..end]);
        }
        for at in 2..whole.len() {
            for bits in [0x01, 0x80, 0xC0, 0xFF] {
                let mut odd = whole.clone();
                odd[at] ^= bits;
                let _ = mine.read(&odd);
            }
        }
    }
}
