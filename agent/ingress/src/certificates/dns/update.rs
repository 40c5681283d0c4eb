//! DNS UPDATE (RFC 2136) signed with TSIG (RFC 8945), over TCP, which every server that takes updates speaks.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::hmac;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode, UpdateMessage};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::{self, TSIG, TsigError};
use hickory_proto::rr::{self, DNSClass, Name, RData, RecordType};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Error, Record};
use crate::certificates::http::plainly;
use crate::config::{TsigAlgorithm, TsigKey};

/// A server in the neighbourhood or across the world answers within seconds, also when it signs the zone.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// A server shows what it took at once, or after it signed and reloaded the zone.
const SHOWN_TIME_MAX: Duration = Duration::from_secs(60);
const SHOWN_POLL: Duration = Duration::from_millis(500);
/// Short, as the value changes with each order.
const TTL_SECONDS: u32 = 60;
/// How far clocks may differ: what RFC 8945, 10 recommends.
const FUDGE_SECONDS: u16 = 300;

pub(super) struct Server<'a> {
    pub(super) address: SocketAddr,
    pub(super) zone: &'a str,
    pub(super) key: Option<&'a TsigKey>,
}

impl Server<'_> {
    pub(super) async fn add(&self, records: &[Record]) -> Result<(), Error> {
        self.update(records, DNSClass::IN, TTL_SECONDS).await
    }

    /// RFC 2136, 2.5.4: deletes exactly these values; the class NONE says so.
    pub(super) async fn remove(&self, records: &[Record]) -> Result<(), Error> {
        self.update(records, DNSClass::NONE, 0).await
    }

    async fn update(&self, records: &[Record], class: DNSClass, ttl: u32) -> Result<(), Error> {
        let zone = name(self.zone)?;
        let mut message = Message::query();
        message.metadata.op_code = OpCode::Update;
        message.metadata.recursion_desired = false;
        message.add_zone(Query::query(zone.clone(), RecordType::SOA));
        for record in records {
            let owner = name(&record.name)?;
            if !zone.zone_of(&owner) {
                return Err(Error::OtherZone { name: record.name.clone(), zone: self.zone.to_owned() });
            }
            let data = RData::TXT(TXT::new(vec![record.value.clone()]));
            let mut update = rr::Record::from_rdata(owner, ttl, data);
            update.dns_class = class;
            message.add_update(update);
        }
        if let Some(key) = self.key {
            sign(&mut message, key, Timestamp::now())?;
        }
        let answer = self.exchange(&message).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(()),
            code => Err(Error::Refused {
                server: self.address,
                zone: self.zone.to_owned(),
                reason: refusal(code, tsig_error(&answer)),
            }),
        }
    }

    /// Waits until the server itself answers with the values.
    pub(super) async fn await_shown(&self, records: &[Record]) -> Result<(), Error> {
        for record in records {
            let shown = async {
                while !self.shows(record).await? {
                    tokio::time::sleep(SHOWN_POLL).await;
                }
                Ok(())
            };
            let not_shown = || Error::NotShown { server: self.address, name: record.name.clone() };
            tokio::time::timeout(SHOWN_TIME_MAX, shown).await.unwrap_or_else(|_| Err(not_shown()))?;
        }
        Ok(())
    }

    async fn shows(&self, record: &Record) -> Result<bool, Error> {
        Ok(self.values(&record.name).await?.contains(&record.value.clone().into_bytes()))
    }

    /// The values of the TXT records at a name.
    pub(super) async fn values(&self, at: &str) -> Result<Vec<Vec<u8>>, Error> {
        let mut message = Message::query();
        message.metadata.recursion_desired = false;
        message.add_query(Query::query(name(at)?, RecordType::TXT));
        let answer = self.exchange(&message).await?;
        let texts = answer.answers.iter().filter_map(|found| match &found.data {
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        });
        Ok(texts.collect())
    }

    async fn exchange(&self, message: &Message) -> Result<Message, Error> {
        let failed = |reason: String| Error::Server { server: self.address, reason };
        let bytes = message.to_vec().map_err(|error| failed(error.to_string()))?;
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, over_tcp(self.address, &bytes))
            .await
            .map_err(|_| failed("no answer".to_owned()))?
            .map_err(|error| failed(plainly(&error)))?;
        let answer = Message::from_vec(&answer).map_err(|_| failed("its answer makes no sense".to_owned()))?;
        if answer.metadata.id == message.metadata.id {
            Ok(answer)
        } else {
            Err(failed("it answered something else".to_owned()))
        }
    }
}

/// RFC 1035, 4.2.2: each message after its length.
async fn over_tcp(server: SocketAddr, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(message.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    // In one write: some servers do not wait for a second segment.
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn name(text: &str) -> Result<Name, Error> {
    let mut name = Name::from_str(&text.to_lowercase()).map_err(|_| Error::Name(text.to_owned()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// RFC 8945, 5.1. The message must not change afterwards.
fn sign(message: &mut Message, key: &TsigKey, now: Timestamp) -> Result<(), Error> {
    let (algorithm, hmac) = match key.algorithm {
        TsigAlgorithm::HmacSha256 => (tsig::TsigAlgorithm::HmacSha256, hmac::HMAC_SHA256),
        TsigAlgorithm::HmacSha384 => (tsig::TsigAlgorithm::HmacSha384, hmac::HMAC_SHA384),
        TsigAlgorithm::HmacSha512 => (tsig::TsigAlgorithm::HmacSha512, hmac::HMAC_SHA512),
    };
    let key_name = name(&key.name)?;
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let unsigned = TSIG::new(algorithm, seconds, FUDGE_SECONDS, Vec::new(), message.metadata.id, None, Vec::new());
    let signed_bytes = tsig::message_tbs(message, &unsigned, &key_name).map_err(|_| Error::Name(key.name.clone()))?;
    let mac = hmac::sign(&hmac::Key::new(hmac, &key.secret), &signed_bytes);
    let record = tsig::make_tsig_record(key_name, unsigned.set_mac(mac.as_ref().to_vec()));
    message.signature = Some(Box::new(record));
    Ok(())
}

/// The library puts the record in one place or the other, depending on its features.
fn tsig_error(answer: &Message) -> Option<TsigError> {
    let signed = answer.signature().and_then(|tsig| tsig.data.error);
    signed.or_else(|| {
        answer.additionals.iter().find_map(|record| match &record.data {
            RData::TSIG(tsig) => tsig.error,
            _ => None,
        })
    })
}

fn refusal(code: ResponseCode, error: Option<TsigError>) -> String {
    match error {
        Some(TsigError::BadKey) => return "it does not know the TSIG key".to_owned(),
        Some(TsigError::BadSig) => return "the secret of the TSIG key is another there".to_owned(),
        Some(TsigError::BadTime) => return "its clock and ours differ".to_owned(),
        Some(TsigError::BadTrunc | TsigError::Unknown(_)) | None => {}
    }
    match code {
        ResponseCode::Refused => "updates are not allowed with this key".to_owned(),
        ResponseCode::NotAuth => "it does not accept the TSIG key, or is not in charge of the zone".to_owned(),
        ResponseCode::NotZone => "the name is not in the zone".to_owned(),
        ResponseCode::NotImp => "it does not take updates".to_owned(),
        other => other.to_string(),
    }
}
