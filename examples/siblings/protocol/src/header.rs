//! The 80 bytes of a block header.

use consensus::{Bytes32, Refusal};
use serde::{Serialize, Serializer};

use crate::Network;

/// A header, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Header {
    pub version: u32,
    #[serde(serialize_with = "as_people_write_it")]
    pub previous: Bytes32,
    #[serde(serialize_with = "as_people_write_it")]
    pub merkle_root: Bytes32,
    pub time: u32,
    pub bits: u32,
    pub nonce: u32,
}

/// Why some text is not a header.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Malformed {
    #[error("not hexadecimal: {0}")]
    NotHex(#[from] hex::FromHexError),
    #[error("a header has 80 bytes, not {0}")]
    Length(usize),
}

impl Header {
    /// Bytes in an encoded header.
    pub const LENGTH: usize = 80;

    /// Reads a header from hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, Malformed> {
        let bytes = hex::decode(text.trim())?;
        let bytes: &[u8; Self::LENGTH] = bytes.as_slice().try_into().map_err(|_| Malformed::Length(bytes.len()))?;
        Ok(Self::decode(bytes))
    }

    /// Reads a header from the wire.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut rest = bytes.as_slice();
        Self {
            version: u32::from_le_bytes(take(&mut rest)),
            previous: take(&mut rest),
            merkle_root: take(&mut rest),
            time: u32::from_le_bytes(take(&mut rest)),
            bits: u32::from_le_bytes(take(&mut rest)),
            nonce: u32::from_le_bytes(take(&mut rest)),
        }
    }

    /// The header as it goes over the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [
            self.version.to_le_bytes().as_slice(),
            &self.previous,
            &self.merkle_root,
            &self.time.to_le_bytes(),
            &self.bits.to_le_bytes(),
            &self.nonce.to_le_bytes(),
        ]
        .concat()
    }

    /// The header's digest, as people write it: most significant byte first.
    #[must_use]
    pub fn digest(&self) -> String {
        written(&consensus::double_sha256(&self.encode()))
    }

    /// Whether the header holds enough work for `network`.
    pub fn check(&self, network: &Network) -> Result<(), Refusal> {
        consensus::check_work(&self.encode(), self.bits, network.limit)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (head, tail) = rest.split_first_chunk().expect("the fields add up to the length");
    *rest = tail;
    *head
}

fn written(bytes: &Bytes32) -> String {
    let mut reversed = *bytes;
    reversed.reverse();
    hex::encode(reversed)
}

fn as_people_write_it<S: Serializer>(bytes: &Bytes32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decoded_encodes_to_the_same_bytes() {
        let bytes: [u8; Header::LENGTH] = std::array::from_fn(|i| i as u8);
        assert_eq!(Header::decode(&bytes).encode(), bytes);
    }

    #[test]
    fn text_must_be_eighty_bytes_of_hex() {
        assert_eq!(Header::from_hex("00"), Err(Malformed::Length(1)));
        assert!(matches!(Header::from_hex("zz"), Err(Malformed::NotHex(_))));
    }
}
