//! Passes: an executor gives the map outputs and results of a job to any bearer of a pass for it. Access to blocks needs a ticket ([`crate::ticket`]).
//!
//! A pass is signed with the key of the cluster, a secret in the metadata store that executors receive when they join. Primaries sign passes for clients;
//! executors and primaries sign one for each request that they make to executors. Job ids can be guessed by counting; passes cannot be forged.
//!
//! The signature is BLAKE3 in its keyed mode (github.com/BLAKE3-team/BLAKE3-specs), a message authentication code like HMAC.

use crate::v1;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use windlass_core::access::Principal;
use windlass_core::ids::{AttemptId, JobId};

/// Context of the signature, so that it is not valid for anything else.
const CONTEXT: &[u8] = b"windlass pass: outputs of a job";
/// Validity of passes for requests of executors and primaries. Clocks of machines may differ by less.
pub(crate) const REQUEST: Duration = Duration::from_secs(3_600);

/// The key of a cluster: its processes sign passes and tickets with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClusterKey([u8; 32]);

impl ClusterKey {
    pub const LENGTH: usize = 32;

    pub fn new(bytes: [u8; Self::LENGTH]) -> Self {
        ClusterKey(bytes)
    }

    /// Creates a key from its bytes; `None` unless there are 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(ClusterKey)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Signs bytes under `context`. No context may be the beginning of another one.
    pub(crate) fn mac_of(&self, context: &[u8], signed: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.0).update(context).update(signed).finalize()
    }

    fn mac(&self, job: u64, principal: &str, expires_ms: u64) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(CONTEXT).update(&job.to_le_bytes()).update(&expires_ms.to_le_bytes());
        hasher.update(principal.as_bytes()).finalize()
    }
}

/// Hides the key.
impl fmt::Debug for v1::Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v1::Welcome { executor, heartbeat_ms, .. } = self;
        f.debug_struct("Welcome")
            .field("executor", executor)
            .field("heartbeat_ms", heartbeat_ms)
            .finish_non_exhaustive()
    }
}

/// Hides the key.
impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(…)")
    }
}

/// Holder of the key, which a process may learn later. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    key: Arc<RwLock<Option<ClusterKey>>>,
    /// Milliseconds by which its clock is ahead, for tests.
    ahead_ms: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PassError {
    #[error("this process has no key yet: it has not joined a cluster")]
    NoKey,
    #[error("no pass was shown for {0}: results are read with the tickets that the primary gives out")]
    Missing(JobId),
    #[error("the pass is not one of this cluster for {0}")]
    Wrong(JobId),
    #[error("the time of the pass for {0} is over: run the statement again")]
    Expired(JobId),
}

impl From<PassError> for tonic::Status {
    fn from(error: PassError) -> Self {
        match error {
            PassError::NoKey => tonic::Status::unavailable(error.to_string()),
            PassError::Missing(_) | PassError::Wrong(_) | PassError::Expired(_) => {
                tonic::Status::permission_denied(error.to_string())
            }
        }
    }
}

impl KeyRing {
    pub fn new(key: ClusterKey) -> Self {
        let ring = KeyRing::default();
        ring.set(key);
        ring
    }

    pub fn set(&self, key: ClusterKey) {
        // Nothing panics while the lock is held.
        *self.key.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(key);
    }

    pub fn key(&self) -> Option<ClusterKey> {
        *self.key.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Moves its clock, and that of its clones, ahead: for tests of expiry.
    pub fn jump(&self, by: Duration) {
        self.ahead_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub(crate) fn now_ms(&self) -> u64 {
        now_ms() + self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Signs a pass for the outputs of `job`. Empty when there is no key yet.
    pub fn sign(&self, job: JobId, principal: &Principal, valid: Duration) -> Bytes {
        let Some(key) = self.key() else { return Bytes::new() };
        let (principal, expires_ms) = (principal.name().to_string(), self.now_ms() + valid.as_millis() as u64);
        let mac = key.mac(job.0, &principal, expires_ms);
        v1::Pass { job: job.0, principal, expires_ms, mac: mac.as_bytes().to_vec().into() }.encode_to_vec().into()
    }

    /// Signs a pass for a request that this process makes at present.
    pub fn sign_request(&self, job: JobId) -> Bytes {
        self.sign(job, &Principal::anonymous(), REQUEST)
    }

    /// Returns the principal of `pass`, if it is valid for `job`.
    ///
    /// # Errors
    /// The pass is missing, not signed with the key, for another job, or expired.
    pub fn check(&self, pass: &[u8], job: JobId) -> Result<Principal, PassError> {
        self.check_at(pass, job, self.now_ms())
    }

    /// Checks a pass like [`KeyRing::check`] for the jobs of all `outputs`: a pass names one job.
    ///
    /// # Errors
    /// The pass is not valid for each of them.
    pub fn check_outputs(&self, pass: &[u8], outputs: impl IntoIterator<Item = AttemptId>) -> Result<(), PassError> {
        let jobs: BTreeSet<JobId> = outputs.into_iter().map(|output| output.job()).collect();
        jobs.into_iter().try_for_each(|job| self.check(pass, job).map(drop))
    }

    fn check_at(&self, pass: &[u8], job: JobId, now_ms: u64) -> Result<Principal, PassError> {
        let key = self.key().ok_or(PassError::NoKey)?;
        if pass.is_empty() {
            return Err(PassError::Missing(job));
        }
        let v1::Pass { job: of, principal, expires_ms, mac } =
            v1::Pass::decode(pass).map_err(|_| PassError::Wrong(job))?;
        let mac: [u8; 32] = mac.as_ref().try_into().map_err(|_| PassError::Wrong(job))?;
        // The comparison takes constant time.
        if of != job.0 || key.mac(of, &principal, expires_ms) != mac {
            return Err(PassError::Wrong(job));
        }
        match expires_ms > now_ms {
            true => Ok(Principal::user(principal)),
            false => Err(PassError::Expired(job)),
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId(7);

    fn ring(byte: u8) -> KeyRing {
        KeyRing::new(ClusterKey::from_bytes(&[byte; 32]).unwrap())
    }

    #[test]
    fn a_pass_is_for_its_job_and_its_time_and_its_cluster() {
        let (ring, ann) = (ring(1), Principal::user("ann"));
        let pass = ring.sign(JOB, &ann, Duration::from_secs(10));
        assert_eq!(ring.check(&pass, JOB), Ok(ann.clone()));
        assert_eq!(ring.check(&pass, JobId(8)), Err(PassError::Wrong(JobId(8))));
        assert_eq!(ring.check_at(&pass, JOB, now_ms() + 11_000), Err(PassError::Expired(JOB)));
        assert_eq!(super::tests::ring(2).check(&pass, JOB), Err(PassError::Wrong(JOB)));
        assert_eq!(ring.check(&[], JOB), Err(PassError::Missing(JOB)));
        assert_eq!(ring.check(b"nonsense", JOB), Err(PassError::Wrong(JOB)));
        assert_eq!(KeyRing::default().check(&pass, JOB), Err(PassError::NoKey));
    }

    #[test]
    fn no_field_of_a_pass_can_be_changed() {
        let ring = ring(1);
        let pass = v1::Pass::decode(ring.sign(JOB, &Principal::user("ann"), Duration::from_secs(10))).unwrap();
        let later = v1::Pass { expires_ms: pass.expires_ms + 1, ..pass.clone() };
        let another = v1::Pass { principal: "bob".into(), ..pass.clone() };
        let of_another_job = v1::Pass { job: 8, ..pass.clone() };
        let short = v1::Pass { mac: pass.mac.slice(..31), ..pass };
        for (changed, job) in [(later, JOB), (another, JOB), (of_another_job, JobId(8)), (short, JOB)] {
            assert_eq!(ring.check(&changed.encode_to_vec(), job), Err(PassError::Wrong(job)));
        }
        let welcome = v1::Welcome { key: Bytes::from_static(&[201; 32]), ..v1::Welcome::default() };
        let message = v1::PrimaryMessage { message: Some(v1::primary_message::Message::Welcome(welcome)) };
        for shown in [format!("{ring:?}"), format!("{message:?}"), format!("{message:#?}")] {
            assert!(!shown.contains("201") && !shown.contains("\\xc9") && !shown.contains('1'), "{shown}");
        }
    }
}
