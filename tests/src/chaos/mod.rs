//! A cluster of real processes, each on a separate machine, under load while things fail: every answer is right, and every table has exactly its rows.
//!
//! `CHAOS_SECONDS` sets the duration, `CHAOS_SEED` the faults.

mod leaks;
mod machines;
mod proxy;

use crate::Engine;
use crate::cluster::binary;
use crate::tpc::TPCH;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use async_trait::async_trait;
use machines::{Machine, Network};
use object_store::ObjectStoreExt;
use proxy::{Link, Proxy};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use windlass_client::wfs::WfsStore;
use windlass_client::{Client, ClientError, Session};
use windlass_scheduler::meta::{EtcdConfig, EtcdStore, MetaStore};

const PRIMARIES: usize = 3;
const EXECUTORS: usize = 3;
const ROWS: i64 = 1000;
/// Bytes of an executor's disk.
const DISK: u64 = 128 << 20;
/// Configuration: every finished stage is saved for the next leader, and exchange data goes to files, which can be damaged, on a disk that can be full.
const CONFIG: &str = "[primary]\nsave_stages_after = \"0s\"\nkeep_unclaimed = \"10s\"\n[exchange]\nmemory = \"1MiB\"\n";
/// Time limit of a statement: longer than any takes here, so that a hang is a failure.
const HANG: Duration = Duration::from_secs(120);

struct World {
    url: String,
    etcd: String,
    /// Etcd, then primaries, then executors.
    machines: Vec<Machine>,
    /// Links between the last executor and the primaries, the other executors and the clients.
    links: Vec<Proxy>,
    dir: tempfile::TempDir,
    _network: Network,
}

impl World {
    async fn start() -> Result<Self, String> {
        let network = Network::create()?;
        let dir = tempfile::tempdir().expect("a folder can be made");
        let mut machines = Vec::new();
        let etcd_at = network.address(0);
        let (clients, peers) = (format!("http://{etcd_at}:2379"), format!("http://{etcd_at}:2380"));
        let data = dir.path().join("etcd/data").display().to_string();
        let etcd = [
            ["--data-dir", &data],
            ["--listen-client-urls", &clients],
            ["--advertise-client-urls", &clients],
            ["--listen-peer-urls", &peers],
            ["--initial-advertise-peer-urls", &peers],
            ["--initial-cluster", &format!("default={peers}")],
        ];
        let etcd = etcd.into_iter().flatten().map(str::to_owned).collect();
        machines.push(network.machine(0, "etcd", dir.path(), Path::new("etcd"), etcd));
        let urls: Vec<String> = (1..=PRIMARIES).map(|n| format!("grpc://{}:7077", network.address(n))).collect();
        let url = urls.join(",");
        let warehouse = dir.path().join("warehouse").display().to_string();
        std::fs::create_dir(&warehouse).expect("a folder can be made");
        let config = dir.path().join("windlass.toml");
        std::fs::write(&config, CONFIG).expect("a file can be written");
        let config = config.display().to_string();
        for number in 1..=PRIMARIES {
            let (name, address) = (format!("primary-{number}"), network.address(number));
            let home = dir.path().join(&name).join("data").display().to_string();
            let arguments = [
                ["--listen", &format!("{address}:7077")],
                ["--rest", &format!("{address}:7078")],
                ["--dir", &home],
                ["--etcd", &clients],
                ["--cluster", "chaos"],
                ["--warehouse", &warehouse],
            ];
            let arguments = ["--config", &config, "primary"].into_iter().chain(arguments.into_iter().flatten());
            let arguments = arguments.map(str::to_owned).collect();
            machines.push(network.machine(number, &name, dir.path(), &binary(), arguments));
        }
        let mut links = Vec::new();
        for number in 1..=PRIMARIES {
            links.push(Proxy::start(&network.outer_address(), format!("{}:7077", network.address(number))).await);
        }
        let through: Vec<String> = links.iter().map(|link| format!("grpc://{}", link.address)).collect();
        let through = through.join(",");
        let last = format!("{}:7080", network.address(PRIMARIES + EXECUTORS));
        links.push(Proxy::start(&network.outer_address(), last).await);
        let advertised = links[PRIMARIES].address.to_string();
        for number in 1..=EXECUTORS {
            let (name, address) = (format!("executor-{number}"), network.address(PRIMARIES + number));
            let home = dir.path().join(&name).join("data").display().to_string();
            let is_last = number == EXECUTORS;
            let arguments = [
                ["--primary", if is_last { &through } else { &url }],
                ["--advertise", if is_last { &advertised } else { &address }],
                ["--name", &name],
                ["--listen", &format!("{address}:7080")],
                ["--slots", "2"],
                ["--memory", "1GiB"],
                ["--dir", &home],
            ];
            let arguments = ["--config", &config, "executor"].into_iter().chain(arguments.into_iter().flatten());
            let arguments = arguments.map(str::to_owned).collect();
            let mut machine = network.machine(PRIMARIES + number, &name, dir.path(), &binary(), arguments);
            machine.give_disk("data", DISK);
            machine.confine();
            machines.push(machine);
        }
        machines.iter_mut().for_each(Machine::start);
        Ok(Self { url, etcd: clients, machines, links, dir, _network: network })
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for machine in &self.machines {
            let log = std::fs::read_to_string(machine.log()).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(30).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            text.push_str(&format!("== {}\n{}\n", machine.name, last.join("\n")));
        }
        text
    }

    /// Checks that all executors are there, that nothing runs or waits, and that nothing is held.
    async fn at_rest(&self) -> Result<(), String> {
        let patience = Instant::now() + Duration::from_secs(60);
        let mut last = "no primary was found".to_owned();
        while Instant::now() < patience {
            if let Ok(session) = Client::connect(&self.url).await
                && let Ok(status) = session.status().await
            {
                let live = status.executors.iter().filter(|executor| executor.state == "live").count();
                let running: u32 = status.executors.iter().map(|executor| executor.running_tasks).sum();
                let held = status.executors.iter().map(|e| e.exchange_memory_bytes + e.exchange_disk_bytes);
                let used = status.executors.iter().map(|e| e.memory_used_bytes.saturating_sub(e.exchange_memory_bytes));
                if live == EXECUTORS
                    && status.executors.len() == EXECUTORS
                    && running == 0
                    && used.sum::<u64>() == 0
                    && held.sum::<u64>() == 0
                    && status.jobs_running + status.jobs_queued == 0
                {
                    return Ok(());
                } else {
                    last = format!("{status:?}");
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
        Err(last)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillExecutor,
    KillPrimary,
    KillLeader,
    StopExecutor,
    StopPrimary,
    UnplugExecutor,
    UnplugPrimary,
    CutBetweenExecutors,
    RestartEtcd,
    TerminateExecutor,
    TerminateLeader,
    DamageFiles,
    FillDisk,
    LimitMemory,
    SlowLinks,
    NarrowLinks,
    ResetLinks,
    HalfOpenLinks,
}

const FAULTS: [Fault; 18] = [
    Fault::LimitMemory,
    Fault::SlowLinks,
    Fault::NarrowLinks,
    Fault::ResetLinks,
    Fault::HalfOpenLinks,
    Fault::DamageFiles,
    Fault::FillDisk,
    Fault::KillExecutor,
    Fault::KillLeader,
    Fault::StopExecutor,
    Fault::UnplugExecutor,
    Fault::CutBetweenExecutors,
    Fault::StopPrimary,
    Fault::KillPrimary,
    Fault::TerminateExecutor,
    Fault::UnplugPrimary,
    Fault::RestartEtcd,
    Fault::TerminateLeader,
];

/// A small seeded generator; the quality of the numbers does not matter.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below((to - from) as usize) as u64)
    }
}

/// Injects one fault, from its beginning to its end.
async fn inject(world: &mut World, fault: Fault, leader: Option<usize>, random: &mut Random) {
    let executor = 1 + PRIMARIES + random.below(EXECUTORS);
    let primary = 1 + random.below(PRIMARIES);
    let leader = leader.unwrap_or(primary);
    let restart = async |machine: &mut Machine, pause: Duration| {
        sleep(pause).await;
        machine.start();
    };
    match fault {
        Fault::KillExecutor | Fault::KillPrimary | Fault::KillLeader | Fault::RestartEtcd => {
            let at = match fault {
                Fault::KillExecutor => executor,
                Fault::KillPrimary => primary,
                Fault::KillLeader => leader,
                _ => 0,
            };
            let pause = if at == 0 { random.between(200, 1500) } else { random.between(500, 4000) };
            world.machines[at].kill();
            restart(&mut world.machines[at], pause).await;
        }
        Fault::TerminateExecutor | Fault::TerminateLeader => {
            let at = if fault == Fault::TerminateExecutor { executor } else { leader };
            world.machines[at].signal("-TERM");
            let mut machine = world.machines.remove(at);
            // A process that does not end is killed, which is a failure of the test.
            let (machine, status) = tokio::task::spawn_blocking(move || {
                let status = machine.wait();
                (machine, status)
            })
            .await
            .expect("waiting does not fail");
            world.machines.insert(at, machine);
            println!("  {} ended with {status:?}", world.machines[at].name);
            restart(&mut world.machines[at], random.between(0, 1000)).await;
        }
        Fault::StopExecutor | Fault::StopPrimary => {
            let at = if fault == Fault::StopExecutor { executor } else { primary };
            world.machines[at].signal("-STOP");
            sleep(random.between(500, 9000)).await;
            world.machines[at].signal("-CONT");
        }
        Fault::UnplugExecutor | Fault::UnplugPrimary => {
            let at = if fault == Fault::UnplugExecutor { executor } else { primary };
            world.machines[at].plug(false);
            sleep(random.between(500, 9000)).await;
            world.machines[at].plug(true);
        }
        Fault::DamageFiles => {
            // Files come and go; the loop damages those that it finds in time.
            let (mut damaged, end) = (0, Instant::now() + random.between(500, 3000));
            while damaged < 5 && Instant::now() < end {
                damaged += world.machines[executor].damage("data/exchange", random.below(1 << 20));
                sleep(Duration::from_millis(2)).await;
            }
            println!("  {damaged} files of {}", world.machines[executor].name);
        }
        Fault::FillDisk => {
            let bytes = world.machines[executor].fill("data");
            println!("  {} MiB on {}", bytes >> 20, world.machines[executor].name);
            sleep(random.between(500, 4000)).await;
            world.machines[executor].make_room("data");
        }
        Fault::LimitMemory => {
            let machine = &mut world.machines[executor];
            let Some(bytes) = machine.limit_memory() else {
                return crate::skipped::skipped("executors with too little memory: there are no control groups here");
            };
            sleep(random.between(500, 4000)).await;
            machine.lift_limit();
            let ended = machine.has_ended();
            println!("  {} had {} MiB and {}", machine.name, bytes >> 20, if ended { "was killed" } else { "lived" });
            if ended {
                machine.start();
            }
        }
        Fault::SlowLinks | Fault::NarrowLinks | Fault::HalfOpenLinks => {
            let link = match fault {
                Fault::SlowLinks => Link::Slow(random.between(5, 100)),
                Fault::NarrowLinks => Link::Narrow(200_000),
                _ => Link::Silent,
            };
            println!("  {link:?}");
            world.links.iter().for_each(|proxy| proxy.set(link));
            sleep(random.between(500, 5000)).await;
            world.links.iter().for_each(|proxy| proxy.set(Link::Sound));
        }
        Fault::ResetLinks => world.links.iter().for_each(Proxy::reset),
        Fault::CutBetweenExecutors => {
            let other = 1 + PRIMARIES + (executor - PRIMARIES) % EXECUTORS;
            let (a, b) = (world.machines[executor].address.clone(), world.machines[other].address.clone());
            world.machines[executor].avoid(&b, true);
            world.machines[other].avoid(&a, true);
            sleep(random.between(500, 9000)).await;
            world.machines[executor].avoid(&b, false);
            world.machines[other].avoid(&a, false);
        }
    }
}

#[derive(Default)]
struct Tally {
    queries: AtomicU64,
    writes: AtomicU64,
    /// Number of statements that their client had to send again, by error.
    repeated: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
    longest_ms: AtomicU64,
}

impl Tally {
    fn repeat(&self, error: &ClientError) {
        // Numbers, which differ from case to case, are removed.
        let text = error.to_string();
        let text: String = text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).take(110).collect();
        *self.repeated.lock().unwrap().entry(text).or_default() += 1;
    }

    fn complain(&self, what: String) {
        println!("WRONG: {what}");
        self.wrong.lock().unwrap().push(what);
    }

    /// Runs a query in a new session until it succeeds.
    async fn until_it_works(&self, url: &str, stop: &AtomicBool, sql: &str) -> Option<(SchemaRef, Vec<RecordBatch>)> {
        let started = Instant::now();
        loop {
            let attempt = async {
                let session = Client::connect(url).await?;
                session.set("windlass.small_query_bytes", "0").await?;
                let result = session.sql(sql).await?;
                let schema = result.schema().clone();
                let batches = result.collect().await?;
                // A session that is not closed expires.
                let _ = session.close().await;
                Ok::<_, ClientError>((schema, batches))
            };
            match tokio::time::timeout(HANG, attempt).await {
                Ok(Ok(answer)) => {
                    self.longest_ms.fetch_max(started.elapsed().as_millis() as u64, Ordering::Relaxed);
                    return Some(answer);
                }
                Ok(Err(error)) => self.repeat(&error),
                Err(_) => {
                    self.complain(format!("a statement hung for {} s", HANG.as_secs()));
                    return None;
                }
            }
            if stop.load(Ordering::Relaxed) && started.elapsed() > HANG {
                self.complain("a statement never worked".to_owned());
                return None;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A session as an engine, for the creation of tables.
struct Over(Session);

#[async_trait]
impl Engine for Over {
    fn name(&self) -> &str {
        "the cluster under chaos"
    }

    async fn sql(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
        let result = self.0.sql(sql).await.map_err(|error| error.to_string())?;
        let schema = result.schema().clone();
        Ok((schema, result.collect().await.map_err(|error| error.to_string())?))
    }
}

async fn read(url: String, first: usize, tally: Arc<Tally>, stop: Arc<AtomicBool>) {
    let queries = TPCH.queries();
    for (name, sql) in queries.iter().cycle().skip(first) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let ran = tally.until_it_works(&url, &stop, sql).await;
        let Some((schema, batches)) = ran else { return };
        tally.queries.fetch_add(1, Ordering::Relaxed);
        if let Err(why) = TPCH.check(name, &schema, &batches).await {
            tally.complain(format!("{name}: {why}"));
        }
    }
}

/// Writes pieces of [`ROWS`] rows with numbers; returns the numbers that were acknowledged, and those with unknown outcome.
async fn write(url: String, tally: Arc<Tally>, stop: Arc<AtomicBool>) -> (Vec<i64>, Vec<i64>) {
    let (mut done, mut open) = (Vec::new(), Vec::new());
    for tag in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let attempt = async {
            let session = Client::connect(&url).await?;
            session.set("windlass.small_query_bytes", "0").await?;
            if tag % 5 == 0 {
                // Files come and go; the last one stays.
                files(&session, tag).await;
            }
            if tag % 3 == 0 {
                let sql = format!("create view view_{tag} as select {tag} as tag");
                session.sql(sql).await?.collect().await?;
            }
            let sql = if tag % 4 == 0 {
                format!("create table piece_{tag} as select value from generate_series(1, {ROWS}) group by value")
            } else {
                format!("insert into ledger select {tag}, value from generate_series(1, {ROWS}) group by value")
            };
            if tag % 7 == 0 {
                // An accepted submission counts as done, whichever leader runs it.
                let options = [("windlass.small_query_bytes".to_owned(), "0".to_owned())];
                return session.submit(&sql, "", &options).await.map(|_| ());
            }
            session.sql(sql).await?.collect().await.map(|_| ())
        };
        match tokio::time::timeout(HANG, attempt).await {
            Ok(Ok(_)) => {
                tally.writes.fetch_add(1, Ordering::Relaxed);
                done.push(tag);
            }
            Ok(Err(error)) => {
                tally.repeat(&error);
                open.push(tag);
                sleep(Duration::from_millis(50)).await;
            }
            Err(_) => tally.complain(format!("a write hung for {} s", HANG.as_secs())),
        }
    }
    (done, open)
}

/// Writes a file, and removes the one before it.
async fn files(session: &Session, tag: i64) {
    let store = WfsStore::new(session.files());
    let at = |tag: i64| object_store::path::Path::from(format!("chaos/{tag}"));
    // A disk may be full, and executors away: only the final state matters.
    let put = async {
        let _ = store.put(&at(tag), vec![b'x'; 1 << 20].into()).await;
        let _ = store.delete(&at(tag - 5)).await;
    };
    let _ = tokio::time::timeout(Duration::from_secs(20), put).await;
}

/// Measures the longest time in which no primary held the leader's key.
async fn watch_leader(
    etcd: String,
    names: Vec<String>,
    leader: Arc<Mutex<Option<usize>>>,
    stop: Arc<AtomicBool>,
) -> Duration {
    let config = EtcdConfig { endpoints: vec![etcd], cluster: "chaos".to_owned(), lease: Duration::from_secs(2) };
    let mut longest = Duration::ZERO;
    let mut since = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let Ok(store) = EtcdStore::connect(&config).await else { continue };
        while !stop.load(Ordering::Relaxed) {
            let Ok(found) = store.leader().await else { break };
            if let Some(found) = found {
                longest = longest.max(since.elapsed());
                since = Instant::now();
                *leader.lock().unwrap() = names.iter().position(|url| *url == found.url).map(|at| at + 1);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    longest
}

/// Sums the counters that leaders have shown, over all terms.
async fn count(hosts: Vec<String>, stop: Arc<AtomicBool>) -> BTreeMap<String, u64> {
    let (mut sums, mut last) = (BTreeMap::<String, u64>::new(), vec![BTreeMap::<String, u64>::new(); hosts.len()]);
    while !stop.load(Ordering::Relaxed) {
        for (host, last) in hosts.iter().zip(&mut last) {
            let host = host.clone();
            let shown = tokio::task::spawn_blocking(move || counters(&host)).await.expect("asking does not fail");
            let Some(shown) = shown else { continue };
            // A counter that has become smaller has started again.
            for (name, value) in &shown {
                let before = last.get(name).copied().filter(|before| before <= value).unwrap_or(0);
                *sums.entry(name.clone()).or_default() += value - before;
            }
            *last = shown;
        }
        sleep(Duration::from_millis(200)).await;
    }
    sums
}

/// Reads the counters of a primary, if it leads and answers soon.
fn counters(host: &str) -> Option<BTreeMap<String, u64>> {
    use std::io::{Read, Write};
    let soon = Duration::from_millis(300);
    let mut stream = std::net::TcpStream::connect_timeout(&host.parse().ok()?, soon).ok()?;
    stream.set_read_timeout(Some(soon)).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let lines = answer.strip_prefix("HTTP/1.1 200")?.lines().filter(|line| line.starts_with("windlass_"));
    let counters = lines.filter_map(|line| line.rsplit_once(' ')).filter(|(name, _)| name.contains("_total"));
    Some(counters.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
}

async fn numbers(session: &Session, sql: &str) -> Result<Vec<Vec<i64>>, ClientError> {
    let batches = session.sql(sql).await?.collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<_> = batch.columns().iter().map(|column| column.as_primitive::<Int64Type>()).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row)).collect()));
    }
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_everything_fails() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let length = Duration::from_secs(setting("CHAOS_SECONDS").unwrap_or(60));
    let seed = setting("CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 0x9e37_79b9 + 1);
    let mut world = match World::start().await {
        Ok(world) => world,
        Err(reason) => {
            return crate::skipped::skipped(&format!(
                "this process may not make network namespaces: {}",
                reason.trim()
            ));
        }
    };
    println!("CHAOS_SEED={seed}, for {} s", length.as_secs());
    let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    // The reference runs first, because it uses all processors.
    TPCH.answered().await;
    if let Err(state) = world.at_rest().await {
        panic!("the cluster does not come up: {state}\n{}", world.logs());
    }
    let session = Client::connect(&world.url).await.expect("the cluster answers");
    TPCH.create_tables(&Over(session.clone())).await;
    session.sql("create table ledger (tag bigint, value bigint)").await.expect("a table can be made");

    let names: Vec<String> = world.url.split(',').map(str::to_owned).collect();
    let leader = Arc::new(Mutex::new(None));
    let hosts = (1..=PRIMARIES).map(|number| format!("{}:7078", world.machines[number].address)).collect();
    let counting = tokio::spawn(count(hosts, stop.clone()));
    let watching = tokio::spawn(watch_leader(world.etcd.clone(), names, leader.clone(), stop.clone()));
    let readers: Vec<_> =
        [0, 11].map(|first| tokio::spawn(read(world.url.clone(), first, tally.clone(), stop.clone()))).into();
    let writer = tokio::spawn(write(world.url.clone(), tally.clone(), stop.clone()));

    let (mut random, mut injected) = (Random(seed), BTreeMap::<Fault, u32>::new());
    let end = Instant::now() + length;
    // Each kind of fault once, in random order, and then random ones.
    let mut due: Vec<Fault> = FAULTS.to_vec();
    while Instant::now() < end {
        sleep(random.between(300, 2500)).await;
        let fault = if due.is_empty() {
            FAULTS[random.below(FAULTS.len())]
        } else {
            let at = random.below(due.len());
            due.swap_remove(at)
        };
        let at = *leader.lock().unwrap();
        println!("{fault:?}");
        *injected.entry(fault).or_default() += 1;
        inject(&mut world, fault, at, &mut random).await;
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("a reader does not fail");
    }
    let (done, open) = writer.await.expect("the writer does not fail");
    let leaderless = watching.await.expect("the watch does not fail");
    let counted = counting.await.expect("the count does not fail");
    if let Err(state) = world.at_rest().await {
        panic!("slots, memory, exchange data or executors did not come back: {state}\n{}", world.logs());
    }

    let session = Client::connect(&world.url).await.expect("the cluster answers");
    let ledger = numbers(&session, "select tag, count(*), count(distinct value) from ledger group by tag").await;
    let ledger: BTreeMap<i64, (i64, i64)> =
        ledger.expect("the ledger can be read").into_iter().map(|row| (row[0], (row[1], row[2]))).collect();
    for tag in done.iter().chain(&open) {
        let acknowledged = done.contains(tag);
        let found = if tag % 4 == 0 {
            let sql = format!("select count(*), count(distinct value) from piece_{tag}");
            match numbers(&session, &sql).await {
                Ok(rows) => Some((rows[0][0], rows[0][1])),
                Err(error) if error.to_string().contains("not found") => None,
                Err(error) => panic!("piece_{tag} cannot be read: {error}"),
            }
        } else {
            ledger.get(tag).copied()
        };
        match found {
            Some((ROWS, ROWS)) => {}
            None if !acknowledged => {}
            found => tally.complain(format!("write {tag}, acknowledged: {acknowledged}, has {found:?} rows")),
        }
    }
    assert!(ledger.keys().all(|tag| done.contains(tag) || open.contains(tag)), "rows that nobody wrote: {ledger:?}");

    let leaked = leaks::after_a_while(&world, &session).await;
    let wrong = tally.wrong.lock().unwrap();
    let repeated: u64 = tally.repeated.lock().unwrap().values().sum();
    println!("\n{:<46}{:>8}", "faults injected", injected.values().sum::<u32>());
    for (fault, times) in &injected {
        println!("  {:<44}{times:>8}", format!("{fault:?}"));
    }
    println!("{:<46}{:>8}", "queries answered", tally.queries.load(Ordering::Relaxed));
    println!("{:<46}{:>8}", "writes acknowledged", tally.writes.load(Ordering::Relaxed));
    println!("{:<46}{:>8}", "writes of unknown outcome", open.len());
    println!("{:<46}{repeated:>8}", "statements that failed");
    for (what, times) in tally.repeated.lock().unwrap().iter() {
        println!("  {times:>4} x {}", what.replace('\n', " "));
    }
    for (name, times) in &counted {
        let name = name.trim_start_matches("windlass_").replace("_total", "").replace('_', " ");
        println!("{name:<46}{times:>8}");
    }
    println!("{:<46}{:>8}", "leaked", leaked.values().sum::<usize>());
    for (what, count) in &leaked {
        println!("  {what:<44}{count:>8}");
    }
    println!("{:<46}{:>8}", "wrong answers, lost or doubled rows, hangs", wrong.len());
    println!(
        "{:<46}{:>8.1} s",
        "longest until a query was answered",
        tally.longest_ms.load(Ordering::Relaxed) as f64 / 1e3
    );
    println!("{:<46}{:>8.1} s", "longest time without a leader", leaderless.as_secs_f64());
    assert!(wrong.is_empty(), "{wrong:?}\n{}", world.logs());
    assert!(leaked.values().all(|count| *count == 0), "{leaked:?}\n{}", world.logs());
    assert!(world.dir.path().exists());
}
