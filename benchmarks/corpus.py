"""Runs over real corpora: killed at random moments, and their memory.

    OMP_NUM_THREADS=1 python benchmarks/corpus.py kills --data DATA --kills 10
    OMP_NUM_THREADS=1 python benchmarks/corpus.py memory --data DATA

DATA is a folder with sst2/dev.tsv, ag_news/test.tsv and sst2/glue_train_phrases.tsv, tables with
columns text and label. Read next: `corpus_speed`.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq

ROWS = 16  # of a shard


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("kills", "memory"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--texts", type=int, default=20_000, help="of `memory`")
    args = parser.parse_args()
    {"kills": kills, "memory": memory}[args.what](args)


def command(source, out):
    """The command that explains a table of texts."""
    run = [sys.executable, "-m", "attnflow", "corpus", str(source), "--out", str(out)]
    return [*run, "--label", "label", "--shard-rows", str(ROWS), "--quiet"]


def head(file, to, count):
    """Write the first texts of a table into another file, and return it."""
    with open(file, encoding="utf-8") as lines, open(to, "w", encoding="utf-8") as kept:
        kept.writelines(islice(lines, count + 1))
    return to


def kills(args):
    """Kill runs at random moments, and compare what they end with with an unbroken run."""
    draw = random.Random(args.seed)
    for name, file, count in (
        ("SST-2", args.data / "sst2" / "dev.tsv", 872),
        ("AG News", args.data / "ag_news" / "test.tsv", 2000),
    ):
        with tempfile.TemporaryDirectory() as folder:
            source = head(file, Path(folder) / "texts.tsv", count)
            whole, broken = Path(folder) / "whole", Path(folder) / "broken"
            begin = time.perf_counter()
            subprocess.run(command(source, whole), check=True)
            seconds = time.perf_counter() - begin
            print(f"{name}: {count} texts, {seconds:.0f} s unbroken", flush=True)
            for left in range(args.kills, 0, -1):
                there = shards_of(broken)
                # So many more shards, at most, that about as many are left to each later kill.
                more = draw.randint(0, 2 * (count // ROWS - there) // left)
                state = killed(source, broken, there + more, draw.random())
                print(f"  kill {args.kills + 1 - left}: {state}", flush=True)
            subprocess.run(command(source, broken), check=True)
            print(f"  {compared(whole, broken)}", flush=True)


def killed(source, out, shards, more):
    """Start the run, kill its first process some seconds after so many shards, and tell how far."""
    running = subprocess.Popen(command(source, out))
    while running.poll() is None and shards_of(out) < shards:
        time.sleep(0.01)
    try:
        running.wait(more)
        state = f"it was done, exit code {running.returncode}"
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGKILL)
        running.wait()
        state = "killed"
    return f"{state}, {shards_of(out)} shards are there"


def shards_of(out):
    """Return the number of shards of a run."""
    return len(list((out / "shards").glob("*.parquet")))


def compared(whole, broken):
    """Tell whether two runs have the same rows, in every column but the seconds."""
    first, second = (rows_of(folder) for folder in (whole, broken))
    ids = [row.column("id").to_pylist() for row in (first, second)]
    if len(set(ids[1])) < len(ids[1]):
        return "DIFFERENT: an id is there twice"
    if ids[0] != ids[1]:
        return f"DIFFERENT: {len(ids[0])} rows and {len(ids[1])}"
    different = [n for n in first.column_names if first.column(n) != second.column(n)]
    same = f"{len(ids[0])} rows, the same in all {len(first.column_names)} columns but seconds"
    return f"DIFFERENT: {different}" if different else same


def rows_of(folder):
    """Return all rows of a run, sorted by id, without the seconds that they took."""
    table = pq.ParquetDataset(folder / "shards").read()
    return table.sort_by("id").drop_columns("seconds").unify_dictionaries().combine_chunks()


def memory(args):
    """Explain many short texts in one run, and print the memory of its processes as it goes on."""
    with tempfile.TemporaryDirectory() as folder:
        file = args.data / "sst2" / "glue_train_phrases.tsv"
        source = head(file, Path(folder) / "texts.tsv", args.texts)
        out = Path(folder) / "out"
        running = subprocess.Popen([*command(source, out), "--shard-rows", "500"])
        begin, most = time.perf_counter(), 0
        print("seconds  shards  MB of all processes")
        while running.poll() is None:
            time.sleep(1)
            shards = shards_of(out)
            if shards >= most + max(1, args.texts // 5000):
                most = shards
                megabytes = [resident(pid) for pid in family(running.pid)]
                print(
                    f"{time.perf_counter() - begin:7.0f}  {shards:6}  "
                    + " + ".join(f"{each:.0f}" for each in megabytes),
                    flush=True,
                )
        print(f"exit code {running.returncode}, {rows_of(out).num_rows} rows")


def family(pid):
    """Return a process and those below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def resident(pid):
    """Return a process's resident memory in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
    return found[0] / 1000 if found else 0


if __name__ == "__main__":
    main()
