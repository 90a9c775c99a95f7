//! What the namespace is set up with.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WfsConfig {
    /// Replicas of files whose writers and folders ask for nothing else.
    pub replication: u8,
    pub block_bytes: u64,
    /// Replicas of every block that are durable before a file is complete, if the cluster has as many executors and the file wants as many.
    pub min_replicas: u8,
    /// A writer that is silent for so long has given up.
    pub lease: Duration,
    /// How long an executor may be away before its replicas are made again elsewhere; blocks with one replica left do not wait.
    pub repair_after: Duration,
    /// Copies at a time to an executor, and from one.
    pub copies: u32,
    /// A copy that takes longer is begun again elsewhere.
    pub copy_timeout: Duration,
    /// After a start, upkeep waits for executors to come back: until nearly all blocks have a replica, and so much longer.
    pub settle: Duration,
    /// Longer than this it does not wait.
    pub settle_limit: Duration,
    /// How long the replicas of a removed file stay for those who are reading it.
    pub grace: Duration,
    /// How long what is moved to the trash can be had back.
    pub trash: Duration,
    /// A file that is so old is cold: where its folder asks for that, its blocks are cut into pieces.
    pub code_after: Duration,
    /// Seed of the choices among equal places.
    pub seed: u64,
}

impl Default for WfsConfig {
    fn default() -> Self {
        WfsConfig {
            replication: 3,
            block_bytes: 128 << 20,
            min_replicas: 2,
            lease: Duration::from_secs(300),
            repair_after: Duration::from_secs(30),
            copies: 2,
            copy_timeout: Duration::from_secs(300),
            settle: Duration::from_secs(10),
            settle_limit: Duration::from_secs(120),
            grace: Duration::from_secs(30),
            trash: Duration::from_secs(24 * 3_600),
            code_after: Duration::from_secs(3_600),
            seed: 0,
        }
    }
}
