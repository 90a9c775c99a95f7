//! CRC32C (Castagnoli, RFC 3720) of everything that travels or lies on a disk.

use crc_fast::CrcAlgorithm::Crc32Iscsi;

pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Extends `sum` by `bytes`.
pub fn crc32c_append(sum: u32, bytes: &[u8]) -> u32 {
    crc_fast::checksum_combine(Crc32Iscsi, sum.into(), crc32c(bytes).into(), bytes.len() as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sum_that_everybody_computes() {
        // The check value in the catalogue of CRC algorithms.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n * 31 / 7) as u8).collect();
        for at in [0, 1, 63, 64, 65_536, 99_999, 100_000] {
            assert_eq!(crc32c_append(crc32c(&bytes[..at]), &bytes[at..]), crc32c(&bytes), "cut at {at}");
        }
    }
}
