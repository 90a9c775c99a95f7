"""Airflow's operator and sensor for Livy, in DAGs that its own command runs.

    livy_airflow.py REST FOLDER    REST of the cluster, and an empty folder
"""

import os
import pathlib
import subprocess
import sys

DAGS = '''
from datetime import datetime

from airflow.providers.apache.livy.operators.livy import LivyOperator
from airflow.providers.apache.livy.sensors.livy import LivySensor
from airflow.sdk import DAG

COMMON = dict(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)

with DAG("good", **COMMON):
    run = LivyOperator(
        task_id="run", file="{folder}/good.sql", args=["7"], name="from airflow", polling_interval=1,
        conf={{"spark.executor.instances": "2", "spark.sql.session.timeZone": "Europe/Berlin"}},
    )
    start = LivyOperator(task_id="start", file="{folder}/other.sql", polling_interval=0)
    watch = LivySensor(task_id="watch", batch_id="{{{{ ti.xcom_pull('start') }}}}", poke_interval=1)
    defer = LivyOperator(task_id="defer", file="{folder}/other.sql", polling_interval=1, deferrable=True)
    run >> start >> watch >> defer

for name, deferrable in [("bad", False), ("bad_deferred", True)]:
    with DAG(name, **COMMON):
        LivyOperator(task_id="run", file="{folder}/bad.sql", polling_interval=1, deferrable=deferrable, retries=0)
'''

SCRIPTS = {
    "good.sql": "CREATE TABLE from_airflow AS SELECT CAST($1 AS INT) AS n; INSERT INTO from_airflow VALUES (8);",
    "other.sql": "SELECT count(*) FROM from_airflow;",
    "bad.sql": "SELECT 1; SELECT nosuch FROM from_airflow;",
}


def main() -> None:
    rest, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    home = folder / "airflow"
    (home / "dags").mkdir(parents=True)
    (home / "dags" / "dags.py").write_text(DAGS.format(folder=folder))
    for name, sql in SCRIPTS.items():
        (folder / name).write_text(sql)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_LIVY_DEFAULT": rest,
    }

    def airflow(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(pathlib.Path(sys.executable).with_name("airflow")), *arguments]
        return subprocess.run(command, env=environment, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    for arguments in [("db", "migrate"), ("dags", "reserialize")]:
        prepared = airflow(*arguments)
        assert prepared.returncode == 0, prepared.stdout
    good = airflow("dags", "test", "good")
    assert good.returncode == 0 and "statement 2 of 2" in good.stdout, good.stdout
    for name in ["bad", "bad_deferred"]:
        bad = airflow("dags", "test", name)
        assert bad.returncode != 0 and "nosuch" in bad.stdout, bad.stdout
    print("airflow: ok")


main()
