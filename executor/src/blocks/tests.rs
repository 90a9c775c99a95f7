//! Expired tickets on a running executor, where time jumps; and reports of removed replicas.

use super::{BlockConfig, BlockStore};
use crate::ExecutorConfig;
use crate::node::Executor;
use crate::server::Server;
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use windlass_connectors::wfs::{self, FileWriter, Peers, Primary, Wfs, WriteOptions};
use windlass_core::access::Principal;
use windlass_core::ids::{BlockId, ExecutorId};
use windlass_core::wfs::Block;
use windlass_proto::pass::{ClusterKey, KeyRing};
use windlass_proto::ticket::Access;
use windlass_proto::v1;
use windlass_proto::v1::file_reply::Reply;
use windlass_proto::v1::file_request::Ask;

const BLOCK: u64 = 1 << 20;
/// Validity of tickets in these tests.
const VALID: Duration = Duration::from_secs(3_600);

/// A primary with one executor and one file.
#[derive(Debug)]
struct OneFile {
    keys: KeyRing,
    holder: v1::BlockHolder,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blocks: Vec<v1::LocatedBlock>,
    open: u64,
    located: usize,
}

impl State {
    fn close(&mut self, last: Option<v1::LastBlock>, holder: &v1::BlockHolder) {
        if let Some(v1::last_block::Last::Sealed(sealed)) = last.and_then(|last| last.last) {
            let offset = self.bytes();
            let (block, bytes, holders) = (sealed.block, sealed.bytes, vec![holder.clone()]);
            self.blocks.push(v1::LocatedBlock { block, bytes, offset, holders, ..v1::LocatedBlock::default() });
        }
    }

    fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.bytes).sum()
    }

    fn entry(&self) -> v1::FileEntry {
        let file = v1::FileDetail { bytes: self.bytes(), ..v1::FileDetail::default() };
        let detail = Some(v1::file_entry::Detail::File(file));
        v1::FileEntry { path: "/f".into(), id: 1, detail, ..v1::FileEntry::default() }
    }
}

impl OneFile {
    fn ticket(&self, access: Access, block: u64) -> Bytes {
        self.keys.ticket(access, block..block + 1, &Principal::anonymous(), VALID)
    }
}

#[async_trait]
impl Primary for OneFile {
    async fn ask(&self, request: v1::FileRequest) -> Result<v1::FileReply, Status> {
        let mut state = self.state.lock();
        let reply = match request.ask {
            Some(Ask::Create(_)) => Reply::Create(v1::CreateReply { file: 1, block_bytes: BLOCK, replication: 1 }),
            Some(Ask::AddBlock(add)) => {
                state.close(add.last, &self.holder);
                state.open += 1;
                let ticket = self.ticket(Access::Write, state.open);
                Reply::AddBlock(v1::AddBlockReply { block: state.open, targets: vec![self.holder.clone()], ticket })
            }
            Some(Ask::Complete(complete)) => {
                state.close(complete.last, &self.holder);
                Reply::Entry(state.entry())
            }
            Some(Ask::Locate(ask)) => {
                state.located += 1;
                let mut blocks = state.blocks.clone();
                blocks.retain(|block| block.offset < ask.end && ask.start < block.offset + block.bytes);
                blocks.iter_mut().for_each(|block| block.ticket = self.ticket(Access::Read, block.block));
                Reply::Locate(v1::LocateReply { entry: Some(state.entry()), blocks })
            }
            other => return Err(Status::unimplemented(format!("{other:?}"))),
        };
        Ok(v1::FileReply { reply: Some(reply) })
    }
}

struct Bench {
    primary: Arc<OneFile>,
    wfs: Wfs,
    /// The clock of the cluster.
    keys: KeyRing,
    _executor: Executor,
    _served: JoinSet<()>,
    _dir: tempfile::TempDir,
}

/// Creates a file of this many blocks on an executor that is reached over a socket.
async fn bench(blocks: u64) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let config = ExecutorConfig {
        slots: 1,
        memory_bytes: 64 << 20,
        block_reserve_bytes: 0,
        dir: dir.path().join("executor"),
        ..ExecutorConfig::default()
    };
    let executor = Executor::open(config).unwrap();
    let keys = executor.node().keys.clone();
    keys.set(ClusterKey::new([7; ClusterKey::LENGTH]));
    executor.node().blocks.as_ref().unwrap().joined(ExecutorId(1));
    let server = Server::bind(&executor).await.unwrap();
    let holder = v1::BlockHolder { executor: 1, address: server.address().into(), ..v1::BlockHolder::default() };
    let (served, mut tasks) = (executor.clone(), JoinSet::new());
    tasks.spawn(async move { server.run(&served, CancellationToken::new()).await.unwrap() });
    let primary = Arc::new(OneFile { keys: keys.clone(), holder, state: Mutex::default() });
    let wfs = Wfs::new(primary.clone(), Handle::current(), None);
    let mut writer = FileWriter::create(&wfs, "/f", WriteOptions::default()).await.unwrap();
    writer.write(content(blocks * BLOCK)).await.unwrap();
    writer.finish().await.unwrap();
    Bench { primary, wfs, keys, _executor: executor, _served: tasks, _dir: dir }
}

fn content(bytes: u64) -> Bytes {
    (0..bytes).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect::<Vec<u8>>().into()
}

/// A block is opened before the previous one is read, so time passes before each of them, not only the last.
#[tokio::test]
async fn a_scan_that_takes_longer_than_its_tickets_asks_for_others() {
    for read_before in [0, 1, BLOCK, 3 * BLOCK] {
        let bench = bench(6).await;
        let located = bench.wfs.locate("/f", 0..u64::MAX).await.unwrap();
        let mut parts = wfs::read(&bench.wfs, located, 0..6 * BLOCK);
        let mut read = Vec::new();
        while (read.len() as u64) < read_before {
            read.extend_from_slice(&parts.try_next().await.unwrap().unwrap());
        }
        bench.keys.jump(VALID);
        while let Some(part) = parts.try_next().await.unwrap() {
            read.extend_from_slice(&part);
        }
        assert!(read == content(6 * BLOCK), "{read_before}");
        assert_eq!(bench.primary.state.lock().located, 2, "it asked once more, {read_before}");
    }
}

/// When every ticket is expired on arrival, the read fails soon, with an error that says so.
#[tokio::test]
async fn a_ticket_that_is_never_good_is_not_asked_for_without_end() {
    let bench = bench(2).await;
    let stranger = KeyRing::new(ClusterKey::new([8; ClusterKey::LENGTH]));
    let mut located = bench.wfs.locate("/f", 0..u64::MAX).await.unwrap();
    let node = Peers::new(Handle::current()).node(&bench.primary.holder.address).unwrap();
    let of_stranger = stranger.ticket(Access::Read, 1..2, &Principal::anonymous(), VALID);
    let refused = node.read(1, 0..BLOCK, &of_stranger).try_next().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("ticket") && refused.message().contains("the primary gives one"), "{refused}");
    // Tickets of another cluster are replaced by those that this one signs.
    located.blocks.iter_mut().for_each(|block| block.ticket = of_stranger.clone());
    let read: Vec<Bytes> = wfs::read(&bench.wfs, located.clone(), 0..2 * BLOCK).try_collect().await.unwrap();
    assert!(read.concat() == content(2 * BLOCK));
    // The primary's key differs from the executor's.
    bench._executor.node().keys.set(ClusterKey::new([9; ClusterKey::LENGTH]));
    let other = OneFile {
        keys: stranger,
        holder: bench.primary.holder.clone(),
        state: Mutex::new(State { blocks: located.blocks.clone(), ..State::default() }),
    };
    let wfs = Wfs::new(Arc::new(other), Handle::current(), None);
    let error = wfs::read(&wfs, located, 0..2 * BLOCK).try_next().await.unwrap_err();
    assert!(error.to_string().contains("ticket is not one of this cluster"), "{error}");
}

/// A block that was open for longer than its ticket is closed with a new one.
#[tokio::test]
async fn a_block_is_closed_with_a_ticket_whose_time_is_not_over() {
    let bench = bench(1).await;
    let node = Peers::new(Handle::current()).node(&bench.primary.holder.address).unwrap();
    let ticket = bench.primary.ticket(Access::Write, 1);
    node.seal(1, BLOCK, &ticket).await.unwrap();
    bench.keys.jump(VALID);
    let over = node.seal(1, BLOCK, &ticket).await.unwrap_err();
    assert_eq!(over.code(), Code::PermissionDenied, "{over}");
    assert!(over.message().contains("over"), "{over}");
    node.seal(1, BLOCK, &bench.primary.ticket(Access::Write, 1)).await.unwrap();
    let to_read = bench.primary.ticket(Access::Read, 1);
    assert_eq!(node.seal(1, BLOCK, &to_read).await.unwrap_err().code(), Code::PermissionDenied);
}

/// Every order to remove a replica is answered, so that the primary can tell reports before the removal from those behind it.
#[tokio::test]
async fn every_removal_of_a_replica_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (host, rack) = (String::new(), String::new());
    let dirs = vec![dir.path().to_path_buf()];
    let config = BlockConfig { dirs, host, rack, reserve: 0, scrub_rate: 0, repair_rate: 0 };
    let store = BlockStore::open(config, Handle::current(), KeyRing::default()).unwrap();
    store.joined(ExecutorId(1));
    assert_eq!(store.report().await.range, Some(v1::BlockRange { first: 0, last: u64::MAX }));
    let remove = || store.obey(v1::BlockOrders { delete: vec![7], ..v1::BlockOrders::default() });
    let gone = v1::BlockReport { gone: vec![7], ..v1::BlockReport::default() };
    // There is none.
    remove();
    assert_eq!(store.report().await, gone);
    // One arrives, and is removed before it is reported.
    let block = Block { id: BlockId(7), bytes: 3 };
    store.add(0, block);
    store.bad(block.id, &"it was not what was written");
    remove();
    assert_eq!(store.report().await, gone);
    // One arrives after a removal.
    remove();
    store.add(0, block);
    let both = v1::BlockReport { blocks: vec![7], bytes: vec![3], ..gone };
    assert_eq!(store.report().await, both);
    // The same while all is reported that is here.
    store.joined(ExecutorId(2));
    remove();
    store.add(0, block);
    assert_eq!(store.report().await.blocks, [7]);
    assert_eq!(store.report().await, both);
}
