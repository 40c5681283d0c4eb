//! From a question to its answer, with the limits of DNS over UDP.

use std::sync::{Arc, PoisonError, RwLock};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name as DnsName, RData, Record, RecordType};

use super::forward::Upstream;
use super::records::{Found, Name, Records};

/// Upstream's time to live for cluster names: short, since pods come and go.
const TTL: u32 = 5;
/// A UDP answer without EDNS (RFC 1035, 4.2.1), and the most we send with it.
const UDP_BYTES: usize = 512;
const UDP_BYTES_MAX: usize = 4096;
/// The version of the specification that names follow.
const VERSION: &str = "1.1.0";

pub(crate) struct Answerer {
    records: Arc<RwLock<Arc<Records>>>,
    upstream: Upstream,
}

impl Answerer {
    pub(crate) fn new(records: Arc<RwLock<Arc<Records>>>, upstream: Upstream) -> Self {
        Self { records, upstream }
    }

    /// The answer where the cluster knows it; `None` where upstream has to be asked.
    pub(crate) fn local(&self, query: &Message) -> Option<Message> {
        if query.metadata.message_type != MessageType::Query || query.metadata.op_code != OpCode::Query {
            return Some(reply(query, ResponseCode::NotImp));
        }
        let [question] = query.queries.as_slice() else { return Some(reply(query, ResponseCode::FormErr)) };
        let records = Arc::clone(&self.records.read().unwrap_or_else(PoisonError::into_inner));
        respond(query, question, &records)
    }

    pub(crate) async fn forward(&self, query: &Message) -> Message {
        let records = Arc::clone(&self.records.read().unwrap_or_else(PoisonError::into_inner));
        let Some(question) = query.queries.first() else { return reply(query, ResponseCode::FormErr) };
        // An alias of the cluster to a name outside of it.
        if let Found::Name(Name { alias: Some(alias), .. }) = records.find(&plain(question.name())) {
            return self.chase(query, question, &alias).await;
        }
        match self.upstream.ask(question).await {
            Some(mut response) => {
                response.metadata.id = query.metadata.id;
                response.metadata.recursion_desired = query.metadata.recursion_desired;
                response
            }
            None => reply(query, ResponseCode::ServFail),
        }
    }

    async fn chase(&self, query: &Message, question: &Query, alias: &str) -> Message {
        let mut response = reply(query, ResponseCode::NoError);
        let Ok(target) = DnsName::from_ascii(format!("{}.", alias.trim_end_matches('.'))) else {
            return reply(query, ResponseCode::ServFail);
        };
        let cname = RData::CNAME(CNAME(target.clone()));
        response.add_answer(Record::from_rdata(question.name().clone(), TTL, cname));
        if let Some(found) = self.upstream.ask(&Query::query(target, question.query_type())).await {
            response.add_answers(found.answers);
        }
        response
    }
}

fn plain(name: &DnsName) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn reply(query: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.add_queries(query.queries.iter().cloned());
    response
}

pub(crate) fn respond(query: &Message, question: &Query, records: &Records) -> Option<Message> {
    let answers = match records.find(&plain(question.name())) {
        Found::Elsewhere => return None,
        Found::Name(Name { alias: Some(alias), .. }) => match question.query_type() {
            RecordType::A | RecordType::AAAA | RecordType::CNAME => return aliased(query, question, &alias, records),
            _ => Vec::new(),
        },
        Found::Absent => {
            let mut response = reply(query, ResponseCode::NXDomain);
            response.metadata.authoritative = true;
            response.add_authority(start_of_authority(records.domain())?);
            return Some(response);
        }
        Found::Name(name) => of_name(question, &name),
        Found::Pointer(names) => of_type(question, RecordType::PTR, || {
            names.iter().filter_map(|n| fqdn(n)).map(|n| RData::PTR(PTR(n))).collect()
        }),
        Found::Version => of_type(question, RecordType::TXT, || vec![RData::TXT(TXT::new(vec![VERSION.to_owned()]))]),
    };
    let mut response = reply(query, ResponseCode::NoError);
    response.metadata.authoritative = true;
    if answers.is_empty() {
        response.add_authority(start_of_authority(records.domain())?);
    }
    response.add_answers(answers.into_iter().map(|data| Record::from_rdata(question.name().clone(), TTL, data)));
    Some(response)
}

/// An alias that stays inside the cluster is followed here; `None` where it leads outside.
fn aliased(query: &Message, question: &Query, alias: &str, records: &Records) -> Option<Message> {
    let alias = alias.trim_end_matches('.').to_ascii_lowercase();
    let target = match records.find(&alias) {
        Found::Name(Name { alias: None, addresses, .. }) => Name { addresses, ..Name::default() },
        Found::Absent => Name::default(),
        // An alias of an alias is left to the resolver upstream, which knows how to end a circle.
        Found::Name(_) | Found::Pointer(_) | Found::Version | Found::Elsewhere => return None,
    };
    let goal = fqdn(&alias)?;
    let mut response = reply(query, ResponseCode::NoError);
    response.metadata.authoritative = true;
    response.add_answer(Record::from_rdata(question.name().clone(), TTL, RData::CNAME(CNAME(goal.clone()))));
    let data = of_name(question, &target);
    response.add_answers(data.into_iter().map(|data| Record::from_rdata(goal.clone(), TTL, data)));
    Some(response)
}

fn of_type(question: &Query, kind: RecordType, data: impl FnOnce() -> Vec<RData>) -> Vec<RData> {
    if question.query_type() == kind || question.query_type() == RecordType::ANY { data() } else { Vec::new() }
}

fn of_name(question: &Query, name: &Name) -> Vec<RData> {
    let mut addresses: Vec<RData> =
        of_type(question, RecordType::A, || name.addresses.iter().map(|a| RData::A(A(*a))).collect());
    // Spread clients that always take the first.
    if addresses.len() > 1 {
        let by = usize::from(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_micros() as u16),
        );
        let count = addresses.len();
        addresses.rotate_left(by % count);
    }
    let services = of_type(question, RecordType::SRV, || {
        let weight = u16::try_from(100 / name.services.len().max(1)).unwrap_or(1);
        let targets = name.services.iter().filter_map(|(port, target)| Some((*port, fqdn(target)?)));
        targets.map(|(port, target)| RData::SRV(SRV::new(0, weight, port, target))).collect()
    });
    addresses.into_iter().chain(services).collect()
}

fn fqdn(name: &str) -> Option<DnsName> {
    DnsName::from_ascii(format!("{name}.")).ok()
}

/// Tells resolvers for how long a name may be taken as absent.
fn start_of_authority(domain: &str) -> Option<Record> {
    let (server, mailbox) = (fqdn(&format!("ns.dns.{domain}"))?, fqdn(&format!("hostmaster.{domain}"))?);
    let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86_400, TTL);
    Some(Record::from_rdata(fqdn(domain)?, TTL, RData::SOA(soa)))
}

pub(crate) fn encode(response: &Message) -> Vec<u8> {
    response.to_vec().unwrap_or_default()
}

/// Cut to what the client takes; it asks again over TCP.
pub(crate) fn encode_udp(query: &Message, response: Message) -> Vec<u8> {
    let limit = query.edns.as_ref().map_or(UDP_BYTES, |e| usize::from(e.max_payload()).clamp(UDP_BYTES, UDP_BYTES_MAX));
    let bytes = encode(&response);
    if bytes.len() <= limit {
        return bytes;
    }
    let mut cut = reply(query, response.metadata.response_code);
    cut.metadata.truncation = true;
    encode(&cut)
}
