//! Tickets for blocks, which come with the blocks' locations.

use bytes::Bytes;
use std::time::Duration;
use windlass_core::access::Principal;
use windlass_core::wfs::FsPath;
use windlass_proto::pass::KeyRing;
use windlass_proto::ticket::Access;
use windlass_proto::v1;
use windlass_proto::v1::file_reply::Reply;

/// Signs tickets. If all executors are in this process there is no key, and tickets are empty.
#[derive(Clone, Debug)]
pub(crate) struct Tickets {
    keys: KeyRing,
    valid: Duration,
}

impl Tickets {
    /// How long a ticket is valid, unless it is configured. It must exceed the difference between the clocks of machines.
    pub const VALID: Duration = Duration::from_secs(3_600);

    pub fn new(keys: KeyRing, valid: Duration) -> Self {
        Tickets { keys, valid }
    }

    /// Adds a ticket for each block that the answer locates for reading or writing.
    pub(super) fn add_to(&self, reply: &mut v1::FileReply, by: &Principal) {
        let sign = |access, replicas| self.keys.ticket(access, replicas, by, self.valid);
        match &mut reply.reply {
            Some(Reply::Locate(located)) => {
                let mut previous = (0..0, Bytes::new());
                for block in &mut located.blocks {
                    let replicas = block.replicas();
                    // The pieces of one block share a ticket.
                    if previous.0 != replicas {
                        previous = (replicas.clone(), sign(Access::Read, replicas));
                    }
                    block.ticket = previous.1.clone();
                }
            }
            Some(Reply::AddBlock(added)) => added.ticket = sign(Access::Write, added.block..added.block + 1),
            Some(Reply::Renew(v1::RenewReply { block: Some(block), ticket })) => {
                *ticket = sign(Access::Write, *block..*block + 1);
            }
            _ => {}
        }
    }

    /// Returns a ticket for a file, as text for a URL.
    pub fn of_file(&self, access: Access, path: &FsPath, by: &Principal) -> String {
        self.keys.file_ticket(access, path, by, self.valid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_core::ids::BlockId;
    use windlass_proto::pass::ClusterKey;
    use windlass_proto::ticket::TicketError;

    #[test]
    fn an_answer_has_tickets_for_what_it_says_where_to_find_and_for_whom_asked() {
        let (ann, keys) = (Principal::user("ann"), KeyRing::new(ClusterKey::new([7; ClusterKey::LENGTH])));
        let tickets = Tickets::new(keys.clone(), Duration::from_secs(60));
        let answered = |reply: Reply| {
            let mut reply = v1::FileReply { reply: Some(reply) };
            tickets.add_to(&mut reply, &ann);
            reply.reply
        };
        let coded = v1::CodedPiece { coding: "rs-3-2".into(), first: 20, ..v1::CodedPiece::default() };
        let piece = |piece: u32| {
            let coded = v1::CodedPiece { piece, ..coded.clone() };
            v1::LocatedBlock { block: 20 + u64::from(piece), coded: Some(coded), ..v1::LocatedBlock::default() }
        };
        let whole = v1::LocatedBlock { block: 9, ..v1::LocatedBlock::default() };
        let located = v1::LocateReply { blocks: vec![whole, piece(0), piece(1)], ..v1::LocateReply::default() };
        let Some(Reply::Locate(located)) = answered(Reply::Locate(located)) else { panic!() };
        let [whole, first, second] = &located.blocks[..] else { panic!() };
        assert_eq!(keys.check_ticket(&whole.ticket, Access::Read, BlockId(9)), Ok(ann.clone()));
        assert_eq!(first.ticket, second.ticket);
        for (block, is_good) in [(19, false), (20, true), (24, true), (25, false)] {
            assert_eq!(keys.check_ticket(&first.ticket, Access::Read, BlockId(block)).is_ok(), is_good, "{block}");
        }

        let added = v1::AddBlockReply { block: 9, ..v1::AddBlockReply::default() };
        let Some(Reply::AddBlock(added)) = answered(Reply::AddBlock(added)) else { panic!() };
        assert_eq!(keys.check_ticket(&added.ticket, Access::Write, BlockId(9)), Ok(ann.clone()));
        keys.jump(Duration::from_secs(60));
        let over = keys.check_ticket(&added.ticket, Access::Write, BlockId(9));
        assert!(matches!(over, Err(TicketError::Expired { .. })), "{over:?}");
        let renewed = v1::RenewReply { block: Some(9), ..v1::RenewReply::default() };
        let Some(Reply::Renew(renewed)) = answered(Reply::Renew(renewed)) else { panic!() };
        assert_eq!(keys.check_ticket(&renewed.ticket, Access::Write, BlockId(9)), Ok(ann.clone()));
        let nothing_open = Reply::Renew(v1::RenewReply::default());
        assert_eq!(answered(nothing_open.clone()), Some(nothing_open));
    }
}
