#!/usr/bin/env python3
"""Computes, without Sandbar, what the plugin must publish for a file of flights.

    expected.py flights.csv.gz            the alerts, one JSON object a line
    expected.py --keys flights.csv.gz     each line preceded by its key and a tab

Lines come in the order of the file, which is the order that each aircraft's alerts
must have. A line that is no flight is left out here and must be in the dead letters.
"""

import csv
import gzip
import json
import sys

THRESHOLD = 60


def known(text):
    return None if text in ("", "NA") else text


def minutes(text):
    return None if known(text) is None else int(text)


def alerts(rows):
    for row in rows:
        departure, arrival = minutes(row["dep_delay"]), minutes(row["arr_delay"])
        if not any(d is not None and d >= THRESHOLD for d in (departure, arrival)):
            continue
        hour, minute = divmod(int(row["sched_dep_time"]), 100)
        date = "{:04}-{:02}-{:02}".format(*(int(row[c]) for c in ("year", "month", "day")))
        yield {
            "aircraft": known(row["tailnum"]),
            "flight": row["carrier"] + row["flight"],
            "route": row["origin"] + "-" + row["dest"],
            "scheduled": f"{date}T{hour:02}:{minute:02}",
            "departure_delay": departure,
            "arrival_delay": arrival,
        }


def main():
    arguments = sys.argv[1:]
    keys = "--keys" in arguments
    [path] = [a for a in arguments if a != "--keys"]
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", newline="") as file:
        for alert in alerts(csv.DictReader(file)):
            line = json.dumps(alert, separators=(",", ":"), ensure_ascii=False)
            print(f"{alert['aircraft'] or ''}\t{line}" if keys else line)


if __name__ == "__main__":
    main()
