//! What a slot says of itself: the block after its squashfs. `image/src/slot.rs` writes it; the initial RAM disk reads it.

use std::io::{Read, Seek, SeekFrom};

pub const BLOCK: u64 = 4096;
/// Of a squashfs: <https://dr-emann.github.io/squashfs/squashfs.html#_superblock>
const MAGIC: &[u8; 4] = b"hsqs";
const BYTES_USED_OFFSET: usize = 40;
/// No partition of ours is larger; what claims to be is damaged.
const BLOCKS_MAX: u64 = (4 << 30) / BLOCK;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub data_blocks: u64,
    pub hash_start: u64,
    pub total_blocks: u64,
    pub root_hash: Vec<u8>,
    pub salt: Vec<u8>,
    pub version: String,
}

/// `None`: there is no system, or it is damaged at its ends.
pub fn read(disk: &mut (impl Read + Seek)) -> std::io::Result<Option<Description>> {
    let mut superblock = [0; 96];
    disk.seek(SeekFrom::Start(0))?;
    disk.read_exact(&mut superblock)?;
    if !superblock.starts_with(MAGIC) {
        return Ok(None);
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&superblock[BYTES_USED_OFFSET..BYTES_USED_OFFSET + 8]);
    let data_blocks = u64::from_le_bytes(bytes).div_ceil(BLOCK);
    if data_blocks > BLOCKS_MAX {
        return Ok(None);
    }
    disk.seek(SeekFrom::Start(data_blocks * BLOCK))?;
    let mut block = Vec::new();
    disk.take(BLOCK).read_to_end(&mut block)?;
    Ok(parse(&block).filter(|d| d.data_blocks == data_blocks))
}

fn parse(block: &[u8]) -> Option<Description> {
    let line = block.split(|b| *b == b'\n').next()?;
    let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
    let ["skiff-slot", "1", data_blocks, hash_start, total_blocks, root_hash, salt, version] = words[..] else {
        return None;
    };
    let number = |text: &str| text.parse().ok().filter(|n| *n <= BLOCKS_MAX);
    let description = Description {
        data_blocks: number(data_blocks)?,
        hash_start: number(hash_start)?,
        total_blocks: number(total_blocks)?,
        root_hash: from_hexadecimal(root_hash).filter(|hash| hash.len() == 32)?,
        salt: from_hexadecimal(salt)?,
        version: version.to_owned(),
    };
    let ordered = description.data_blocks < description.hash_start && description.hash_start < description.total_blocks;
    ordered.then_some(description)
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
