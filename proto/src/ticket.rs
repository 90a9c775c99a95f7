//! Tickets: an executor reads, writes and closes blocks of `wfs://` for any bearer of a ticket for them.
//!
//! ```text
//!   client ──Locate, AddBlock, Renew──> primary: locations of blocks, and a ticket for each
//!   client ──request, ticket──────────> executor: does what the ticket allows, until it expires
//! ```
//!
//! A ticket is signed with the key of the cluster like a pass ([`crate::pass`]), under its own context: a pass is not a ticket. It names an access, the
//! replicas or the file, a principal and its expiry. Its bytes are the signature and then a [`v1::Ticket`], which is decoded only after the signature is
//! verified.
//!
//! A ticket is checked when a request begins: a running stream goes on after its ticket has expired. Executors sign tickets for requests that the primary
//! ordered; the links of a chain pass on the ticket of the writer.

use crate::pass::{KeyRing, REQUEST};
use crate::v1;
use bytes::Bytes;
use prost::Message;
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use thiserror::Error;
use windlass_core::access::Principal;
use windlass_core::ids::BlockId;
use windlass_core::wfs::FsPath;

/// Context of the signature, so that it is not valid for anything else.
const CONTEXT: &[u8] = b"windlass ticket: blocks and files of wfs://";
const MAC_BYTES: usize = 32;

/// Rights of a ticket's bearer. Neither includes the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    /// Write, and close a block whose writing failed.
    Write,
}

impl From<Access> for v1::ticket::Access {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => v1::ticket::Access::Read,
            Access::Write => v1::ticket::Access::Write,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
        })
    }
}

/// Object that a request reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Block(BlockId),
    File(FsPath),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Block(block) => write!(f, "{block}"),
            Subject::File(path) => write!(f, "{path}"),
        }
    }
}

impl Subject {
    fn is_of(&self, ticket: &v1::Ticket) -> bool {
        match self {
            Subject::Block(block) => {
                block.0.checked_sub(ticket.first).is_some_and(|behind| behind < u64::from(ticket.count))
            }
            Subject::File(path) => ticket.path.as_ref() == blake3::hash(path.as_str().as_bytes()).as_bytes(),
        }
    }
}

/// Reason why an executor refuses a request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TicketError {
    #[error("this process has no key yet: it has not joined a cluster")]
    NoKey,
    #[error("no ticket was shown to {access} {subject}: {}", ask(.subject))]
    Missing { access: Access, subject: Subject },
    #[error("the ticket is not one of this cluster to {access} {subject}: {}", ask(.subject))]
    Wrong { access: Access, subject: Subject },
    #[error("the time of the ticket to {access} {subject} is over: {}", ask(.subject))]
    Expired { access: Access, subject: Subject },
}

/// Explains how to get a ticket.
fn ask(subject: &Subject) -> &'static str {
    match subject {
        Subject::Block(_) => "the primary gives one to whoever asks it where the file lies, or writes it",
        Subject::File(_) => "ask the primary, which sends clients here with one",
    }
}

impl From<TicketError> for tonic::Status {
    fn from(error: TicketError) -> Self {
        match error {
            TicketError::NoKey => tonic::Status::unavailable(error.to_string()),
            TicketError::Missing { .. } | TicketError::Wrong { .. } | TicketError::Expired { .. } => {
                tonic::Status::permission_denied(error.to_string())
            }
        }
    }
}

impl KeyRing {
    /// Signs a ticket for replicas with these numbers. Empty when there is no key yet.
    pub fn ticket(&self, access: Access, replicas: Range<u64>, principal: &Principal, valid: Duration) -> Bytes {
        let count = u32::try_from(replicas.end.saturating_sub(replicas.start)).unwrap_or(u32::MAX);
        self.seal(v1::Ticket { first: replicas.start, count, ..of(access, principal) }, valid)
    }

    /// Signs a ticket for requests that this process makes at present for the cluster.
    pub fn ticket_of_request(&self, access: Access, replicas: Range<u64>) -> Bytes {
        self.ticket(access, replicas, &Principal::anonymous(), REQUEST)
    }

    /// Returns the principal of `ticket`, if it is valid for this access to this replica.
    ///
    /// # Errors
    /// The ticket is missing, not signed with the key, for something else, or expired.
    pub fn check_ticket(&self, ticket: &[u8], access: Access, block: BlockId) -> Result<Principal, TicketError> {
        self.open(ticket, access, Subject::Block(block))
    }

    fn seal(&self, ticket: v1::Ticket, valid: Duration) -> Bytes {
        let Some(key) = self.key() else { return Bytes::new() };
        let expires_ms = self.now_ms().saturating_add(valid.as_millis() as u64);
        let ticket = v1::Ticket { expires_ms, ..ticket };
        let mut bytes = Vec::with_capacity(MAC_BYTES + ticket.encoded_len());
        bytes.resize(MAC_BYTES, 0);
        ticket.encode_raw(&mut bytes);
        let mac = key.mac_of(CONTEXT, &bytes[MAC_BYTES..]);
        bytes[..MAC_BYTES].copy_from_slice(mac.as_bytes());
        bytes.into()
    }

    fn open(&self, ticket: &[u8], access: Access, subject: Subject) -> Result<Principal, TicketError> {
        let key = self.key().ok_or(TicketError::NoKey)?;
        if ticket.is_empty() {
            return Err(TicketError::Missing { access, subject });
        }
        let signed = ticket.split_first_chunk::<MAC_BYTES>().and_then(|(mac, signed)| {
            // The comparison takes constant time.
            let is_right = key.mac_of(CONTEXT, signed) == *mac;
            is_right.then(|| v1::Ticket::decode(signed).ok())?
        });
        let wanted = v1::ticket::Access::from(access);
        let Some(ticket) = signed.filter(|ticket| ticket.access() == wanted && subject.is_of(ticket)) else {
            return Err(TicketError::Wrong { access, subject });
        };
        match ticket.expires_ms > self.now_ms() {
            true => Ok(Principal::user(ticket.principal)),
            false => Err(TicketError::Expired { access, subject }),
        }
    }
}

fn of(access: Access, principal: &Principal) -> v1::Ticket {
    let access = v1::ticket::Access::from(access).into();
    v1::Ticket { access, principal: principal.name().into(), ..v1::Ticket::default() }
}

/// Tickets for files, in URLs.
#[cfg(feature = "server")]
mod urls {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    impl KeyRing {
        /// Signs a ticket for the file at this path, which need not exist yet, as text for a URL. Empty when there is no key yet.
        pub fn file_ticket(&self, access: Access, path: &FsPath, principal: &Principal, valid: Duration) -> String {
            let path = Bytes::copy_from_slice(blake3::hash(path.as_str().as_bytes()).as_bytes());
            URL_SAFE_NO_PAD.encode(self.seal(v1::Ticket { path, ..of(access, principal) }, valid))
        }

        /// Returns the principal of `ticket`, if it is valid for this access to the file at this path.
        ///
        /// # Errors
        /// The ticket is missing, not signed with the key, for something else, or expired.
        pub fn check_file_ticket(&self, ticket: &str, access: Access, path: &FsPath) -> Result<Principal, TicketError> {
            let subject = Subject::File(path.clone());
            match URL_SAFE_NO_PAD.decode(ticket) {
                Ok(ticket) => self.open(&ticket, access, subject),
                Err(_) => Err(TicketError::Wrong { access, subject }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Access::{Read, Write};
    use super::*;
    use crate::pass::ClusterKey;
    use windlass_core::ids::JobId;

    const SOON: Duration = Duration::from_secs(10);

    fn ring(byte: u8) -> KeyRing {
        KeyRing::new(ClusterKey::from_bytes(&[byte; 32]).unwrap())
    }

    fn wrong(access: Access, block: u64) -> Result<Principal, TicketError> {
        Err(TicketError::Wrong { access, subject: Subject::Block(BlockId(block)) })
    }

    #[test]
    fn a_ticket_is_for_its_blocks_its_access_its_time_and_its_cluster() {
        let (ring, ann) = (ring(1), Principal::user("ann"));
        let check = |ticket: &[u8], access, block| ring.check_ticket(ticket, access, BlockId(block));
        let ticket = ring.ticket(Read, 7..10, &ann, SOON);
        for block in 7..10 {
            assert_eq!(check(&ticket, Read, block), Ok(ann.clone()));
            assert_eq!(check(&ticket, Write, block), wrong(Write, block));
        }
        for other in [0, 6, 10, u64::MAX] {
            assert_eq!(check(&ticket, Read, other), wrong(Read, other));
        }
        let to_write = ring.ticket(Write, 7..8, &ann, SOON);
        assert_eq!(check(&to_write, Write, 7), Ok(ann.clone()));
        assert_eq!(check(&to_write, Read, 7), wrong(Read, 7));
        assert_eq!(check(&super::tests::ring(2).ticket(Read, 7..10, &ann, SOON), Read, 7), wrong(Read, 7));
        assert_eq!(check(b"nonsense", Read, 7), wrong(Read, 7));
        assert_eq!(check(&[0; 40], Read, 7), wrong(Read, 7));
        let subject = Subject::Block(BlockId(7));
        let missing = TicketError::Missing { access: Read, subject: subject.clone() };
        assert_eq!(check(&[], Read, 7), Err(missing));
        ring.jump(SOON);
        assert_eq!(check(&ticket, Read, 7), Err(TicketError::Expired { access: Read, subject }));
        assert_eq!(check(&ticket, Write, 7), wrong(Write, 7), "of a ticket for something else no time is told");
        assert_eq!(KeyRing::default().check_ticket(&ticket, Read, BlockId(7)), Err(TicketError::NoKey));
        assert!(KeyRing::default().ticket(Read, 7..8, &ann, SOON).is_empty());
    }

    #[test]
    fn no_byte_of_a_ticket_can_be_changed() {
        let ring = ring(1);
        let ticket = ring.ticket(Read, 7..8, &Principal::user("ann"), SOON);
        for at in 0..ticket.len() {
            let mut changed = ticket.to_vec();
            changed[at] ^= 1;
            assert!(ring.check_ticket(&changed, Read, BlockId(7)).is_err(), "{at}");
            assert!(ring.check_ticket(&ticket[..at], Read, BlockId(7)).is_err(), "{at}");
        }
        let longer = [&ticket[..], &[0x20, 0x01]].concat();
        assert!(ring.check_ticket(&longer, Read, BlockId(7)).is_err());
    }

    #[test]
    fn a_pass_is_not_a_ticket_nor_the_other_way_round() {
        let (ring, ann) = (ring(1), Principal::user("ann"));
        let (pass, ticket) = (ring.sign(JobId(7), &ann, SOON), ring.ticket(Read, 7..8, &ann, SOON));
        assert_eq!(ring.check_ticket(&pass, Read, BlockId(7)), wrong(Read, 7));
        assert!(ring.check(&ticket, JobId(7)).is_err());
        // Nor does it with its parts in other places.
        let v1::Pass { mac, job, principal, expires_ms } = v1::Pass::decode(pass).unwrap();
        let body = [job.to_le_bytes().as_slice(), &expires_ms.to_le_bytes(), principal.as_bytes()].concat();
        assert_eq!(ring.check_ticket(&[&mac[..], &body].concat(), Read, BlockId(7)), wrong(Read, 7));
    }

    #[cfg(feature = "server")]
    #[test]
    fn a_ticket_of_a_file_is_for_its_path() {
        let (ring, ann) = (ring(1), Principal::user("ann"));
        let (path, other) = (FsPath::parse("/d/ü b").unwrap(), FsPath::parse("/d/ü").unwrap());
        let ticket = ring.file_ticket(Write, &path, &ann, SOON);
        assert!(ticket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{ticket}");
        assert_eq!(ring.check_file_ticket(&ticket, Write, &path), Ok(ann.clone()));
        for (ticket, access, path) in [
            (ticket.as_str(), Read, &path),
            (&ticket, Write, &other),
            ("", Write, &path),
            ("?", Write, &path),
            (&super::tests::ring(2).file_ticket(Write, &path, &ann, SOON), Write, &path),
        ] {
            assert!(ring.check_file_ticket(ticket, access, path).is_err(), "{ticket}");
        }
        // A ticket for a block is not valid for a file, and the other way round.
        let of_file = ring.seal(v1::Ticket { path: Bytes::from_static(&[0; 32]), ..of(Read, &ann) }, SOON);
        assert_eq!(ring.check_ticket(&of_file, Read, BlockId(0)), wrong(Read, 0));
        assert!(ring.open(&ring.ticket(Read, 0..1, &ann, SOON), Read, Subject::File(path)).is_err());
    }

    #[test]
    fn a_piece_of_a_block_is_read_with_a_ticket_for_all_of_them() {
        let whole = v1::LocatedBlock { block: 7, ..v1::LocatedBlock::default() };
        assert_eq!(whole.replicas(), 7..8);
        let coded = v1::CodedPiece { coding: "rs-3-2".into(), piece: 2, first: 7, ..v1::CodedPiece::default() };
        let piece = v1::LocatedBlock { block: 9, coded: Some(coded.clone()), ..v1::LocatedBlock::default() };
        assert_eq!(piece.replicas(), 7..12);
        let of_another_release = v1::CodedPiece { coding: "rs-9-9".into(), ..coded };
        assert_eq!(of_another_release.replicas(), 9..10);
    }
}
