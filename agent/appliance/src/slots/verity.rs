//! The hash tree of dm-verity, worked out from the data: what the kernel compares with, block by block, while it reads.
//! <https://docs.kernel.org/admin-guide/device-mapper/verity.html>

use std::io::{Read, Seek, SeekFrom};

use aws_lc_rs::digest;

use super::description::{BLOCK, Description};

pub fn root_hash(disk: &mut (impl Read + Seek), description: &Description) -> std::io::Result<Vec<u8>> {
    let block_bytes = usize::try_from(BLOCK).unwrap_or(4096);
    disk.seek(SeekFrom::Start(0))?;
    let mut data = std::io::BufReader::with_capacity(256 * block_bytes, disk.take(description.data_blocks * BLOCK));
    let mut block = vec![0; block_bytes];
    let mut level = Vec::new();
    for _ in 0..description.data_blocks {
        data.read_exact(&mut block)?;
        level.extend_from_slice(hash(&description.salt, &block).as_ref());
    }
    // Each level holds the hashes of the blocks of the one below, until one block is left.
    loop {
        level.resize(level.len().next_multiple_of(block_bytes), 0);
        let above: Vec<u8> =
            level.chunks(block_bytes).flat_map(|block| hash(&description.salt, block).as_ref().to_vec()).collect();
        if level.len() <= block_bytes {
            return Ok(above);
        }
        level = above;
    }
}

fn hash(salt: &[u8], block: &[u8]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(salt);
    context.update(block);
    context.finish()
}
