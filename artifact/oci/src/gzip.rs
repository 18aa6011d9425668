//! gzip whose bytes depend on nothing but the input.
//!
//! The compressor is named here, not behind a crate that picks one by the features of
//! whoever else is built: other bytes would be another digest for the same plugin.

use flate2::Crc;

/// zlib's default trade between size and time.
const LEVEL: u8 = 6;

/// Magic, deflate, no flags, time 0, no hint about effort, system unknown.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Compresses in one member without name or time.
pub(crate) fn compress(input: &[u8]) -> Vec<u8> {
    let mut check = Crc::new();
    check.update(input);
    let mut output = HEADER.to_vec();
    output.append(&mut miniz_oxide::deflate::compress_to_vec(input, LEVEL));
    output.extend_from_slice(&check.sum().to_le_bytes());
    // The trailer holds the length modulo 2^32, which is what `amount` counts.
    output.extend_from_slice(&check.amount().to_le_bytes());
    output
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn another_decoder_reads_it_back() {
        let input: Vec<u8> = (0..300_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        let mut output = Vec::new();
        flate2::read::GzDecoder::new(&compress(&input)[..])
            .read_to_end(&mut output)
            .unwrap();
        assert!(input == output);
    }
}
