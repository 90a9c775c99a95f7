//! dbt: the adapter of client/dbt, and one that others wrote for Livy.

use crate::cluster::{Processes, cache, root};
use crate::oracle::whole;
use crate::python_package::{Installed, copy_folder, passes};
use std::path::Path;
use std::process::Command;

/// The Python package and the adapter.
fn installed() -> Installed {
    let installed = Installed::new();
    copy_folder(&root().join("client/dbt/dbt"), &installed.folder().join("dbt"));
    installed
}

/// dbt's own tests of adapters. `make oracles` runs all of them, `make test` those of materializations.
#[test]
fn dbts_own_tests_pass() {
    let (installed, cluster) = (installed(), Processes::start());
    let tests = installed.folder().join("tests");
    copy_folder(&root().join("client/dbt/tests"), &tests);
    let mut command = installed.program("dbt", "python");
    command.args(["-m", "pytest", "-n", "2", "--dist", "loadscope"]).current_dir(&tests);
    if !whole() {
        command.args(["test_basic.py", "test_incremental.py", "test_snapshots.py"]);
    }
    command.env("WINDLASS_URL", &cluster.url).env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false");
    passes(command);
}

/// A copy of the project in tests/data/dbt, and a target of its profile.
struct Project<'a> {
    folder: tempfile::TempDir,
    cluster: &'a Processes,
    target: &'static str,
    command: Box<dyn Fn() -> Command>,
}

impl Project<'_> {
    /// Runs dbt, and returns what it says.
    fn dbt(&self, arguments: &[&str]) -> String {
        let mut command = (self.command)();
        command
            .args(["--no-use-colors"])
            .args(arguments)
            .args(["--target", self.target])
            .current_dir(self.folder.path());
        command
            .env("WINDLASS_URL", &self.cluster.url)
            .env("LIVY_URL", &self.cluster.rest)
            .env("HOME", self.folder.path());
        command.env("DBT_PROFILES_DIR", self.folder.path()).env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false");
        let output = command.output().expect("dbt starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "dbt {arguments:?}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.path().join(file), text).expect("it can be written");
    }

    fn rows(&self, sql: &str) -> String {
        self.cluster.sql(&[sql]).expect("the tables are there")
    }
}

fn project<'a>(cluster: &'a Processes, target: &'static str, command: impl Fn() -> Command + 'static) -> Project<'a> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    copy_folder(&root().join("tests/data/dbt"), folder.path());
    Project { folder, cluster, target, command: Box::new(command) }
}

#[test]
fn a_project_is_built_again_and_again() {
    let (installed, cluster) = (installed(), Processes::start());
    let shop = project(&cluster, "windlass", move || installed.program("dbt", "dbt"));
    let said = shop.dbt(&["build"]);
    assert!(said.contains("PASS=13 WARN=0 ERROR=0"), "{said}");
    shop.write(
        "seeds/customers.csv",
        "id,name,city,joined\n1,Ada,Leeds,2024-01-03\n2,Bo,Malmö,2024-02-11\n3,Chidi,Lagos,2024-02-28\n",
    );
    let orders = "id,customer,day,amount\n10,1,2024-03-01,20.50\n11,1,2024-03-02,4.25\n12,2,2024-03-02,99.00\n\
                  13,3,2024-03-04,12.75\n14,3,2024-03-04,1.25\n15,1,2024-03-05,8.00\n";
    shop.write("seeds/orders.csv", orders);
    let said = shop.dbt(&["build"]);
    assert!(said.contains("PASS=13 WARN=0 ERROR=0"), "{said}");
    assert_eq!(shop.rows("select count(*) as n, max(id) as last from analytics.history"), "n,last\n6,15\n");
    assert_eq!(
        shop.rows("select * from analytics.totals order by day desc limit 2"),
        "day,amount\n2024-03-05,8.0\n2024-03-04,14.0\n"
    );
    let over_time =
        "select id, city, dbt_valid_to is null as valid from analytics.customers_over_time order by id, dbt_valid_from";
    assert_eq!(
        shop.rows(over_time),
        "id,city,valid\n1,London,false\n1,Leeds,true\n2,Malmö,true\n3,Lagos,true\n4,,false\n"
    );
    let said = shop.dbt(&["source", "freshness"]);
    assert!(said.contains("WARN freshness of shop.orders"), "{said}");
    shop.dbt(&["docs", "generate"]);
    let catalog = std::fs::read_to_string(shop.folder.path().join("target/catalog.json")).expect("it was generated");
    let catalog: serde_json::Value = serde_json::from_str(&catalog).expect("it is JSON");
    assert_eq!(catalog["nodes"]["model.shop.by_customer"]["columns"]["orders"]["type"], "bigint");
    assert_eq!(catalog["nodes"]["model.shop.paid"]["metadata"]["type"], "VIEW");
}

/// The cluster of a profile with a folder starts and ends with dbt; its tables stay.
#[test]
fn a_project_needs_no_cluster() {
    let (installed, folder) = (installed(), tempfile::tempdir().expect("a folder can be made"));
    copy_folder(&root().join("tests/data/dbt"), folder.path());
    let at = folder.path().join("cluster");
    let profile = format!(
        "shop:\n  target: here\n  outputs:\n    here: {{type: windlass, folder: '{}', schema: analytics}}\n",
        at.display()
    );
    std::fs::write(folder.path().join("profiles.yml"), profile).expect("it can be written");
    let dbt = |arguments: &[&str]| {
        let mut command = installed.program("dbt", "dbt");
        command.args(arguments).args(["--profiles-dir", "."]).current_dir(folder.path());
        command.env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false");
        let output = command.output().expect("dbt starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        said
    };
    dbt(&["seed"]);
    let said = dbt(&["show", "--inline", "select sum(amount) as total from {{ ref('orders') }}"]);
    assert!(said.contains("136.5"), "{said}");
    assert!(!has_processes(&at), "the cluster outlives dbt");
}

/// Whether a process has this path among its arguments.
fn has_processes(path: &Path) -> bool {
    let wanted = path.display().to_string();
    std::fs::read_dir("/proc").expect("there are processes").flatten().any(|process| {
        let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(&wanted)
    })
}

/// dbt-fabricspark, unchanged, against the calls of Livy.
#[test]
fn a_project_runs_over_livy() {
    let cluster = Processes::start();
    let dbt = cache().join("dbt/bin/dbt");
    assert!(dbt.is_file(), "{} is missing: run 'make data' first", dbt.display());
    let shop = project(&cluster, "livy", move || Command::new(&dbt));
    for (command, wanted) in [("seed", "PASS=2"), ("run", "PASS=3"), ("test", "PASS=6"), ("run", "PASS=3")] {
        let said = shop.dbt(&[command]);
        assert!(said.contains(&format!("{wanted} WARN=0 ERROR=0")), "{said}");
    }
    assert_eq!(shop.rows("select count(*) as n from analytics.history"), "n\n4\n");
    assert_eq!(shop.rows("select name from analytics.customers where id = 4"), "name\nO'Hara\n");
    shop.dbt(&["docs", "generate"]);
    let catalog = std::fs::read_to_string(shop.folder.path().join("target/catalog.json")).expect("it was generated");
    let catalog: serde_json::Value = serde_json::from_str(&catalog).expect("it is JSON");
    assert_eq!(catalog["nodes"]["model.shop.by_customer"]["columns"]["orders"]["type"], "bigint");
}
