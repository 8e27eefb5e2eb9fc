//! Tar headers, POSIX ustar: <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html>.

use super::ArchiveError;

/// Bytes of a header, and what members are padded to.
pub(super) const RECORD_BYTES: usize = 512;
/// Bytes of zeros at the end of a file.
pub(super) const END_BYTES: usize = 2 * RECORD_BYTES;

const NAME_BYTES: usize = 100;
const SIZE_MAX: u64 = 0o77_777_777_777;

/// The header of a regular file without an owner, changed at the epoch.
pub(super) fn header(name: &str, size: u64) -> Result<[u8; RECORD_BYTES], ArchiveError> {
    if name.is_empty() || name.len() > NAME_BYTES || !name.is_ascii() {
        return Err(ArchiveError::unwritable(format!("{name:?} is no member name of 1 to {NAME_BYTES} ASCII bytes")));
    }
    if size > SIZE_MAX {
        return Err(ArchiveError::unwritable(format!("member {name} has {size} bytes, more than {SIZE_MAX}")));
    }
    let mut header = [0; RECORD_BYTES];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0"); // mode
    put(108, "0000000\0"); // owner
    put(116, "0000000\0"); // group
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0"); // time of change
    put(148, "        "); // the checksum counts as blanks
    put(156, "0"); // a regular file
    put(257, "ustar\x0000");
    let checksum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
    Ok(header)
}

/// Zero bytes that follow a member of `size` bytes.
pub(super) fn padding(size: u64) -> usize {
    let rest = (size % RECORD_BYTES as u64) as usize;
    if rest == 0 { 0 } else { RECORD_BYTES - rest }
}
