//! Sizes, parts of a disk, spans of time and numbers of things, as people write them: `12GB`, `20%`, `7d`, `1 file`.

use bytesize::ByteSize;
use serde::Deserialize;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// So many bytes: `500MB`, `12GiB`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let size: ByteSize = text.parse().map_err(|_| "expected a size such as 500MB or 12GiB".to_owned())?;
        Ok(Self(size.as_u64()))
    }
}

/// Room for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Budget {
    /// So many bytes.
    Bytes(u64),
    /// Such a part of its file system.
    Percent(u8),
    /// As much as there is.
    Off,
}

impl Budget {
    /// In bytes, on a file system with so many; `None` without a limit.
    pub(crate) fn bytes(self, total: u64) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Percent(percent) => Some(total / 100 * u64::from(percent)),
            Self::Off => None,
        }
    }
}

impl FromStr for Budget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a size such as 50GB, a part of the disk such as 20%, or off".to_owned();
        match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse().ok().filter(|n| *n <= 100).map(Self::Percent).ok_or_else(expected),
            None if text == "off" => Ok(Self::Off),
            None => text.parse::<Size>().map(|size| Self::Bytes(size.0)).map_err(|_| expected()),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{}", ByteSize(*bytes).display().si()),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Off => f.write_str("off"),
        }
    }
}

/// A span of time: `7d`, `36h`, `90m`, `30s`, or `off` for without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) Option<Duration>);

const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

impl Span {
    pub(crate) const fn days(days: u64) -> Self {
        Self(Some(Duration::from_secs(days * 86_400)))
    }

    pub(crate) const fn hours(hours: u64) -> Self {
        Self(Some(Duration::from_secs(hours * 3600)))
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let read = |(unit, seconds): &(&str, u64)| {
            let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            Some(Duration::from_secs(number.checked_mul(*seconds)?))
        };
        let span = UNITS.iter().find_map(read);
        span.map(|span| Self(Some(span))).ok_or_else(|| "expected a time such as 7d, 36h or 90m, or off".into())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(span) = self.0 else { return f.write_str("off") };
        let whole = UNITS.iter().find(|(_, seconds)| span.as_secs() % seconds == 0);
        let (unit, seconds) = whole.unwrap_or(&UNITS[3]);
        write!(f, "{}{unit}", span.as_secs() / seconds)
    }
}

macro_rules! from_string {
    ($($amount:ident)*) => {$(
        impl TryFrom<String> for $amount {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
    )*};
}
from_string!(Budget Span);

/// So many of something, in words.
pub(crate) fn count(number: u64, what: &str) -> String {
    let (stem, end) = match what.strip_suffix('y') {
        Some(stem) => (stem, if number == 1 { "y" } else { "ies" }),
        None => (what, if number == 1 { "" } else { "s" }),
    };
    format!("{number} {stem}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!("12GB".parse(), Ok(Size(12_000_000_000)));
        assert_eq!("1 GiB".parse(), Ok(Size(1 << 30)));
        assert_eq!("20%".parse(), Ok(Budget::Percent(20)));
        assert_eq!("50GB".parse(), Ok(Budget::Bytes(50_000_000_000)));
        assert_eq!("off".parse(), Ok(Budget::Off));
        assert_eq!("7d".parse(), Ok(Span::days(7)));
        assert_eq!("36h".parse::<Span>().unwrap().to_string(), "36h");
        assert_eq!("48h".parse::<Span>().unwrap().to_string(), "2d");
        for bad in ["", "7", "d", "-1d", "7 weeks"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        assert!("101%".parse::<Budget>().is_err() && "much".parse::<Size>().is_err());
        assert_eq!(Budget::Percent(20).bytes(1000), Some(200));
    }
}
