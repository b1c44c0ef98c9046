#!/usr/bin/env python3
"""Multiplies a small capture of CloudTrail: so many records, NDJSON, on standard output.

    multiply.py FOLDER RECORDS > capture.json

Each copy of a record has an id, a time, a principal and a credential of its own: after every round
through the capture its users, roles and keys are others and its times a second later.
"""

import gzip
import itertools
import json
import pathlib
import re
import sys
import uuid

# A user, a role, a session, and what follows its name in an ARN.
NAMES = re.compile(r'((?:user|role|assumed-role)/)([^"/]+)')
KEYS = re.compile(r'\b((?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{8})[A-Z0-9]{8}\b')
TIMES = re.compile(r'"eventTime":"(\d{4}-\d\d-\d\dT)(\d\d):(\d\d):(\d\d)Z"')


def records(folder):
    for path in sorted(pathlib.Path(folder).rglob("*.json*")):
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        try:
            document = json.loads(data)
        except ValueError:
            continue
        yield from document.get("Records", []) if isinstance(document, dict) else []


def main():
    folder, wanted = sys.argv[1], int(sys.argv[2])
    lines = [json.dumps(record, separators=(",", ":")) for record in records(folder)]
    if not lines:
        sys.exit(f"no CloudTrail records below `{folder}`")
    for number, line in enumerate(itertools.islice(itertools.cycle(lines), wanted)):
        turn = number // len(lines)
        # An odd factor gives each number another id, spread like a hash.
        event_id = uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128))
        line = re.sub(r'"eventID":"[^"]*"', f'"eventID":"{event_id}"', line)
        if turn:
            line = NAMES.sub(rf"\g<1>\g<2>-{turn}", line)
            line = KEYS.sub(lambda key: f"{key[1]}{turn:08X}", line)
            hour, minute, second = turn // 3600 % 24, turn // 60 % 60, turn % 60
            line = TIMES.sub(rf'"eventTime":"\g<1>{hour:02}:{minute:02}:{second:02}Z"', line)
        print(line)


main()
