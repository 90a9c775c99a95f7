//! Benchmarks of Windlass. `make bench` runs them; docs/benchmarks.md keeps the results.

mod blockstore;
mod connectors;
mod exchange;
mod livy;
mod process;
mod scheduler;
mod tpch;

use clap::{Parser, Subcommand};

/// The allocator of the `windlass` binary, so that DataFusion alone is measured with the same one.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Benchmarks of Windlass. They print ratios and rates; slowness is never a failure.
#[derive(Parser)]
#[command(name = "windlass-bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// TPC-H on DataFusion alone, on Windlass embedded and on a cluster of processes, in alternating runs.
    Tpch(tpch::Options),
    /// TPC-H on a cluster of processes, from `wfs://` or S3 against local files, in alternating runs.
    TpchFiles(tpch::FilesOptions),
    /// One engine, queried over standard input and output: a process that `tpch` starts.
    #[command(hide = true)]
    Engine(tpch::EngineOptions),
    /// The scheduling machine: 1,000 executors, 200 jobs, 20,000 and 200,000 tasks.
    Scheduler,
    /// The exchange, in memory and in files.
    Exchange,
    /// Tables of PostgreSQL against psql and connectorx, of DynamoDB against boto3.
    Connectors(connectors::Options),
    /// Livy's REST: statements against Flight SQL, and 1,000 sessions under load.
    Livy(livy::Options),
    /// wfs:// against plain files and a socket, and its namespace.
    Blockstore(blockstore::Options),
}

fn main() {
    match Arguments::parse().command {
        Command::Tpch(options) => tpch::run(&options),
        Command::TpchFiles(options) => tpch::run_files(&options),
        Command::Engine(options) => tpch::serve(&options),
        Command::Scheduler => scheduler::run(),
        Command::Exchange => exchange::run(),
        Command::Connectors(options) => connectors::run(&options),
        Command::Livy(options) => livy::run(&options),
        Command::Blockstore(options) => blockstore::run(&options),
    }
}
