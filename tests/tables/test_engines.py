"""Tables of Postgres, Spark and ibis are summed where they are, with the numbers of their rows."""

import glob
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import HierpoolError
from hierpool.reml.criterion import Criterion

FORMULA, COUNTED = "y ~ x + t + log(z) + center(x):t + (x | g)", "yes ~ wave + (1 | g)"
EVERY = [
    ("y ~ I(x > 50) + t + (1 | g)", {}),
    (FORMULA, {}),
    ("y ~ x + (1 | g)", {"weights": "z"}),
    (COUNTED, {"family": "bernoulli"}),
]
PORT = 54329


def table(n=2000):
    rng = np.random.default_rng(1)
    g, x = rng.integers(0, 20, n), rng.normal(50, 10, n)
    t, z = np.array(["a", "b", "c"])[rng.integers(0, 3, n)], rng.gamma(3.0, size=n) + 0.1
    y = 3 + 0.2 * x + (t == "b") + rng.normal(0, 1, 20)[g] + rng.normal(0, 2, n)
    yes = (y > 13).astype(int)
    columns = {"g": g, "t": t, "x": x, "z": z, "y": y, "yes": yes, "wave": rng.integers(0, 5, n)}
    columns["row"] = np.arange(n)
    return pd.DataFrame(columns)


ROWS = table()


def check(found, formula, given):
    """The same terms, groups and numbers as the rows: deviances at theta, and the optimum."""
    one, other = (hp.Model(formula, data, **given) for data in (found, ROWS))
    assert one.design.terms == other.design.terms
    assert list(one.design.groupings["g"].levels) == list(other.design.groupings["g"].levels)
    if "family" not in given:
        deviances = []
        for design in (one.design, other.design):
            criterion = Criterion.from_design(design, "REML")
            size = len(np.unique(criterion.free.whose))
            theta = np.random.default_rng(0).normal(size=(5, size)) * 0.3
            deviances.append(criterion.deviance(theta))
        np.testing.assert_allclose(*deviances, rtol=1e-13)
    fits = [model.ml() if "family" in given else model.reml() for model in (one, other)]
    np.testing.assert_allclose(fits[0].loglik, fits[1].loglik, rtol=1e-8)
    np.testing.assert_allclose(fits[0].estimate.beta, fits[1].estimate.beta, rtol=1e-6)


def check_predictions(found, path):
    """As many rows as the table, with the residuals that a fit of the rows has."""
    fit = hp.Model("y ~ x + t + (x | g)", ROWS).reml()
    assert hp.write_predictions(fit, found, path, keep=["y"]) == len(ROWS)
    written = pd.read_parquet(path).sort_values("y", ignore_index=True)
    expected = ROWS.assign(r=fit.residuals()).sort_values("y", ignore_index=True)
    np.testing.assert_allclose(written["residual"], expected["r"], atol=1e-9)


def check_row_scores(found):
    """The elpd of the rows, and differences, from the engine and a sample of all rows: then exact."""
    formulas, data = {"more": "y ~ x + t + (1 | g)", "less": "y ~ z + (1 | g)"}, ROWS[:400]
    memory, fits = (
        {k: hp.Model(f, rows).fit(seed=1, progress=False) for k, f in formulas.items()}
        for rows in (data, found)
    )
    scored = hp.loo_from_table(fits["more"], found, n_checked=400, progress=False)
    np.testing.assert_allclose(scored.elpd, memory["more"].loo().elpd, atol=0.01)
    expected, numbers = hp.compare(memory), ["elpd_diff", "dse", "elpd", "se"]
    compared = hp.compare(fits, table=found, n_checked=400, progress=False)
    np.testing.assert_allclose(compared[numbers], expected[numbers], rtol=1e-4, atol=0.02)


def check_missing(found):
    """A logarithm of zero, and a column that is not there."""
    with pytest.raises(HierpoolError, match="infinite-values"):
        hp.collect("y ~ log(wave) + (1 | g)", found, progress=False)
    with pytest.raises(HierpoolError, match="unknown-column"):
        hp.collect("y ~ nope + (1 | g)", found, progress=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_table_of_ibis_on_duckdb(tmp_path):
    ibis = pytest.importorskip("ibis")
    ROWS.to_parquet(tmp_path / "t.parquet")
    found = ibis.duckdb.connect().read_parquet(tmp_path / "t.parquet")
    for formula, given in EVERY:
        check(found, formula, given)
    check_missing(found)
    check_row_scores(found.filter(found["row"] < 400))
    check_predictions(found, tmp_path / "p.parquet")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """A server of its own, on a port of its own, with the table in it."""
    ibis = pytest.importorskip("ibis")
    pytest.importorskip("psycopg")
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    places += [place] if (place := shutil.which("initdb")) else []
    if not places:
        pytest.skip("no Postgres here: apt-get install postgresql")
    folder = tmp_path_factory.mktemp("postgres")
    pg_ctl, data = str(Path(places[-1]).with_name("pg_ctl")), str(folder / "data")

    def run(*words):
        # It does not run as root, and another run of pytest closes their common folder to others.
        if own == "root":
            for place in [folder, *folder.parents]:
                if str(place) in ("/", "/tmp"):
                    break
                place.chmod(0o755)
        as_user = ["runuser", "-u", "postgres", "--"] if Path("/root").owner() == own else []
        subprocess.run([*as_user, *words], check=True, capture_output=True, cwd=folder)

    own = folder.owner()
    if own == "root":
        shutil.chown(folder, "postgres")
    run(places[-1], "-D", data, "-U", "hierpool", "-A", "trust", "--no-sync")
    options = f"-p {PORT} -k {folder} -c fsync=off -c listen_addresses="
    run(pg_ctl, "-D", data, "-w", "-o", options, "-l", str(folder / "log"), "start")
    try:
        connection = ibis.postgres.connect(
            user="hierpool", host=str(folder), port=PORT, database="postgres"
        )
        connection.create_table("t", ROWS)
        yield connection.table("t")
        connection.disconnect()
    finally:
        run(pg_ctl, "-D", data, "-m", "immediate", "stop")


@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("formula", "given"), EVERY)
def test_a_table_of_postgres(postgres, formula, given):
    check(postgres, formula, given)


@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_values_and_predictions_of_postgres(postgres, tmp_path):
    check_missing(postgres)
    check_row_scores(postgres.filter(postgres.row < 400))
    check_predictions(postgres, tmp_path / "p.parquet")


@pytest.fixture(scope="module")
def spark():
    """A session in this process, with the table in seven parts at random."""
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("no Java here, which Spark needs: apt-get install default-jre-headless")
    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.mark.spark
@pytest.mark.filterwarnings("ignore")
def test_a_table_of_spark(spark, tmp_path):
    ROWS.to_parquet(tmp_path / "t.parquet")
    found = spark.read.parquet(str(tmp_path / "t.parquet")).repartition(7)
    for formula, given in EVERY:
        check(found, formula, given)
    check_missing(found)
    check_row_scores(found.filter(found["row"] < 400))
    check_predictions(found, tmp_path / "p.parquet")
