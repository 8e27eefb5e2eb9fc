//! Tantivy's files as members of an archive: in the order in which they are wanted last to first, and without
//! anything that differs from one build to the next.

use std::path::Path;

use bytes::Bytes;
use chronik_format::archive::IndexFile;
use tantivy::directory::{Directory, RamDirectory};
use tantivy::index::SegmentId;
use tantivy::{Index, TantivyDocument, TantivyError};

use crate::error::IndexError;
use crate::fields::IndexFields;

pub(crate) const META: &str = "meta.json";
const STORE: &str = "store";
/// The term dictionaries are wanted first, and what an archive is opened with lies at its end.
const ORDER: [&str; 6] = ["idx", "pos", "fast", "fieldnorm", STORE, "term"];
/// Stands for the random id that Tantivy gives a segment.
const SEGMENT_ID: &str = "00000000000000000000000000000000";
const SMALLEST_TABLE_BYTES: usize = 15 << 20;

/// The files of an index of one segment; of `directory`, because the index's own view hides their footers.
pub(crate) fn of(index: &Index, directory: &RamDirectory, fields: &IndexFields) -> Result<Vec<IndexFile>, IndexError> {
    let segment = segment_id(index)?;
    let meta = directory.atomic_read(Path::new(META)).map_err(TantivyError::from)?;
    let mut members = vec![IndexFile { name: META.to_owned(), data: anonymous(&meta, &segment).into() }];
    for extension in ORDER {
        let name = format!("{SEGMENT_ID}.{extension}");
        if extension == STORE {
            members.push(IndexFile { name, data: empty_store(fields)? });
        } else if let Some(data) = read(directory, &segment, extension)? {
            members.push(IndexFile { name, data });
        }
    }
    Ok(members)
}

fn segment_id(index: &Index) -> Result<SegmentId, IndexError> {
    let meta = index.load_metas()?;
    let [segment] = meta.segments.as_slice() else {
        return Err(TantivyError::InternalError(format!("{} segments were built", meta.segments.len())).into());
    };
    Ok(segment.id())
}

fn read(directory: &RamDirectory, segment: &SegmentId, extension: &str) -> Result<Option<Bytes>, IndexError> {
    let path = format!("{}.{extension}", segment.uuid_string());
    let path = Path::new(&path);
    if !directory.exists(path).map_err(TantivyError::from)? {
        return Ok(None);
    }
    let file = directory.open_read(path).map_err(TantivyError::from)?;
    Ok(Some(Bytes::from_owner(file.read_bytes()?)))
}

/// Tantivy writes a store even of documents of which nothing is stored, 2.5 bytes for each. That of an index without
/// documents opens as well, and Tantivy never reads it.
fn empty_store(fields: &IndexFields) -> Result<Bytes, IndexError> {
    let directory = RamDirectory::create();
    let index = fields
        .index()
        .single_segment_index_writer::<TantivyDocument>(directory.clone(), SMALLEST_TABLE_BYTES)?
        .finalize()?;
    Ok(read(&directory, &segment_id(&index)?, STORE)?.unwrap_or_default())
}

fn anonymous(meta: &[u8], segment: &SegmentId) -> String {
    let id = segment.uuid_string();
    let with_hyphens = |id: &str| [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-");
    String::from_utf8_lossy(meta).replace(&id, SEGMENT_ID).replace(&with_hyphens(&id), &with_hyphens(SEGMENT_ID))
}
