//! What will be run, as data: the rows, who takes part, how often, and the disk space that needs.
//!
//! Nothing is deleted before the end, so every run of a copying contestant costs a whole tree. Where not all rounds fit,
//! rounds are given to the cheap ones first, evenly among equals, and at least one to everybody; where not even that fits the
//! benchmark is refused with the numbers.

use bytesize::ByteSize;
use larder_fs::Space;
use larder_store::LinkMode;
use serde::Serialize;
use std::fmt;
use std::ops::{Add, AddAssign, Mul};

/// How many restores `restore-eight` runs.
pub(super) const EIGHT: u32 = 8;

/// One row of the table: a piece of work that several contestants do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(super) enum Row {
    /// Restore to an empty place
    RestoreEmpty,
    /// Restore over an identical directory
    RestoreIdentical,
    /// Restore over a directory with 1 % of its files changed
    RestoreChanged,
    /// Restore over a directory as an edit and a build of all tests leave it: most of its bytes are in new files
    RestoreBuilt,
    /// Eight restores to empty places, at once and one after another
    RestoreEight,
    /// Save when nothing has changed
    SaveNothing,
    /// Save when 1 % of the files have changed
    SaveChanged,
    /// Save what has never been saved
    SaveAll,
}

impl Row {
    /// Every row, in the order of the table.
    pub(super) const ALL: [Self; 8] = [
        Self::RestoreEmpty,
        Self::RestoreIdentical,
        Self::RestoreChanged,
        Self::RestoreBuilt,
        Self::RestoreEight,
        Self::SaveNothing,
        Self::SaveChanged,
        Self::SaveAll,
    ];

    /// What a reader sees.
    pub(super) fn title(self, cold: bool) -> &'static str {
        match self {
            Self::RestoreEmpty if cold => "restore to an empty place, page cache cold",
            Self::RestoreEmpty => "restore to an empty place",
            Self::RestoreIdentical => "restore over an identical directory",
            Self::RestoreChanged => "restore over 1 % changed",
            Self::RestoreBuilt => "restore over the largest files built anew",
            Self::RestoreEight => "8 restores to empty places",
            Self::SaveNothing => "save, nothing changed",
            Self::SaveChanged => "save, 1 % changed",
            Self::SaveAll => "save, all new",
        }
    }

    /// Who takes part.
    pub(super) fn contestants(self) -> Vec<Who> {
        use Who::{Cp, CpLinks, Larder, LarderInTurn, Rsync, Tar};
        let auto = Larder(LinkMode::Auto);
        match self {
            Self::RestoreEmpty => {
                // What larder chooses by itself comes after what it chooses from.
                let by_name = LinkMode::ALL.into_iter().filter(|mode| *mode != LinkMode::Auto).map(Larder);
                by_name.chain([auto, Rsync, Cp, CpLinks, Tar]).collect()
            }
            Self::RestoreEight => vec![auto, LarderInTurn, Rsync],
            Self::RestoreIdentical | Self::RestoreChanged | Self::RestoreBuilt | Self::SaveNothing => vec![auto, Rsync],
            Self::SaveChanged | Self::SaveAll => vec![auto, Rsync, Tar],
        }
    }
}

/// A contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// larder with a link mode.
    Larder(LinkMode),
    /// larder as it chooses, one process after another where the others run at once.
    LarderInTurn,
    Rsync,
    Cp,
    CpLinks,
    Tar,
}

impl Who {
    /// What a reader sees.
    pub(super) fn label(self, row: Row) -> String {
        let at_once = if row == Row::RestoreEight { ", at once" } else { "" };
        match self {
            Self::Larder(mode) => format!("larder {}{at_once}", mode.name()),
            Self::LarderInTurn => "larder auto, one after another".to_owned(),
            Self::Rsync => format!("rsync -a --delete{at_once}"),
            Self::Cp => "cp -a".to_owned(),
            Self::CpLinks => "cp -al".to_owned(),
            Self::Tar => "tar | zstd".to_owned(),
        }
    }
}

/// Disk space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Cost {
    /// Whether it can be taken from what is left, with a twentieth kept free for others.
    pub(super) fn fits(self, room: Space) -> bool {
        self.bytes <= usable(room.available) && self.inodes <= usable(room.inodes_available)
    }
}

fn usable(free: u64) -> u64 {
    free - free / 20
}

impl Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), inodes: self.inodes.saturating_add(other.inodes) }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<u32> for Cost {
    type Output = Self;
    fn mul(self, n: u32) -> Self {
        Self { bytes: self.bytes.saturating_mul(n.into()), inodes: self.inodes.saturating_mul(n.into()) }
    }
}

/// What trees cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    /// A full copy.
    pub(super) full: Cost,
    /// The directories alone.
    pub(super) directories: Cost,
    /// What larder's own choice of modes costs at a destination; nothing while it is not known.
    pub(super) materialised: Cost,
    /// What a first save costs in the store; nothing while it is not known.
    pub(super) stored: Cost,
    /// The files that are changed, once.
    pub(super) changed: Cost,
    /// The files that a build made anew, once.
    pub(super) built: Cost,
}

impl Sizes {
    /// What a row needs before its first run, if all of `rows` are run.
    fn fixed(&self, row: Row, rows: &[Row]) -> Cost {
        // Some rows share their trees: the first of them pays.
        let paid = |first| rows.contains(&first);
        match row {
            // The archive.
            Row::RestoreEmpty => self.full,
            // The tree that rsync restores over; larder's is there already.
            Row::RestoreChanged if paid(Row::RestoreIdentical) => Cost::default(),
            Row::RestoreBuilt if paid(Row::RestoreIdentical) || paid(Row::RestoreChanged) => self.built * 2,
            Row::RestoreIdentical | Row::RestoreChanged => self.full,
            // While a tree is put right, what it had and what it gets are both there.
            Row::RestoreBuilt => self.full + self.built * 2,
            Row::RestoreEight => Cost::default(),
            // What is saved, what rsync saved before, and the proof that larder's snapshot is right.
            Row::SaveChanged if paid(Row::SaveNothing) => self.full + self.materialised,
            Row::SaveNothing | Row::SaveChanged => self.full * 3 + self.materialised * 2,
            Row::SaveAll => self.materialised,
        }
    }

    /// What one run costs.
    fn run(&self, row: Row, who: Who) -> Cost {
        match (row, who) {
            (Row::RestoreEmpty, Who::Larder(LinkMode::Copy) | Who::Rsync | Who::Cp | Who::Tar) => self.full,
            (Row::RestoreEmpty, Who::CpLinks) => self.directories,
            (Row::RestoreEmpty, _) => self.materialised,
            // What was built and saved stays in the store.
            (Row::RestoreBuilt, Who::Larder(_)) => self.built,
            (Row::RestoreBuilt | Row::RestoreIdentical | Row::RestoreChanged | Row::SaveNothing, _) => Cost::default(),
            (Row::RestoreEight, Who::Rsync) => self.full * EIGHT,
            (Row::RestoreEight, _) => self.materialised * EIGHT,
            (Row::SaveChanged, Who::Tar) => Cost { inodes: 1, ..self.full },
            (Row::SaveChanged, _) => self.changed,
            (Row::SaveAll, Who::Rsync | Who::Tar) => self.full * 2,
            (Row::SaveAll, _) => self.full + self.stored,
        }
    }
}

/// One contestant of one row.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) row: Row,
    pub(super) who: Who,
    /// Disk space of one run.
    pub(super) cost: Cost,
    pub(super) rounds: u32,
}

/// That not even one round fits.
#[derive(Debug)]
pub(super) struct Shortage {
    need: Cost,
    room: Space,
    dearest: Row,
    share: Cost,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { need, room, dearest, share } = self;
        if need.bytes > usable(room.available) {
            let [need, share, free] =
                [need.bytes, share.bytes, usable(room.available)].map(|n| ByteSize(n).display().si());
            write!(f, "one round needs {need} of disk, and {free} can be used; ")?;
            write!(f, "{share} of it is for the row `{}`", dearest.title(false))?;
        } else {
            let free = usable(room.inodes_available);
            write!(f, "one round needs {} inodes, and {free} can be used; ", need.inodes)?;
            write!(f, "{} of them are for the row `{}`", share.inodes, dearest.title(false))?;
        }
        f.write_str(": choose rows with --only, or a roomier place with --scratch")
    }
}

impl std::error::Error for Shortage {}

/// Plans the rows: `rounds` for everybody if `room` allows after `first` was taken, fewer if it must be, at least one.
pub(super) fn plan(
    rows: &[Row],
    present: impl Fn(Who) -> bool,
    sizes: &Sizes,
    rounds: u32,
    first: Cost,
    room: Space,
) -> Result<Vec<Entry>, Shortage> {
    let mut entries = Vec::new();
    let mut need = first;
    let mut dearest = (Row::RestoreEmpty, Cost::default());
    for &row in rows {
        let mut share = sizes.fixed(row, rows);
        for who in row.contestants().into_iter().filter(|w| present(*w)) {
            let cost = sizes.run(row, who);
            share += cost;
            entries.push(Entry { row, who, cost, rounds: 1 });
        }
        need += share;
        if share > dearest.1 {
            dearest = (row, share);
        }
    }
    if !need.fits(room) {
        return Err(Shortage { need, room, dearest: dearest.0, share: dearest.1 });
    }
    let mut cheapest_first: Vec<usize> = (0..entries.len()).collect();
    cheapest_first.sort_by_key(|i| entries[*i].cost);
    let groups: Vec<Vec<usize>> =
        cheapest_first.chunk_by(|a, b| entries[*a].cost == entries[*b].cost).map(<[usize]>::to_vec).collect();
    for group in groups {
        for (round, i) in (2..=rounds).flat_map(|round| group.iter().map(move |i| (round, *i))) {
            let entry = &mut entries[i];
            if (need + entry.cost).fits(room) {
                need += entry.cost;
                entry.rounds = round;
            }
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn sizes() -> Sizes {
        let cost = |bytes, inodes| Cost { bytes, inodes };
        Sizes {
            full: cost(1000 * MB, 1000),
            directories: cost(4 * MB, 100),
            materialised: cost(20 * MB, 400),
            stored: cost(20 * MB, 400),
            changed: cost(10 * MB, 10),
            built: cost(600 * MB, 20),
        }
    }

    fn rounds(bytes: u64, rows: &[Row]) -> Result<Vec<(Who, u32)>, String> {
        let room = Space { total: bytes, available: bytes, free: bytes, inodes: 0, inodes_available: u64::MAX };
        let entries = plan(rows, |_| true, &sizes(), 5, Cost::default(), room).map_err(|e| e.to_string())?;
        Ok(entries.into_iter().map(|e| (e.who, e.rounds)).collect())
    }

    #[test]
    fn everybody_runs_every_round_where_there_is_room() {
        let all = rounds(1 << 40, &Row::ALL).unwrap();
        assert!(all.iter().all(|(_, rounds)| *rounds == 5));
        assert_eq!(all.len(), Row::ALL.iter().map(|r| r.contestants().len()).sum::<usize>());
    }

    #[test]
    fn dear_contestants_run_less_often_where_there_is_not() {
        let some = rounds(34_000 * MB, &[Row::RestoreEmpty, Row::RestoreEight]).unwrap();
        let told: Vec<u32> = some.into_iter().map(|(_, rounds)| rounds).collect();
        // Seven modes of larder, rsync, cp, cp -al and tar; then larder at once and in turn, and rsync eight times.
        assert_eq!(told, [5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 1]);
        let least = rounds(16_000 * MB, &[Row::RestoreEmpty, Row::RestoreEight]).unwrap();
        assert_eq!(least.iter().filter(|(who, rounds)| *who == Who::Rsync && *rounds == 1).count(), 2);
    }

    #[test]
    fn too_little_room_is_refused_with_numbers() {
        insta::assert_snapshot!(rounds(8000 * MB, &Row::ALL).unwrap_err(), @"one round needs 27.6 GB of disk, and 8.0 GB can be used; 8.7 GB of it is for the row `8 restores to empty places`: choose rows with --only, or a roomier place with --scratch");
        let room = Space { total: u64::MAX, available: u64::MAX, free: u64::MAX, inodes: 2000, inodes_available: 2000 };
        let told = plan(&[Row::SaveAll], |_| true, &sizes(), 5, Cost::default(), room).unwrap_err();
        insta::assert_snapshot!(told, @"one round needs 5800 inodes, and 1900 can be used; 5800 of them are for the row `save, all new`: choose rows with --only, or a roomier place with --scratch");
    }
}
