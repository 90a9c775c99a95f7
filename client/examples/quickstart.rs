//! A complete program: it starts a cluster inside the process, or uses the one that you name.
//!
//!     cargo run -p windlass-client --example quickstart [-- grpc://127.0.0.1:7077]

use datafusion::functions_aggregate::expr_fn::{avg, count};
use datafusion::prelude::{col, lit};
use futures::StreamExt;
use windlass_client::{Client, EmbeddedOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let session = match std::env::args().nth(1) {
        Some(url) => Client::connect(&url).await?,
        None => Client::embedded(EmbeddedOptions::default()).await?,
    };

    // Statements for their effect.
    session.sql("create or replace table readings as select v % 7 as sensor, v * 0.5 as value from generate_series(1, 100000) as t(v)").update().await?;

    // Rows as a stream, with a parameter: memory use does not grow with the number of rows.
    let mut rows =
        session.sql("select sensor, value from readings where value > $least").param("least", 49_990.0).await?;
    let mut seen = 0;
    while let Some(batch) = rows.next().await {
        seen += batch?.num_rows();
    }
    println!("{seen} readings are large");

    // The DataFrame API: plans are built here and run on the cluster.
    let readings = session.table("readings").await?;
    readings
        .filter(col("value").gt(lit(10.0)))?
        .aggregate(vec![col("sensor")], vec![count(col("value")).alias("n"), avg(col("value")).alias("mean")])?
        .sort(vec![col("sensor").sort(true, false)])?
        .show()
        .await?;

    // A handle watches and cancels a statement while it runs.
    let statement = session.sql("select count(*) from readings a cross join readings b");
    let handle = statement.handle();
    let (outcome, ()) = tokio::join!(statement.execute(), async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        if let Err(error) = handle.cancel().await {
            eprintln!("cannot cancel: {error}");
        }
    });
    match outcome {
        Ok(_) => println!("the statement was quicker than we are"),
        Err(error) => println!("the statement ended: {error}"),
    }

    session.close().await?;
    Ok(())
}
