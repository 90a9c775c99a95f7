//! Tickets for blocks, which come with where those lie.

use bytes::Bytes;
use std::time::Duration;
use windlass_core::access::Principal;
use windlass_core::wfs::FsPath;
use windlass_proto::pass::KeyRing;
use windlass_proto::ticket::Access;
use windlass_proto::v1;
use windlass_proto::v1::file_reply::Reply;

/// Signs tickets. Where all executors are in this process there is no key, and they are empty.
#[derive(Clone, Debug)]
pub(crate) struct Tickets {
    keys: KeyRing,
    valid: Duration,
}

impl Tickets {
    /// How long a ticket is good, unless the configuration says something else. Clocks of machines may differ by less.
    pub const VALID: Duration = Duration::from_secs(3_600);

    pub fn new(keys: KeyRing, valid: Duration) -> Self {
        Tickets { keys, valid }
    }

    /// One for each block that the answer says where to read or write.
    pub(super) fn add_to(&self, reply: &mut v1::FileReply, by: &Principal) {
        let sign = |access, replicas| self.keys.ticket(access, replicas, by, self.valid);
        match &mut reply.reply {
            Some(Reply::Locate(located)) => {
                let mut previous = (0..0, Bytes::new());
                for block in &mut located.blocks {
                    let replicas = block.replicas();
                    // The pieces of one block have one ticket.
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

    /// One for a file, as text for a URL.
    pub fn of_file(&self, access: Access, path: &FsPath, by: &Principal) -> String {
        self.keys.file_ticket(access, path, by, self.valid)
    }
}
