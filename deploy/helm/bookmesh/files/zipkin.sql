-- What Zipkin's MySQL storage needs; MariaDB runs this each time it starts, so that each statement may find its work done.
-- Columns are as Zipkin's own schema has them. Keys are fewer: those that its queries use, as each costs at every span.
CREATE TABLE IF NOT EXISTS zipkin_spans (
  trace_id_high BIGINT NOT NULL DEFAULT 0,
  trace_id BIGINT NOT NULL,
  id BIGINT NOT NULL,
  name VARCHAR(255) NOT NULL,
  remote_service_name VARCHAR(255),
  parent_id BIGINT,
  debug BIT(1),
  start_ts BIGINT,
  duration BIGINT,
  PRIMARY KEY (trace_id_high, trace_id, id),
  KEY (name),
  KEY (remote_service_name),
  KEY (start_ts)
);
CREATE TABLE IF NOT EXISTS zipkin_annotations (
  trace_id_high BIGINT NOT NULL DEFAULT 0,
  trace_id BIGINT NOT NULL,
  span_id BIGINT NOT NULL,
  a_key VARCHAR(255) NOT NULL,
  a_value BLOB,
  a_type INT NOT NULL,
  a_timestamp BIGINT NOT NULL DEFAULT 0,
  endpoint_ipv4 INT,
  endpoint_ipv6 BINARY(16),
  endpoint_port SMALLINT,
  endpoint_service_name VARCHAR(255),
  PRIMARY KEY (trace_id_high, trace_id, span_id, a_key, a_timestamp),
  KEY (endpoint_service_name)
);
CREATE TABLE IF NOT EXISTS zipkin_dependencies (
  day DATE NOT NULL,
  parent VARCHAR(255) NOT NULL,
  child VARCHAR(255) NOT NULL,
  call_count BIGINT,
  error_count BIGINT,
  PRIMARY KEY (day, parent, child)
);
-- Zipkin deletes nothing. Once a minute the oldest spans go, and what belongs to them, before the volume is full.
CREATE OR REPLACE DEFINER = root@localhost EVENT oldest_spans_go ON SCHEDULE EVERY 1 MINUTE DO
  DELETE span, annotation
  FROM (SELECT start_ts FROM zipkin_spans ORDER BY start_ts DESC LIMIT 1 OFFSET SPANS) AS last
  JOIN zipkin_spans AS span ON span.start_ts <= last.start_ts
  LEFT JOIN zipkin_annotations AS annotation
    ON annotation.trace_id_high = span.trace_id_high AND annotation.trace_id = span.trace_id AND annotation.span_id = span.id;
