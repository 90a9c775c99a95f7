//! How the blocks of a file are kept: whole, on several executors, or cut into pieces with a few more that make up for lost ones.

/// A Reed-Solomon code. A block is cut into pieces of one length, as many more are computed from them as may be lost, and each lies on an
/// executor of its own. Any [`Coding::data`] of them have all of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coding {
    /// 3 pieces and 2 more.
    Rs3Plus2,
    /// 6 pieces and 3 more.
    Rs6Plus3,
}

/// What a folder asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Replicate,
    Code(Coding),
}

/// Pieces are multiples of this: bytes of it are coded together.
pub const CODED_TOGETHER: u64 = 64;
/// Smaller files gain nothing from being cut up, and stay as they are.
pub const CODED_FROM_BYTES: u64 = 1 << 20;

impl Coding {
    pub const ALL: [Coding; 2] = [Coding::Rs3Plus2, Coding::Rs6Plus3];

    /// Pieces that the block is cut into.
    pub const fn data(self) -> u8 {
        match self {
            Coding::Rs3Plus2 => 3,
            Coding::Rs6Plus3 => 6,
        }
    }

    /// Pieces that are computed from those: so many may be lost.
    pub const fn parity(self) -> u8 {
        match self {
            Coding::Rs3Plus2 => 2,
            Coding::Rs6Plus3 => 3,
        }
    }

    pub const fn pieces(self) -> u8 {
        self.data() + self.parity()
    }

    pub fn parse(name: &str) -> Option<Coding> {
        Coding::ALL.into_iter().find(|coding| coding.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Coding::Rs3Plus2 => "rs-3-2",
            Coding::Rs6Plus3 => "rs-6-3",
        }
    }

    /// Returns the bytes of each piece of a block. The last pieces are filled up with zeros.
    pub const fn piece_bytes(self, block_bytes: u64) -> u64 {
        block_bytes.div_ceil(self.data() as u64).next_multiple_of(CODED_TOGETHER)
    }

    /// Which bytes of the block a piece begins with.
    pub const fn extent(self, block_bytes: u64, piece: u8) -> std::ops::Range<u64> {
        let length = self.piece_bytes(block_bytes);
        let (start, end) = (length * piece as u64, length * (piece as u64 + 1));
        let end = if end < block_bytes { end } else { block_bytes };
        (if start < end { start } else { end })..end
    }
}

impl Policy {
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Replicate => "replicate",
            Policy::Code(coding) => coding.name(),
        }
    }

    pub fn parse(name: &str) -> Option<Policy> {
        match name {
            "replicate" => Some(Policy::Replicate),
            code => Coding::parse(code).map(Policy::Code),
        }
    }

    pub const fn coding(self) -> Option<Coding> {
        match self {
            Policy::Replicate => None,
            Policy::Code(coding) => Some(coding),
        }
    }
}

/// How the replicas of a block are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// So many of all of it are wanted.
    Whole(u8),
    Coded(Coding),
}

impl Layout {
    pub fn new(coding: Option<Coding>, replication: u8) -> Layout {
        coding.map_or(Layout::Whole(replication), Layout::Coded)
    }

    /// Numbers that its replicas take: that of the block, and those behind it.
    pub fn pieces(self) -> u8 {
        match self {
            Layout::Whole(_) => 1,
            Layout::Coded(coding) => coding.pieces(),
        }
    }

    pub fn replica_bytes(self, block_bytes: u64) -> u64 {
        match self {
            Layout::Whole(_) => block_bytes,
            Layout::Coded(coding) => coding.piece_bytes(block_bytes),
        }
    }

    /// How many executors hold the block when all is well, less those without which it cannot be read.
    pub fn wanted(self) -> u8 {
        match self {
            Layout::Whole(replicas) => replicas,
            Layout::Coded(coding) => coding.parity() + 1,
        }
    }

    /// Returns how many of `count` distinct replicas must be lost before the block cannot be read; 0: it cannot be read now.
    pub fn lives(self, count: u8) -> u8 {
        match self {
            Layout::Whole(_) => count,
            Layout::Coded(coding) => (count + 1).saturating_sub(coding.data()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_have_each_byte_once() {
        for coding in Coding::ALL {
            for bytes in [1, 63, 64, 65, 192, 193, 1_000, 1 << 20, (1 << 27) - 1] {
                let mut at = 0;
                for piece in 0..coding.data() {
                    let extent = coding.extent(bytes, piece);
                    assert_eq!(extent.start, at.min(bytes), "{bytes} in {coding:?}");
                    assert!(extent.end - extent.start <= coding.piece_bytes(bytes));
                    at = extent.end;
                }
                assert_eq!(at, bytes);
            }
        }
    }

    #[test]
    fn lives_are_what_may_still_fail() {
        let coded = Layout::Coded(Coding::Rs6Plus3);
        assert_eq!([9, 8, 6, 5, 0].map(|count| coded.lives(count)), [4, 3, 1, 0, 0]);
        assert_eq!([3, 1, 0].map(|count| Layout::Whole(3).lives(count)), [3, 1, 0]);
        assert_eq!((coded.wanted(), Layout::Whole(2).wanted()), (4, 2));
        for policy in [Policy::Replicate, Policy::Code(Coding::Rs3Plus2), Policy::Code(Coding::Rs6Plus3)] {
            assert_eq!(Policy::parse(policy.name()), Some(policy));
        }
    }
}
