#!/usr/bin/env python3
"""Delays per origin from a CSV file of flights, as JSON: an independent check of the flights job.

usage: check.py FILE.csv[.gz]
"""
import csv
import gzip
import json
import sys
from collections import defaultdict

LATE = 15  # minutes above which a flight counts as delayed


def delays_by_origin(path):
    """All delays of each origin, sorted."""
    opener = gzip.open if path.endswith(".gz") else open
    delays = defaultdict(list)
    with opener(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            delays[row["origin"]].append(int(row["delay"]))
    return {origin: sorted(found) for origin, found in delays.items()}


def nearest_rank(ordered, percent):
    """The smallest value that at least so many percent of all do not exceed."""
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[rank - 1]


def summary(origin, ordered):
    count = len(ordered)
    return {
        "origin": origin,
        "flights": count,
        "mean_delay": sum(ordered) / count,
        "delayed_share": sum(1 for d in ordered if d > LATE) / count,
        "p95": nearest_rank(ordered, 95),
    }


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    by_origin = delays_by_origin(sys.argv[1])
    json.dump([summary(o, by_origin[o]) for o in sorted(by_origin)], sys.stdout, indent=0)
    print()


if __name__ == "__main__":
    main()
