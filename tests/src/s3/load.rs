//! Many objects, and a store that has too much to do.

use super::*;
use std::time::Instant;

/// A table of many objects in many folders, with a store that takes 20 ms for each answer.
#[test]
fn many_folders_are_listed_side_by_side() {
    let mut server = Server::start();
    let cluster = server.cluster();
    assert_eq!(server.ask("fill 20000 200"), "ok");
    let many = "create external table many (id bigint) stored as csv location 's3://lake/many/' options ('format.has_header' 'false')";
    cluster.sql(&[many]).unwrap();
    assert_eq!(server.ask("delay 20"), "ok");
    server.ask("requests");
    server.ask("peak");
    let begin = Instant::now();
    assert_eq!(cluster.sql(&["select count(*) as n from many"]).unwrap(), "n\n0\n");
    let took = begin.elapsed();
    let requests: serde_json::Value = serde_json::from_str(&server.ask("requests")).unwrap();
    let is_list =
        |request: &&serde_json::Value| request["query"].as_str().is_some_and(|query| query.contains("list-type=2"));
    let lists = requests.as_array().unwrap().iter().filter(is_list).count();
    let peak: usize = server.ask("peak").split(' ').next().unwrap().parse().unwrap();
    println!("{lists} lists, {peak} at a time, {took:?}");
    assert!(peak >= 8 && lists < 100, "{lists} lists, {peak} at a time");
}

/// A store that serves few requests at a time, and resets connections: results are exact, requests become fewer, and nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_overrun_is_asked_less() {
    let mut server = Server::start();
    let cluster = server.cluster();
    let sql = |statements: &[&str]| cluster.sql(statements);
    let rows = "select value as id, value % 60 as part from generate_series(1, 6000)";
    assert_eq!(server.ask("delay 20"), "ok");
    assert_eq!(server.ask("capacity 16"), "ok");
    assert_eq!(server.ask("reset 40"), "ok");
    let copy = format!("copy ({rows}) to 's3://lake/busy/' stored as parquet partitioned by (part)");
    assert_eq!(sql(&[STAGES, &copy]).unwrap(), "count\n6000\n");
    let measured = |server: &mut Server| {
        let measured = server.ask("peak");
        let (peak, slowed) = measured.split_once(' ').unwrap();
        let requests: serde_json::Value = serde_json::from_str(&server.ask("requests")).unwrap();
        (peak.parse::<usize>().unwrap(), slowed.parse::<usize>().unwrap(), requests.as_array().unwrap().len())
    };
    let (peak, slowed, requests) = measured(&mut server);
    println!("COPY: {requests} requests, {slowed} of them slowed down, {peak} at a time");
    assert!(slowed > 0 && slowed * 2 < requests, "{slowed} of {requests}");
    let create = "create external table busy stored as parquet partitioned by (part) location 's3://lake/busy/'";
    let sums = "select count(*) as n, sum(id) as ids, count(distinct part) as parts from busy";
    assert_eq!(sql(&[create, STAGES, sums]).unwrap(), "n,ids,parts\n6000,18003000,60\n");
    let (peak, slowed, requests) = measured(&mut server);
    println!("query: {requests} requests, {slowed} of them slowed down, {peak} at a time");
    assert!(slowed * 2 < requests, "{slowed} of {requests}");
    assert_eq!((server.ask("capacity 0"), server.ask("reset 0")), ("ok".to_owned(), "ok".to_owned()));
    assert_eq!((server.ask("uploads"), server.ask("objects .busy")), ("0".to_owned(), "0".to_owned()));
    cluster.at_rest().await;
}

/// The files of one job are completed side by side.
#[test]
fn many_files_are_published_side_by_side() {
    let mut server = Server::start();
    let cluster = server.cluster();
    let rows = "select value as id, value as part from generate_series(1, 400)";
    assert_eq!(server.ask("delay 20"), "ok");
    server.ask("peak");
    let begin = Instant::now();
    let copy = format!("copy ({rows}) to 's3://lake/parts/' stored as csv partitioned by (part)");
    assert_eq!(cluster.sql(&[STAGES, &copy]).unwrap(), "count\n400\n");
    let peak: usize = server.ask("peak").split(' ').next().unwrap().parse().unwrap();
    println!("400 files, {peak} requests at a time, {:?}", begin.elapsed());
    assert_eq!((server.ask("uploads"), server.ask("objects .parts")), ("0".to_owned(), "0".to_owned()));
    assert_eq!(server.ask("objects parts/"), "400");
    assert!(peak >= 16, "{peak} at a time");
}
