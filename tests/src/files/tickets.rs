//! Block ids can be guessed by counting, and paths too: executors refuse every request without a ticket.

use super::faults::{healthy, options, quick, text, until, verify, write};
use super::shell::fs_command;
use crate::cluster::Processes;
use arrow_flight::sql::client::FlightSqlServiceClient;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use windlass_client::wfs::{self, FileWriter, Wfs, WriteOptions};
use windlass_core::access::Principal;
use windlass_core::ids::JobId;
use windlass_core::wfs::FsPath;
use windlass_proto::pass::{ClusterKey, KeyRing};
use windlass_proto::ticket::Access;
use windlass_proto::v1::block_piece::{Piece, WriteEnd};
use windlass_proto::v1::block_reads_client::BlockReadsClient;
use windlass_proto::v1::blocks_client::BlocksClient;
use windlass_proto::v1::create_request::{Mode, New};
use windlass_proto::v1::file_reply::Reply;
use windlass_proto::v1::file_request::Ask;
use windlass_proto::{bulk, v1};

const BYTES: u64 = 2_500_000;
/// Validity that is longer than any test.
const LONG: Duration = Duration::from_secs(3_600);

async fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("it is an address");
    endpoint.connect().await.expect("the executor answers")
}

/// Reads the first bytes of a block like the project's own clients.
async fn read_in_bulk(channel: &Channel, block: u64, ticket: &Bytes) -> Result<usize, Status> {
    let request = v1::ReadBlockRequest { block, start: 0, end: 100, ticket: ticket.clone() };
    let mut pieces = bulk::call::<_, v1::BlockData>(channel.clone(), bulk::READ_BLOCK, request, 8 << 20).await?;
    Ok(pieces.message().await?.map_or(0, |piece| piece.data.len()))
}

/// Reads the first bytes of a block like any gRPC client.
async fn read_plainly(channel: &Channel, block: u64, ticket: &Bytes) -> Result<usize, Status> {
    let request = v1::ReadBlockRequest { block, start: 0, end: 100, ticket: ticket.clone() };
    let mut client = BlockReadsClient::new(channel.clone()).max_decoding_message_size(8 << 20);
    let mut pieces = client.read(request).await?.into_inner();
    Ok(pieces.message().await?.map_or(0, |piece| piece.data.len()))
}

/// Writes a block of a few bytes.
async fn write_block(channel: &Channel, block: u64, ticket: &Bytes) -> Result<Vec<u64>, Status> {
    let data = Bytes::from_static(b"mine");
    let checksums = vec![crc32c::crc32c(&data)];
    let pieces = [
        Piece::Header(v1::WriteHeader { block, rest: Vec::new(), ticket: ticket.clone() }),
        Piece::Data(v1::BlockData { offset: 0, data, checksums }),
        Piece::End(WriteEnd {}),
    ];
    let pieces = stream::iter(pieces.map(|piece| v1::BlockPiece { piece: Some(piece) }));
    let said: Vec<v1::WriteProgress> =
        BlocksClient::new(channel.clone()).write(pieces).await?.into_inner().try_collect().await?;
    Ok(said.into_iter().flat_map(|said| said.durable).collect())
}

async fn seal(channel: &Channel, block: u64, bytes: u64, ticket: &Bytes) -> Result<(), Status> {
    let request = v1::SealRequest { block, bytes, ticket: ticket.clone() };
    BlocksClient::new(channel.clone()).seal(request).await.map(drop)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, why: &str) {
    let status = answer.expect_err(why);
    assert_eq!(status.code(), Code::PermissionDenied, "{why}: {status}");
    assert!(status.message().contains("ticket") && status.message().contains("the primary gives one"), "{status}");
}

/// Sends one request over a new connection; returns the status and the body.
fn http(method: &str, url: &str, body: &[u8]) -> (u16, String) {
    use std::io::{Read, Write};
    let (host, path) = url.trim_start_matches("http://").split_once('/').expect("it has a path");
    let mut stream = std::net::TcpStream::connect(host).expect("it is served");
    let length = body.len();
    write!(
        stream,
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    .and_then(|()| stream.write_all(body))
    .expect("a request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer comes");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("it has a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("it has a status");
    (status, body.to_owned())
}

#[track_caller]
fn forbidden((status, body): (u16, String), why: &str) {
    assert_eq!(status, 403, "{why}: {body}");
    let said: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
    let exception = &said["RemoteException"];
    assert_eq!(exception["exception"], "AccessControlException", "{why}");
    assert!(exception["message"].as_str().is_some_and(|message| message.contains("ask the primary")), "{body}");
}

/// URL to which the primary redirects this request.
fn redirected(cluster: &Processes, method: &str, path: &str, query: &str) -> String {
    let described = std::fs::read_to_string(cluster.dir.path().join("cluster.json")).expect("there is a record");
    let described: serde_json::Value = serde_json::from_str(&described).expect("it is JSON");
    let rest = described["rest"].as_str().expect("REST is served");
    let (status, body) = http(method, &format!("{rest}/webhdfs/v1{path}?{query}&noredirect=true"), b"");
    assert_eq!(status, 200, "{body}");
    let said: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
    said["Location"].as_str().expect("it says where").to_owned()
}

async fn blocks_of(files: &Wfs, path: &str) -> Vec<v1::LocatedBlock> {
    files.locate(path, 0..u64::MAX).await.expect("the file is there").blocks
}

/// A pass for a result, obtained like a client's.
async fn pass_of(cluster: &Processes) -> Bytes {
    let mut sql = FlightSqlServiceClient::new(channel(cluster.url.trim_start_matches("grpc://")).await);
    sql.execute_update("SET windlass.inline_result_bytes = 0".into(), None).await.expect("an option is set");
    let many = "SELECT value, md5(value::text) AS text FROM generate_series(1, 100000) ORDER BY text";
    let info = sql.execute(many.into(), None).await.expect("it runs");
    let ticket = info.endpoint.into_iter().find_map(|endpoint| endpoint.ticket).expect("the result has a ticket");
    let ticket = v1::ResultTicket::decode(ticket.ticket).expect("it is a result's");
    assert!(!ticket.pass.is_empty());
    ticket.pass
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_or_writes_by_counting_ids() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let files = session.files();
    write(&files, "/f", 1, BYTES, options(3)).await;
    write(&files, "/g", 2, BYTES, options(3)).await;
    let (of_f, of_g) = (blocks_of(&files, "/f").await, blocks_of(&files, "/g").await);
    let block = of_f[0].block;
    // A block that somebody else is writing.
    let writer = Bytes::from_static(&[9; 16]);
    let (mode, path) = (Some(Mode::New(New {})), "/writing".into());
    let create = v1::CreateRequest { path, writer: writer.clone(), mode, ..v1::CreateRequest::default() };
    let Reply::Create(created) = files.ask(Ask::Create(create)).await.expect("a file begins") else { panic!() };
    let file = created.file;
    let add = v1::AddBlockRequest { file, ..v1::AddBlockRequest::default() };
    let Reply::AddBlock(added) = files.ask(Ask::AddBlock(add)).await.expect("it gets a block") else { panic!() };
    let renewed = files.renew(v1::WriterRequest { file, writer }).await.expect("its writer lives");
    assert_eq!(renewed.block, Some(added.block));

    let stranger = KeyRing::new(ClusterKey::new([8; ClusterKey::LENGTH]));
    let nobody = Principal::anonymous();
    let of_stranger = |access, block| stranger.ticket(access, block..block + 1, &nobody, LONG);
    let pass = pass_of(&cluster).await;
    let pass_of_stranger = stranger.sign(JobId(block), &nobody, LONG);
    let mut longer = of_g[0].ticket.to_vec();
    longer.extend_from_slice(&of_f[0].ticket);

    for holder in &of_f[0].holders {
        let executor = channel(&holder.address).await;
        for id in 0..=added.block + 10 {
            refused(read_in_bulk(&executor, id, &Bytes::new()).await, "no ticket, in bulk");
            refused(read_plainly(&executor, id, &Bytes::new()).await, "no ticket");
            refused(write_block(&executor, id, &Bytes::new()).await, "no ticket, to write");
            refused(seal(&executor, id, 0, &Bytes::new()).await, "no ticket, to close");
        }
        for (ticket, why) in [
            (of_g[0].ticket.clone(), "another block's"),
            (of_stranger(Access::Read, block), "another cluster's"),
            (added.ticket.clone(), "one to write another"),
            (pass.clone(), "a pass"),
            (pass_of_stranger.clone(), "another cluster's pass"),
            (Bytes::from_static(b"\xff\xff\xff"), "nonsense"),
            (longer.clone().into(), "two"),
        ] {
            refused(read_in_bulk(&executor, block, &ticket).await, why);
            refused(read_plainly(&executor, block, &ticket).await, why);
            // Neither existing blocks nor future ones.
            refused(seal(&executor, block, 1, &ticket).await, why);
            refused(write_block(&executor, block, &ticket).await, why);
            refused(write_block(&executor, block + 1_000, &ticket).await, why);
        }
        // A ticket for reading is not valid for writing, and the other way round.
        refused(seal(&executor, block, 1, &of_f[0].ticket).await, "one to read");
        refused(write_block(&executor, block, &of_f[0].ticket).await, "one to read");
        refused(read_in_bulk(&executor, added.block, &added.ticket).await, "one to write");
        refused(read_plainly(&executor, added.block, &added.ticket).await, "one to write");
        refused(
            write_block(&executor, added.block, &of_stranger(Access::Write, added.block)).await,
            "another cluster's",
        );
        // With the primary's tickets it works.
        assert!(read_in_bulk(&executor, block, &of_f[0].ticket).await.expect("it is read") >= 100);
        assert!(read_plainly(&executor, block, &of_f[0].ticket).await.expect("it is read") >= 100);
    }
    let target = channel(&added.targets[0].address).await;
    let durable = write_block(&target, added.block, &renewed.ticket).await.expect("it is written");
    assert_eq!(durable, [added.targets[0].executor]);
    verify(&files, "/f", 1, BYTES).await;
    verify(&files, "/g", 2, BYTES).await;
    assert_eq!(fs_command(&cluster, &["cat", "/f"]).map(|text| text.is_empty()), Ok(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_or_writes_over_http_by_guessing_paths() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let files = session.files();
    write(&files, "/f", 1, BYTES, options(3)).await;
    write(&files, "/g", 2, BYTES, options(3)).await;
    let stranger = KeyRing::new(ClusterKey::new([8; ClusterKey::LENGTH]));
    let requests = [
        ("GET", "/f", "op=OPEN", Access::Read),
        ("PUT", "/new", "op=CREATE", Access::Write),
        ("PUT", "/f", "op=CREATE&overwrite=true", Access::Write),
        ("POST", "/f", "op=APPEND", Access::Write),
    ];
    for (method, path, query, access) in requests {
        let right = redirected(&cluster, method, path, query);
        let (start, ticket) = right.split_once("ticket=").expect("it has a ticket");
        assert!(!ticket.contains('&'), "{right}");
        let with = |ticket: &str| http(method, &format!("{start}ticket={ticket}"), b"mine");
        let of = |method, path, query| {
            let other = redirected(&cluster, method, path, query);
            other.split_once("ticket=").expect("it has a ticket").1.to_owned()
        };
        forbidden(http(method, start.trim_end_matches('&'), b"mine"), "no ticket");
        forbidden(with(""), "an empty one");
        forbidden(with("nonsense"), "nonsense");
        let (same, other) = match access {
            Access::Read => (("GET", "op=OPEN"), ("POST", "op=APPEND")),
            Access::Write => (("POST", "op=APPEND"), ("GET", "op=OPEN")),
        };
        forbidden(with(&of(same.0, "/g", same.1)), "another file's");
        forbidden(with(&of(other.0, "/f", other.1)), "another access");
        let parsed = FsPath::parse(path).expect("it is a path");
        let of_stranger = stranger.file_ticket(access, &parsed, &Principal::anonymous(), LONG);
        forbidden(with(&of_stranger), "another cluster's");
    }
    // No refused request had an effect.
    verify(&files, "/f", 1, BYTES).await;
    assert!(files.stat("/new").await.is_err());
    // An unchanged redirect of the primary works.
    let (status, body) = http("PUT", &redirected(&cluster, "PUT", "/new", "op=CREATE"), b"mine");
    assert_eq!((status, body.as_str()), (201, ""));
    let (status, body) = http("GET", &redirected(&cluster, "GET", "/new", "op=OPEN"), b"");
    assert_eq!((status, body.as_str()), (200, "mine"));
}

/// Tickets are valid for two seconds here.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_a_ticket_gets_another_one() {
    let cluster = quick("3", "ticket = \"2s\"");
    let session = cluster.session().await;
    let files = session.files();
    write(&files, "/f", 1, 20_000_000, options(2)).await;
    let slow = WriteOptions { block_bytes: Some(8 << 20), ..options(3) };
    let mut writer = FileWriter::create(&files, "/slow", slow).await.expect("a file begins");
    writer.write(text(2, 0, 3 << 20)).await.expect("bytes are taken");
    let located = files.locate("/f", 0..u64::MAX).await.expect("the file is there");
    let url = redirected(&cluster, "GET", "/f", "op=OPEN&offset=5&length=7");
    let (block, ticket) = (located.blocks[0].block, located.blocks[0].ticket.clone());
    let holder = channel(&located.blocks[0].holders[0].address).await;
    assert!(read_in_bulk(&holder, block, &ticket).await.is_ok());
    let mut scan = wfs::read(&files, located, 0..20_000_000);
    let first = scan.next().await.expect("there is a first part").expect("it is read");

    until("its time is over", async || read_in_bulk(&holder, block, &ticket).await.is_err()).await;
    refused(read_in_bulk(&holder, block, &ticket).await, "its time is over");
    refused(read_plainly(&holder, block, &ticket).await, "its time is over");
    forbidden(http("GET", &url, b""), "its time is over");

    // The scan goes on with new tickets.
    let mut at = first.len() as u64;
    assert!(first == text(1, 0, first.len()));
    while let Some(part) = scan.try_next().await.expect("it is read") {
        assert!(part == text(1, at, part.len()), "other bytes from {at} on");
        at += part.len() as u64;
    }
    assert_eq!(at, 20_000_000);
    // The writer's block has been open for longer than its ticket is valid, and is closed early, because one of its executors dies.
    cluster.kill_executor(0);
    let mut at = 3 << 20;
    while at < 20 << 20 {
        writer.write(text(2, at, 1 << 20)).await.expect("bytes are taken");
        at += 1 << 20;
    }
    writer.finish().await.expect("the file is complete");
    verify(&files, "/slow", 2, 20 << 20).await;
    let lengths: Vec<u64> = blocks_of(&files, "/slow").await.iter().map(|block| block.bytes).collect();
    assert!((3 << 20..8 << 20).contains(&lengths[0]), "the first block was closed when its chain broke: {lengths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_are_good_with_the_next_primary() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let files = session.files();
    write(&files, "/f", 1, BYTES, options(3)).await;
    let old = blocks_of(&files, "/f").await;
    let _primary = cluster.primary_again();
    // Executors have the key once they have joined.
    healthy(&files).await;
    let new = blocks_of(&files, "/f").await;
    for holder in &new[0].holders {
        let executor = channel(&holder.address).await;
        for ticket in [&old[0].ticket, &new[0].ticket] {
            assert!(read_in_bulk(&executor, old[0].block, ticket).await.expect("it is read") >= 100);
        }
        refused(read_in_bulk(&executor, old[0].block, &old[1].ticket).await, "another block's");
    }
    verify(&files, "/f", 1, BYTES).await;
}
