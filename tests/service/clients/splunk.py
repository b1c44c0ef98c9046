"""Logs each line of standard input through splunk-handler, which posts to Splunk's HTTP Event Collector.

Usage: splunk.py PORT
"""

import logging
import sys

from splunk_handler import SplunkHandler

handler = SplunkHandler(
    host="127.0.0.1",
    port=int(sys.argv[1]),
    token="00000000-0000-4000-8000-000000000000",
    index="main",
    protocol="http",
    verify=False,
)
logger = logging.getLogger("audit")
logger.setLevel(logging.INFO)
logger.propagate = False
logger.addHandler(handler)
for line in sys.stdin:
    logger.info("%s", line.rstrip("\n"))
handler.shutdown()
