//! What is in the file.
//!
//! A name and a version of the format; of which database it is, when it was current, up to which change, and what status
//! is judged by; the nodes, each as it is shown, with the times beside it; and a checksum over all of that. Numbers are
//! little-endian. The checksum is looked at before anything else is believed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, Write};
use std::path::Path;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use crate::node::{Horizon, Moment, NodeRecord, Outage, Revision, ShownRecord, Status, Timestamp};
use crate::registry::catalog::Fleet;
use crate::store::EventMark;

const NAME: &[u8; 8] = b"onexsnap";
/// Another layout has another number.
const VERSION: u32 = 1;
/// The checksum at the end.
const CHECKSUM_BYTES: u64 = 16;
/// Where a name of a database ends at the latest.
const LONGEST_PLACE: u32 = 4_096;

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is none.
    #[error("there is none")]
    None,
    /// It can't be read.
    #[error("it can't be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is something else.
    #[error("it is no snapshot")]
    Foreign,
    /// It was written by another version of the program.
    #[error("its format has the version {0}, not {VERSION}")]
    Version(u32),
    /// It is cut off, or something in it has changed.
    #[error("it is broken")]
    Broken,
    /// It is of another database.
    #[error("it is of another database")]
    OtherDatabase,
}

/// What is said of all nodes together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// When this was known to be what the table has, since 1970, by this machine's clock.
    pub(super) known_at: Duration,
    /// All changes up to this one are in it.
    pub(super) revision: Revision,
    /// The newest of them, if it is known.
    pub(super) last: Option<EventMark>,
    /// What status is judged by.
    pub(super) horizon: Horizon,
}

/// Writes a fleet.
pub(super) fn write(out: &mut impl Write, place: &str, header: &Header, fleet: &Fleet) -> io::Result<()> {
    let mut out = Summed { inner: out, sum: Xxh3::new() };
    out.write_all(NAME)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.text(place.as_bytes())?;
    out.number(i64::try_from(header.known_at.as_micros()).unwrap_or(i64::MAX))?;
    out.number(header.revision.get())?;
    out.pair(header.last.map(|last| (last.revision.get(), last.occurred_at.unix_micros())))?;
    out.number(header.horizon.at.unix_micros())?;
    let outage = header.horizon.outage;
    out.pair(outage.map(|outage| (outage.began.unix_micros(), outage.ended.unix_micros())))?;
    out.number(i64::try_from(fleet.len()).unwrap_or(i64::MAX))?;
    let (mut json, mut written) = (Vec::new(), Ok(()));
    fleet.for_each(|node| {
        if written.is_ok() {
            json.clear();
            let shown = fleet.show(node);
            shown.write(&mut json);
            written = out.node(&shown.record, &shown.moment, &json);
        }
    });
    written?;
    let sum = out.sum.digest128();
    out.inner.write_all(&sum.to_le_bytes())
}

/// Reads what is in a file, and gives each node to `take`.
pub(super) fn read(
    path: &Path,
    place: &str,
    mut take: impl FnMut(NodeRecord),
) -> Result<Header, SnapshotError> {
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => SnapshotError::None,
        _ => error.into(),
    };
    // Asked before it is opened: to open a pipe is to wait for whoever writes to it.
    if !std::fs::metadata(path).map_err(missing)?.is_file() {
        return Err(SnapshotError::Broken);
    }
    let file = File::open(path).map_err(missing)?;
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    check(&mut reader, length)?;
    reader.rewind()?;
    // The checksum was right: what doesn't fit now is a mistake of ours, or somebody's who means it.
    let broken = |_| SnapshotError::Broken;
    let mut within = Within(reader.take(length - CHECKSUM_BYTES));
    within.bytes::<12>().map_err(broken)?;
    if within.text(LONGEST_PLACE).map_err(broken)? != place.as_bytes() {
        return Err(SnapshotError::OtherDatabase);
    }
    let header = within.header().map_err(broken)?;
    let nodes = within.number().map_err(broken)?;
    for _ in 0..nodes {
        take(within.node().map_err(broken)?);
    }
    if within.0.limit() == 0 { Ok(header) } else { Err(SnapshotError::Broken) }
}

/// Whether all is as it was written.
fn check(reader: &mut impl Read, length: u64) -> Result<(), SnapshotError> {
    let mut begin = [0; 12];
    let is_short = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SnapshotError::Foreign,
        _ => error.into(),
    };
    reader.read_exact(&mut begin).map_err(is_short)?;
    let (name, version) = begin.split_at(NAME.len());
    if name != NAME {
        return Err(SnapshotError::Foreign);
    }
    let version = u32::from_le_bytes(version.try_into().unwrap_or_default());
    if version != VERSION {
        return Err(SnapshotError::Version(version));
    }
    let mut sum = Xxh3::new();
    sum.update(&begin);
    let rest = length.checked_sub(begin.len() as u64 + CHECKSUM_BYTES).ok_or(SnapshotError::Broken)?;
    let mut summed = Summed { inner: io::sink(), sum };
    let read = io::copy(&mut reader.take(rest), &mut summed)?;
    let mut written = [0; 16];
    reader.read_exact(&mut written).map_err(|_| SnapshotError::Broken)?;
    let is_right = read == rest && summed.sum.digest128().to_le_bytes() == written;
    if is_right { Ok(()) } else { Err(SnapshotError::Broken) }
}

/// What is written, and its checksum so far.
struct Summed<W> {
    inner: W,
    sum: Xxh3,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Summed<W> {
    fn number(&mut self, number: i64) -> io::Result<()> {
        self.write_all(&number.to_le_bytes())
    }

    fn pair(&mut self, pair: Option<(i64, i64)>) -> io::Result<()> {
        self.write_all(&[u8::from(pair.is_some())])?;
        let (one, other) = pair.unwrap_or_default();
        self.number(one)?;
        self.number(other)
    }

    fn text(&mut self, text: &[u8]) -> io::Result<()> {
        let length = u32::try_from(text.len()).map_err(|_| io::Error::other("a text that is too long"))?;
        self.write_all(&length.to_le_bytes())?;
        self.write_all(text)
    }

    fn node(&mut self, record: &ShownRecord, moment: &Moment, json: &[u8]) -> io::Result<()> {
        let texts = record.texts();
        let flags = [moment.last_heartbeat.is_some(), texts[0], texts[1], texts[2]];
        let flags = flags.iter().rev().fold(0, |flags, flag| flags << 1 | u8::from(*flag));
        self.write_all(&[flags])?;
        self.number(moment.last_heartbeat.map_or(0, Timestamp::unix_micros))?;
        self.number(record.registered_at().unix_micros())?;
        self.number(moment.updated_at.unix_micros())?;
        self.number(record.revision().get())?;
        self.text(json)
    }
}

/// What is left of a file.
struct Within<R>(io::Take<R>);

impl<R: Read> Within<R> {
    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<i64> {
        self.bytes().map(i64::from_le_bytes)
    }

    fn pair(&mut self) -> io::Result<Option<(i64, i64)>> {
        let [is_there] = self.bytes()?;
        let pair = (self.number()?, self.number()?);
        Ok((is_there != 0).then_some(pair))
    }

    /// Memory is taken for what is there, and not for what is said to be there.
    fn text(&mut self, longest: u32) -> io::Result<Vec<u8>> {
        let length = self.bytes().map(u32::from_le_bytes)?;
        if length > longest {
            return Err(invalid());
        }
        let mut text = Vec::new();
        self.0.by_ref().take(length.into()).read_to_end(&mut text)?;
        if text.len() == length as usize { Ok(text) } else { Err(invalid()) }
    }

    fn revision(&mut self) -> io::Result<Revision> {
        Revision::new(self.number()?).ok_or_else(invalid)
    }

    fn header(&mut self) -> io::Result<Header> {
        let known_at = Duration::from_micros(u64::try_from(self.number()?).map_err(|_| invalid())?);
        let revision = self.revision()?;
        let last = match self.pair()? {
            None => None,
            Some((number, at)) => Some(EventMark {
                revision: Revision::new(number).ok_or_else(invalid)?,
                occurred_at: Timestamp::from_unix_micros(at),
            }),
        };
        let at = Timestamp::from_unix_micros(self.number()?);
        let outage = self.pair()?.map(|(began, ended)| Outage {
            began: Timestamp::from_unix_micros(began),
            ended: Timestamp::from_unix_micros(ended),
        });
        Ok(Header { known_at, revision, last, horizon: Horizon { at, outage } })
    }

    fn node(&mut self) -> io::Result<NodeRecord> {
        let [flags] = self.bytes()?;
        let is = |flag: u8| flags >> flag & 1 == 1;
        let last_heartbeat = Timestamp::from_unix_micros(self.number()?);
        let registered_at = Timestamp::from_unix_micros(self.number()?);
        let updated_at = Timestamp::from_unix_micros(self.number()?);
        let revision = self.revision()?;
        let moment = Moment {
            last_heartbeat: is(0).then_some(last_heartbeat),
            updated_at,
            // It is judged anew.
            status: Status::Unknown,
        };
        let json = self.text(u32::MAX)?;
        ShownRecord::read(&json, [is(1), is(2), is(3)], &moment, registered_at, revision).ok_or_else(invalid)
    }
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::node::{JsonText, NodeKey, Ttl};
    use crate::registry::catalog::Catalog;
    use crate::store::{Loaded, Position};

    const PLACE: &str = "postgres://host:5432/db";

    fn records() -> Vec<NodeRecord> {
        let plain = NodeRecord {
            node_id: NodeKey::new("a").unwrap(),
            node_type: "effect".into(),
            node_version: "1.0.0".into(),
            capabilities: JsonText::from_database(
                r#"{"n": 1.10, "long": 1234567890123456789012345678901234567890}"#,
            ),
            endpoints: JsonText::from_database("{}"),
            metadata: JsonText::from_database(r#"{"x": "\u00fc\"\\"}"#),
            health_endpoint: Some("http://h/".into()),
            last_heartbeat: Some(Timestamp::from_unix_micros(99)),
            registered_at: Timestamp::from_unix_micros(5),
            updated_at: Timestamp::from_unix_micros(7),
            ttl_seconds: Some(60),
            maintenance: Some("disk".into()),
            revision: Revision::new(7).unwrap(),
        };
        let odd = NodeRecord {
            node_id: NodeKey::new("b \u{1F600}/%").unwrap(),
            node_type: "\"".into(),
            capabilities: JsonText::from_database(r#""a string""#),
            endpoints: JsonText::from_database("{\"broken"),
            metadata: JsonText::from_database("null"),
            health_endpoint: None,
            last_heartbeat: None,
            registered_at: Timestamp::NEG_INFINITY,
            updated_at: Timestamp::INFINITY,
            ttl_seconds: None,
            maintenance: None,
            revision: Revision::ZERO,
            ..plain.clone()
        };
        vec![plain, odd]
    }

    fn header() -> Header {
        let at = |micros| Timestamp::from_unix_micros(micros);
        Header {
            known_at: Duration::from_micros(1_790_000_000_123_456),
            revision: Revision::new(9).unwrap(),
            last: Some(EventMark { revision: Revision::new(9).unwrap(), occurred_at: at(3) }),
            horizon: Horizon { at: at(100), outage: Some(Outage { began: at(1), ended: at(2) }) },
        }
    }

    fn written() -> Vec<u8> {
        let catalog = Catalog::new(Ttl::from_seconds(90));
        let mut loading = catalog.load();
        for record in records() {
            loading.take(record);
        }
        let header = header();
        let position = Position::default().at_least(header.revision, header.last);
        loading.finish(&Loaded { position, horizon: header.horizon }).unwrap();
        let fleet = catalog.fleet().unwrap();
        let mut out = Vec::new();
        write(&mut out, PLACE, &header, &fleet).unwrap();
        out
    }

    fn read_bytes(bytes: &[u8], place: &str) -> Result<(Header, Vec<NodeRecord>), SnapshotError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        std::fs::write(&path, bytes).unwrap();
        let mut records = Vec::new();
        let header = read(&path, place, |record| records.push(record))?;
        Ok((header, records))
    }

    #[test]
    fn what_was_written_is_read_as_it_was() {
        let (header, read) = read_bytes(&written(), PLACE).unwrap();
        assert_eq!(header, self::header());
        let read: HashMap<_, _> = read.into_iter().map(|record| (record.node_id.clone(), record)).collect();
        assert_eq!(read.len(), 2);
        for record in records() {
            assert_eq!(read[&record.node_id], record);
        }
    }

    #[test]
    fn nothing_else_is_read() {
        let right = written();
        assert!(matches!(
            read_bytes(&right, "postgres://host:5432/other"),
            Err(SnapshotError::OtherDatabase)
        ));
        for (bytes, length) in [(&right, 0), (&right, 5), (&right, 11)] {
            assert!(matches!(read_bytes(&bytes[..length], PLACE), Err(SnapshotError::Foreign)));
        }
        for length in 12..right.len() {
            assert!(matches!(read_bytes(&right[..length], PLACE), Err(SnapshotError::Broken)), "{length}");
        }
        for place in 0..right.len() {
            let mut changed = right.clone();
            changed[place] ^= 0x20;
            let error = read_bytes(&changed, PLACE).expect_err("something has changed");
            match place {
                0..8 => assert!(matches!(error, SnapshotError::Foreign), "{place}"),
                8..12 => assert!(matches!(error, SnapshotError::Version(_)), "{place}"),
                _ => assert!(matches!(error, SnapshotError::Broken), "{place}"),
            }
        }
        let longer = [&right[..], b"x"].concat();
        assert!(matches!(read_bytes(&longer, PLACE), Err(SnapshotError::Broken)));
        let missing = tempfile::tempdir().unwrap().path().join("missing");
        assert!(matches!(read(&missing, PLACE, drop), Err(SnapshotError::None)));
    }

    /// Somebody who can make a checksum is not believed either.
    #[test]
    fn what_is_said_to_be_there_takes_no_memory() {
        let right = written();
        let text = 12 + 4 + PLACE.len() + 8 + 8 + 17 + 8 + 17 + 8 + 1 + 32;
        let mut hostile = right[..right.len() - 16].to_vec();
        hostile[text..text + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut sum = Xxh3::new();
        sum.update(&hostile);
        hostile.extend_from_slice(&sum.digest128().to_le_bytes());
        assert!(matches!(read_bytes(&hostile, PLACE), Err(SnapshotError::Broken)));
    }
}
