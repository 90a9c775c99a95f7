//! Statements that run without a client: reports about them, and ways to end them.

use crate::cluster::{Processes, run, windlass};
use std::time::{Duration, Instant};
use windlass_client::jobs::JobDetail;
use windlass_client::{JobId, JobState, Session};

const ENDLESS: &str =
    "select count(*) as n from generate_series(1, 10000000) a cross join generate_series(1, 1000000) b";

async fn submit(session: &Session, script: &str) -> JobId {
    session.submit(script, "nightly", &[]).await.unwrap_or_else(|error| panic!("{script} is not accepted: {error}"))
}

/// Waits until the submission is in the wanted state, and returns it.
async fn until(session: &Session, job: JobId, is_there: impl Fn(&JobDetail) -> bool) -> JobDetail {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let detail = session.job(job).await.expect("it is known");
        if is_there(&detail) {
            return detail;
        }
        assert!(Instant::now() < patience, "this is how far it comes: {detail:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ended(session: &Session, job: JobId) -> JobDetail {
    until(session, job, |detail| detail.summary.has_ended()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_ends_as_its_statements_do() {
    let cluster = Processes::start();
    let session = cluster.session().await;
    let job =
        submit(&session, "create table a as select 1 as x; set windlass.small_query_bytes = 0; select * from a").await;
    let detail = ended(&session, job).await;
    assert_eq!((detail.summary.state, detail.summary.error.as_str()), (JobState::Finished, ""));
    let submission = detail.submission.expect("it is a submission");
    let statements: Vec<u32> = submission.jobs.iter().map(|job| job.statement).collect();
    assert_eq!((submission.statements, submission.statement, statements), (3, 3, vec![1, 3]));
    let part = session.job(submission.jobs[1].job).await.expect("its job is known");
    assert_eq!((part.summary.part_of, part.summary.name.as_str()), (Some(job), "nightly (3 of 3)"));

    let url = cluster.url.clone();
    let said = run(windlass(&["jobs", "--url", &url, "wait", &job.to_string()])).expect("it has finished");
    assert_eq!(said.trim(), format!("{job} finished"));

    // The second statement cannot be planned, and never becomes a job.
    let job =
        submit(&session, "create table b as select 1 as x; select y from b; create table c as select 1 as x").await;
    let detail = ended(&session, job).await;
    assert_eq!(detail.summary.state, JobState::Failed);
    let said = run(windlass(&["jobs", "--url", &url, "wait", &job.to_string()])).expect_err("it has failed");
    assert!(said.contains("statement 2 of 3"), "{said}");
    let error = &detail.summary.error;
    assert!(error.starts_with("statement 2 of 3: column 'y' not found"), "{error}");
    assert!(session.sql("select * from c").await.is_err(), "what comes after the first that fails does not run");
    let log = session.job_logs(job).await.expect("it has a log").join("\n");
    for line in ["statement 2 of 3: select y from b", ": stage 0 finished", "failed: statement 2 of 3: column 'y'"] {
        assert!(log.contains(line), "{line} is not in: {log}");
    }

    // None of them needs a job.
    let job = submit(&session, "create view v as select 1 as x; drop view v").await;
    let detail = ended(&session, job).await;
    assert_eq!((detail.summary.state, detail.summary.tasks), (JobState::Finished, 0));

    // An error before anything runs is returned at once, and the submission is listed too.
    let error = session.submit("select y from a", "nightly", &[]).await.expect_err("there is no such column");
    assert!(error.to_string().contains("column 'y' not found"), "{error}");
    let jobs = session.jobs(1).await.expect("jobs are listed");
    assert_eq!(jobs[0].state, JobState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_submission_ends_the_statement_that_it_is_at_and_the_rest() {
    let cluster = Processes::start();
    let session = cluster.session().await;
    let script = format!("create table a as select 1 as x; {ENDLESS}; create table b as select 1 as x");
    let job = submit(&session, &script).await;
    let detail = until(&session, job, |detail| detail.submission.as_ref().is_some_and(|of| of.jobs.len() == 2)).await;
    assert_eq!(detail.summary.state, JobState::Running);
    let url = cluster.url.clone();
    let said = run(windlass(&["jobs", "--url", &url, "cancel", &job.to_string()])).expect("it can be cancelled");
    assert_eq!(said.trim(), format!("{job} cancelled"));
    let parts = detail.submission.expect("it is a submission").jobs;
    let part = session.job(parts[1].job).await.expect("its job is known");
    assert_eq!(part.summary.state, JobState::Cancelled);
    cluster.at_rest().await;
    assert!(session.sql("select * from b").await.is_err(), "the rest does not run");
    let shown = run(windlass(&["jobs", "--url", &url, "show", &job.to_string()])).expect("it can be shown");
    for line in [format!("{job} cancelled: statement 2 of 3"), format!("{} finished", parts[0].job)] {
        assert!(shown.contains(&line), "{line} is not in: {shown}");
    }

    // Cancelling one of its jobs ends it too.
    let job = submit(&session, &format!("{ENDLESS}; create table b as select 1 as x")).await;
    let detail = until(&session, job, |detail| detail.submission.as_ref().is_some_and(|of| of.jobs.len() == 1)).await;
    session.cancel_job(detail.submission.expect("it is a submission").jobs[0].job).await.expect("it can be cancelled");
    assert_eq!(ended(&session, job).await.summary.state, JobState::Cancelled);
    cluster.at_rest().await;
}
