//! The rules a block header must meet: its double SHA-256, read as a number, is at most the target
//! that its `bits` field names, and that target is no easier than the network allows.

use sha2::{Digest, Sha256};

/// A 256-bit number or digest, least significant byte first, as on the wire.
pub type Bytes32 = [u8; 32];

/// Why a header is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("bits {0:#010x} name no target")]
    NoTarget(u32),
    #[error("bits {bits:#010x} are easier than the network's limit {limit:#010x}")]
    TooEasy { bits: u32, limit: u32 },
    #[error("the digest is above the target")]
    NotEnoughWork,
}

/// SHA-256 twice over.
#[must_use]
pub fn double_sha256(bytes: &[u8]) -> Bytes32 {
    Sha256::digest(Sha256::digest(bytes)).into()
}

/// The target that `bits` stands for: three bytes of number, one of exponent, like a small float.
pub fn target(bits: u32) -> Result<Bytes32, Refusal> {
    let [low, middle, high, exponent] = bits.to_le_bytes();
    if high & 0x80 != 0 || [low, middle, high] == [0; 3] {
        return Err(Refusal::NoTarget(bits));
    }
    let mut target = [0; 32];
    for (place, byte) in [low, middle, high].into_iter().enumerate() {
        match (usize::from(exponent) + place).checked_sub(3) {
            Some(index) if index < target.len() => target[index] = byte,
            Some(_) if byte != 0 => return Err(Refusal::NoTarget(bits)),
            _ => {}
        }
    }
    Ok(target)
}

/// Checks the work in an encoded header against its own `bits` and the network's easiest ones.
pub fn check_work(header: &[u8], bits: u32, limit: u32) -> Result<(), Refusal> {
    let wanted = target(bits)?;
    if above(&wanted, &target(limit)?) {
        return Err(Refusal::TooEasy { bits, limit });
    }
    if above(&double_sha256(header), &wanted) {
        return Err(Refusal::NotEnoughWork);
    }
    Ok(())
}

fn above(left: &Bytes32, right: &Bytes32) -> bool {
    left.iter().rev().gt(right.iter().rev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_a_small_float() {
        let mut expected = [0; 32];
        expected[26..28].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(target(0x1d00_ffff), Ok(expected));
    }

    #[test]
    fn bits_may_name_no_target() {
        for bits in [0, 0x1d00_0000, 0x1d80_0000, 0x23ff_ffff, 0xff12_3456] {
            assert_eq!(target(bits), Err(Refusal::NoTarget(bits)));
        }
    }

    #[test]
    fn work_is_measured_against_both_limits() {
        let header = [0; 80];
        assert_eq!(check_work(&header, 0x2100_ffff, 0x2100_ffff), Ok(()));
        assert_eq!(check_work(&header, 0x0300_0001, 0x2100_ffff), Err(Refusal::NotEnoughWork));
        assert_eq!(
            check_work(&header, 0x2100_ffff, 0x1d00_ffff),
            Err(Refusal::TooEasy { bits: 0x2100_ffff, limit: 0x1d00_ffff })
        );
    }
}
