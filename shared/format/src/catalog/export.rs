//! The bytes of an export. Integers little-endian, checksums CRC-32C, `bincode` in its standard configuration.
//!
//! ```text
//! heads        per changed topic: version u16 | TopicHead as bincode
//! root         CatalogRoot as bincode: every topic's head, also those in older exports
//! trailer  66  cluster 16 | incarnation u32 | lane u32 | index u64 | root position u64 | root length u64
//!              | root crc u32 | version u16 | crc u32 of what precedes | magic "CHRNKCAT"
//! ```
//!
//! A head carries its own version because a root may name heads that an earlier program wrote.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::coding::{PART_BYTES_MAX, decode, encode, unbuildable};
use super::{CatalogError, CatalogRoot, HeadEntry, Latest, TopicHead};
use crate::origin::Origin;

/// The format version that this program writes and reads; 0 is unreleased.
pub const VERSION: u16 = 0;

/// Bytes of the trailer.
pub(super) const TRAILER_LENGTH: u64 = 66;

const MAGIC: [u8; 8] = *b"CHRNKCAT";

/// An export, ready to be created as an object.
#[derive(Clone, Debug)]
pub struct BuiltExport {
    /// The object's bytes, in order.
    pub parts: Vec<Bytes>,
    /// The root in it, which names every topic's head.
    pub root: CatalogRoot,
    /// What names it, to be written once the object is there; beat 0, not released.
    pub latest: Latest,
}

/// Builds the export named `object`. The root comes with the heads of the topics that did not change and gets those
/// that did.
pub fn build_export(
    cluster: Uuid,
    object: &str,
    mut root: CatalogRoot,
    changed: &[TopicHead],
) -> Result<BuiltExport, CatalogError> {
    let mut parts = Vec::with_capacity(changed.len() + 2);
    let mut position = 0;
    for head in changed {
        check_head(head).map_err(|reason| unbuildable(format!("topic {}: {reason}", head.name)))?;
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.extend(encode(head)?);
        let bytes = Bytes::from(bytes);
        let (length, crc) = (bytes.len() as u64, crc32c::crc32c(&bytes));
        root.heads.push(HeadEntry {
            name: head.name.clone(),
            id: head.id,
            object: object.to_owned(),
            position,
            length,
            crc,
        });
        position += length;
        parts.push(bytes);
    }
    root.heads.sort_by(|a, b| a.name.cmp(&b.name));
    check_root(&root).map_err(unbuildable)?;
    let root_bytes = Bytes::from(encode(&root)?);
    let latest = Latest {
        v: VERSION.into(),
        incarnation: root.incarnation,
        lane: root.lane,
        index: root.index,
        export: object.to_owned(),
        root_position: position,
        root_length: root_bytes.len() as u64,
        root_crc: crc32c::crc32c(&root_bytes),
        writer: String::new(),
        beat: 0,
        released: false,
    };
    parts.extend([root_bytes, encode_trailer(cluster, &latest)]);
    Ok(BuiltExport { parts, root, latest })
}

fn encode_trailer(cluster: Uuid, latest: &Latest) -> Bytes {
    let mut trailer = BytesMut::with_capacity(TRAILER_LENGTH as usize);
    Origin { cluster, incarnation: latest.incarnation, lane: latest.lane }.encode(&mut trailer);
    trailer.put_u64_le(latest.index);
    trailer.put_u64_le(latest.root_position);
    trailer.put_u64_le(latest.root_length);
    trailer.put_u32_le(latest.root_crc);
    trailer.put_u16_le(VERSION);
    trailer.put_u32_le(crc32c::crc32c(&trailer));
    trailer.put_slice(&MAGIC);
    trailer.freeze()
}

/// Reads root and trailer, which are the whole of `bytes` and the end of the export that `latest` names.
pub(super) fn decode_root(latest: &Latest, bytes: &[u8]) -> Result<CatalogRoot, CatalogError> {
    let object = latest.export.as_str();
    let damaged = |reason: &str| CatalogError::damaged(object, reason);
    let start = bytes.len().checked_sub(TRAILER_LENGTH as usize).ok_or_else(|| damaged("it is cut off"))?;
    let (root_bytes, trailer) = bytes.split_at(start);
    let (cluster, _) = decode_trailer(object, trailer)?;
    if encode_trailer(cluster, latest) != trailer {
        return Err(damaged("it is not the export that `latest` describes"));
    }
    if root_bytes.len() as u64 != latest.root_length || crc32c::crc32c(root_bytes) != latest.root_crc {
        return Err(damaged("the root's checksum does not fit"));
    }
    let root: CatalogRoot = decode(object, root_bytes)?;
    if (root.incarnation, root.index, root.lane) != (latest.incarnation, latest.index, latest.lane) {
        return Err(damaged("its root is of another export"));
    }
    check_root(&root).map_err(|reason| damaged(&reason))?;
    Ok(root)
}

/// Reads a trailer, which is the whole of `trailer`: the cluster, and what would name the export.
pub(super) fn decode_trailer(object: &str, trailer: &[u8]) -> Result<(Uuid, Latest), CatalogError> {
    let damaged = |reason: &str| CatalogError::damaged(object, reason);
    if trailer.len() as u64 != TRAILER_LENGTH {
        return Err(damaged("it is cut off"));
    }
    let (mut fields, mut checks) = trailer.split_at(trailer.len() - 12);
    let crc = checks.get_u32_le();
    let version = (&fields[fields.len() - 2..]).get_u16_le();
    if checks != MAGIC {
        return Err(damaged("it does not end as a catalog export does"));
    }
    if version != VERSION {
        return Err(CatalogError::UnknownVersion { object: object.to_owned(), version: version.into() });
    }
    if crc32c::crc32c(fields) != crc {
        return Err(damaged("the trailer's checksum does not fit"));
    }
    let Origin { cluster, incarnation, lane } = Origin::decode(&mut fields);
    let latest = Latest {
        v: VERSION.into(),
        incarnation,
        lane,
        index: fields.get_u64_le(),
        export: object.to_owned(),
        root_position: fields.get_u64_le(),
        root_length: fields.get_u64_le(),
        root_crc: fields.get_u32_le(),
        writer: String::new(),
        beat: 0,
        released: false,
    };
    Ok((cluster, latest))
}

/// Reads the head that `entry` names.
pub(super) fn decode_head(entry: &HeadEntry, bytes: &[u8]) -> Result<TopicHead, CatalogError> {
    let object = entry.object.as_str();
    let damaged = |reason: String| CatalogError::damaged(object, format!("the head of topic {}: {reason}", entry.name));
    if bytes.len() as u64 != entry.length || crc32c::crc32c(bytes) != entry.crc {
        return Err(damaged("the checksum does not fit".to_owned()));
    }
    let mut rest = bytes;
    let version = rest.try_get_u16_le().map_err(|error| damaged(error.to_string()))?;
    if version != VERSION {
        return Err(CatalogError::UnknownVersion { object: object.to_owned(), version: version.into() });
    }
    let head: TopicHead = decode(object, rest)?;
    if head.id != entry.id || head.name != entry.name {
        return Err(damaged("it is another topic's".to_owned()));
    }
    check_head(&head).map_err(damaged)?;
    Ok(head)
}

/// What readers rely on to find their way in a topic.
fn check_head(head: &TopicHead) -> Result<(), String> {
    for (number, partition) in head.partitions.iter().enumerate() {
        if partition.partition as usize != number {
            return Err(format!("partition {} comes as number {number}", partition.partition));
        }
    }
    if !head.pages.is_sorted_by(|a, b| a.bounds.last < b.bounds.last) {
        return Err("its pages are out of order".to_owned());
    }
    if let Some(page) = head.pages.iter().find(|page| !page.bounds.is_possible()) {
        return Err(format!("{} has no possible bounds", page.object));
    }
    head.open.check()
}

fn check_root(root: &CatalogRoot) -> Result<(), String> {
    if !root.heads.is_sorted_by(|a, b| a.name < b.name) {
        return Err("the topics of its root are out of order".to_owned());
    }
    match root.heads.iter().find(|head| head.length > PART_BYTES_MAX) {
        Some(head) => Err(format!("the head of topic {} has {} bytes", head.name, head.length)),
        None => Ok(()),
    }
}

/// Reads any bytes as every part of an export, for fuzzing; whatever comes out, nothing panics.
pub(super) fn fuzz_export(bytes: &[u8]) {
    if let Ok(latest) = Latest::decode("fuzz", bytes) {
        let _ = decode_root(&latest, bytes);
    }
    let _ = decode_trailer("fuzz", bytes);
    let _ = decode::<CatalogRoot>("fuzz", bytes);
    if let Ok(head) = decode::<TopicHead>("fuzz", bytes) {
        let _ = check_head(&head);
    }
}
