"""Sends each line of standard input as a log record with the OpenTelemetry SDK.

Usage: otel.py grpc|http ENDPOINT
"""

import sys

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

protocol, endpoint = sys.argv[1:]
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

    exporter = OTLPLogExporter(endpoint=endpoint, insecure=True)
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    exporter = OTLPLogExporter(endpoint=endpoint)

provider = LoggerProvider(resource=Resource.create({"service.name": "audit-forwarder"}))
provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_export_batch_size=100))
logger = provider.get_logger("audit")
for line in sys.stdin:
    logger.emit(body=line.rstrip("\n"))
provider.shutdown()
