//! Time zones in which every local time is an instant, even one that a clock skips or shows twice.
//!
//! ```text
//!   spring: 01:59 EST ──> 03:00 EDT     02:30 is read as 02:30 EST, which is 03:30 EDT: the offset before
//!   autumn: 01:59 EDT ──> 01:00 EST     01:30 is read as 01:30 EST: the offset after
//! ```
//!
//! PostgreSQL does the same (`DetermineTimeZoneOffset` in its datetime.c). Arrow has no result for either time.

use arrow::array::timezone::{Tz, TzOffset};
use chrono::{Days, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, Offset, TimeZone};
use datafusion::common::{DataFusionError, Result};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::LazyLock;

/// A time zone in which every local time has exactly one offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zone(Tz);

/// An offset of a [`Zone`].
#[derive(Clone, Copy, Debug)]
pub(super) struct ZoneOffset(TzOffset, Zone);

/// Names of zones by lower-case name.
static NAMES: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    chrono_tz::TZ_VARIANTS.iter().map(|zone| (zone.name().to_ascii_lowercase(), zone.name())).collect()
});

/// The zone of a name in upper or lower case. `None`: there is none.
pub(super) fn named(name: &str) -> Option<Zone> {
    NAMES.get(name.to_ascii_lowercase().as_str())?.parse().ok()
}

/// A session's time zone as types name it: an offset as `+02:00`, a name as spelt in the zone database. `None`: there is no such zone.
pub fn zone_name(written: &str) -> Option<String> {
    let trimmed = written.trim();
    if let Some(name) = NAMES.get(trimmed.to_ascii_lowercase().as_str()) {
        return Some((*name).to_string());
    }
    if trimmed.eq_ignore_ascii_case("z") {
        return Some("UTC".to_string());
    }
    trimmed.parse::<Tz>().ok().map(|_| trimmed.to_string())
}

impl Zone {
    /// The zone of a type; UTC if it has none.
    pub fn of(zone: Option<&str>) -> Result<Self> {
        zone.unwrap_or("+00:00").parse()
    }

    /// Seconds to add to UTC for the local time.
    pub fn offset_at(&self, utc: &NaiveDateTime) -> i64 {
        i64::from(self.0.offset_from_utc_datetime(utc).fix().local_minus_utc())
    }

    /// Seconds to subtract from `local` for UTC.
    pub fn offset_of(&self, local: &NaiveDateTime) -> i64 {
        i64::from(self.only(local).fix().local_minus_utc())
    }

    fn only(&self, local: &NaiveDateTime) -> TzOffset {
        match self.0.offset_from_local_datetime(local) {
            LocalResult::Single(offset) => offset,
            LocalResult::Ambiguous(_, later) => later,
            // No gap is longer than a day, so the offset of a day before is the offset before the gap.
            LocalResult::None => {
                let before = local.checked_sub_days(Days::new(1)).unwrap_or(*local);
                self.0.offset_from_utc_datetime(&before)
            }
        }
    }
}

impl FromStr for Zone {
    type Err = DataFusionError;

    fn from_str(zone: &str) -> Result<Self> {
        match zone.parse() {
            Ok(zone) => Ok(Self(zone)),
            // In upper or lower case.
            Err(error) => match NAMES.get(zone.to_ascii_lowercase().as_str()) {
                Some(name) => Ok(Self(name.parse()?)),
                None => Err(error.into()),
            },
        }
    }
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.0.fix()
    }
}

impl std::fmt::Display for ZoneOffset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl TimeZone for Zone {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Self {
        offset.1
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> LocalResult<ZoneOffset> {
        self.offset_from_local_datetime(&NaiveDateTime::from(*local))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> LocalResult<ZoneOffset> {
        LocalResult::Single(ZoneOffset(self.only(local), *self))
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> ZoneOffset {
        ZoneOffset(self.0.offset_from_utc_date(utc), *self)
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> ZoneOffset {
        ZoneOffset(self.0.offset_from_utc_datetime(utc), *self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(zone: &str, local: &str) -> String {
        let zone: Zone = zone.parse().unwrap();
        let local: NaiveDateTime = local.parse().unwrap();
        zone.from_local_datetime(&local).single().unwrap().naive_utc().to_string()
    }

    #[test]
    fn every_local_time_has_one_instant() {
        assert_eq!(utc("America/New_York", "2024-01-15T23:30:00"), "2024-01-16 04:30:00");
        assert_eq!(utc("America/New_York", "2024-03-10T02:30:00"), "2024-03-10 07:30:00");
        assert_eq!(utc("America/New_York", "2024-11-03T01:30:00"), "2024-11-03 06:30:00");
        assert_eq!(utc("Europe/Zurich", "2024-03-31T02:00:00"), "2024-03-31 01:00:00");
        assert_eq!(utc("Australia/Lord_Howe", "2024-10-06T02:15:00"), "2024-10-05 15:45:00");
        // Samoa skipped this whole day.
        assert_eq!(utc("Pacific/Apia", "2011-12-30T12:00:00"), "2011-12-30 22:00:00");
        assert_eq!(utc("+05:30", "2024-03-10T02:30:00"), "2024-03-09 21:00:00");
        assert_eq!(utc("America/New_York", "9999-12-31T23:00:00"), "10000-01-01 04:00:00".replace("10000", "+10000"));
    }
}
