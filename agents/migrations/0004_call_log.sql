-- Partitions are made by agents_partition(table, day, unit): "unit" is 'day' or 'month', days are those of UTC. One is made
-- apart, takes over what lies of its time in the table's `_odd` partition, and is then attached: the table can be read
-- and written all the while. True: it is new.
CREATE FUNCTION agents_partition(parent text, day date, unit text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  first timestamptz := date_trunc(unit, day::timestamp) AT TIME ZONE 'UTC';
  next timestamptz := (date_trunc(unit, day::timestamp) + ('1 ' || unit)::interval) AT TIME ZONE 'UTC';
  name text := parent || '_' || to_char(date_trunc(unit, day::timestamp), 'YYYYMMDD');
  odd text := parent || '_odd';
  clock text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('agents_partition'));
  IF to_regclass(name) IS NOT NULL THEN
    RETURN false;
  END IF;
  SELECT attname INTO clock FROM pg_partitioned_table JOIN pg_attribute ON attrelid = partrelid AND attnum = partattrs[0]
    WHERE partrelid = parent::regclass;
  EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name, parent);
  EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', odd);
  EXECUTE format('WITH moved AS (DELETE FROM %1$I WHERE %2$I >= %3$L AND %2$I < %4$L RETURNING *) '
    'INSERT INTO %5$I SELECT * FROM moved', odd, clock, first, next, name);
  EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, first, next);
  RETURN true;
END $$;

ALTER TABLE agents_call RENAME TO agents_call_plain;
CREATE TABLE agents_call (LIKE agents_call_plain INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (at);
CREATE SEQUENCE agents_call_number OWNED BY agents_call.id;
ALTER TABLE agents_call ALTER COLUMN id SET DEFAULT nextval('agents_call_number');
ALTER TABLE agents_call
  ADD COLUMN charged_nano bigint NOT NULL DEFAULT 0,
  ADD COLUMN largest_nano bigint,
  ADD COLUMN rule varchar(80) NOT NULL DEFAULT '',
  ADD COLUMN price_version varchar(40) NOT NULL DEFAULT '',
  ADD COLUMN error_class varchar(20) NOT NULL DEFAULT '';

-- Latency histograms are vectors, since those add up in C: one count in the bucket of `ms`, 0 elsewhere, all `times`. Bucket
-- 0 is below 1 ms, then each is 10 % wider than the one before, and the last begins at ten minutes. An attempt that took no
-- time (a question that was refused, an estimate by expiry) is in none.
CREATE FUNCTION agents_latencies(ms double precision, times integer) RETURNS vector
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (array_fill(0::real, ARRAY[bucket]) || CASE WHEN ms > 0 THEN times ELSE 0 END::real
      || array_fill(0::real, ARRAY[141 - bucket]))::vector
    FROM (SELECT CASE WHEN ms < 1 THEN 0 ELSE least(141, 1 + floor(ln(ms) / ln(1.1::double precision)))::integer END)
      AS found (bucket)
  $$;

CREATE TABLE agents_callminute (
  id bigint NOT NULL, start timestamptz NOT NULL,
  agent varchar(50) NOT NULL, channel varchar(110) NOT NULL, scope varchar(170) NOT NULL, release varchar(70) NOT NULL,
  provider varchar(50) NOT NULL, model varchar(120) NOT NULL, tier varchar(20) NOT NULL, purpose varchar(10) NOT NULL,
  key_prefix varchar(20) NOT NULL, status varchar(12) NOT NULL,
  calls bigint NOT NULL, unpriced bigint NOT NULL, estimated bigint NOT NULL, input_tokens bigint NOT NULL,
  cached_tokens bigint NOT NULL, output_tokens bigint NOT NULL, cost_nano bigint NOT NULL, charged_nano bigint NOT NULL,
  compared_nano bigint NOT NULL, largest_nano bigint NOT NULL, latency_ms double precision NOT NULL,
  latencies vector(142) NOT NULL
) PARTITION BY RANGE (start);
CREATE TABLE agents_callhour (LIKE agents_callminute) PARTITION BY RANGE (start);
CREATE SEQUENCE agents_callminute_number OWNED BY agents_callminute.id;
CREATE SEQUENCE agents_callhour_number OWNED BY agents_callhour.id;
ALTER TABLE agents_callminute ALTER COLUMN id SET DEFAULT nextval('agents_callminute_number');
ALTER TABLE agents_callhour ALTER COLUMN id SET DEFAULT nextval('agents_callhour_number');
ALTER TABLE agents_callminute ADD CONSTRAINT agents_callminute_once
  UNIQUE (start, scope, model, status, key_prefix, release, tier, purpose, provider, agent, channel);
ALTER TABLE agents_callhour ADD CONSTRAINT agents_callhour_once
  UNIQUE (start, scope, model, status, key_prefix, release, tier, purpose, provider, agent, channel);

-- Adds the rows of the transition table "rows" to both sums (1), or takes them away again (-1).
CREATE FUNCTION agents_call_summed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  times integer := TG_ARGV[0]::integer;
BEGIN
  WITH minutes AS (
    SELECT date_trunc('minute', at, 'UTC') AS start,
      agent, channel, scope, release, provider, model, tier, purpose, key_prefix, status,
      times * count(*) AS calls,
      times * count(*) FILTER (WHERE price = 'unknown') AS unpriced,
      times * count(*) FILTER (WHERE price = 'estimated') AS estimated,
      times * sum(input_tokens) AS input_tokens,
      times * sum(cached_tokens) AS cached_tokens,
      times * sum(output_tokens) AS output_tokens,
      times * coalesce(sum(cost_nano), 0) AS cost_nano,
      times * sum(charged_nano) AS charged_nano,
      times * coalesce(sum(cost_nano) FILTER (WHERE largest_nano IS NOT NULL), 0) AS compared_nano,
      times * coalesce(sum(largest_nano) FILTER (WHERE cost_nano IS NOT NULL), 0) AS largest_nano,
      times * sum(greatest(latency_ms, 0)) AS latency_ms,
      sum(agents_latencies(latency_ms, times)) AS latencies
    FROM rows GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
  ), in_minutes AS (
    INSERT INTO agents_callminute AS had (
      start, agent, channel, scope, release, provider, model, tier, purpose, key_prefix, status, calls, unpriced,
      estimated, input_tokens, cached_tokens, output_tokens, cost_nano, charged_nano, compared_nano, largest_nano,
      latency_ms, latencies)
    SELECT
      start, agent, channel, scope, release, provider, model, tier, purpose, key_prefix, status, calls, unpriced,
      estimated, input_tokens, cached_tokens, output_tokens, cost_nano, charged_nano, compared_nano, largest_nano,
      latency_ms, latencies
    FROM minutes
    ORDER BY start, scope, model, status, key_prefix, release, tier, purpose, provider, agent, channel
    ON CONFLICT (start, scope, model, status, key_prefix, release, tier, purpose, provider, agent, channel) DO UPDATE SET
      calls = had.calls + excluded.calls, unpriced = had.unpriced + excluded.unpriced,
      estimated = had.estimated + excluded.estimated, input_tokens = had.input_tokens + excluded.input_tokens,
      cached_tokens = had.cached_tokens + excluded.cached_tokens,
      output_tokens = had.output_tokens + excluded.output_tokens, cost_nano = had.cost_nano + excluded.cost_nano,
      charged_nano = had.charged_nano + excluded.charged_nano,
      compared_nano = had.compared_nano + excluded.compared_nano,
      largest_nano = had.largest_nano + excluded.largest_nano, latency_ms = had.latency_ms + excluded.latency_ms,
      latencies = had.latencies + excluded.latencies
  )
  INSERT INTO agents_callhour AS had (
      start, agent, channel, scope, release, provider, model, tier, purpose, key_prefix, status, calls, unpriced,
      estimated, input_tokens, cached_tokens, output_tokens, cost_nano, charged_nano, compared_nano, largest_nano,
      latency_ms, latencies)
    SELECT date_trunc('hour', start, 'UTC'),
      agent, channel, scope, release, provider, model, tier, purpose, key_prefix, status,
      sum(calls), sum(unpriced), sum(estimated), sum(input_tokens), sum(cached_tokens), sum(output_tokens),
      sum(cost_nano), sum(charged_nano), sum(compared_nano), sum(largest_nano), sum(latency_ms), sum(latencies)
    FROM minutes GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    ORDER BY 1, scope, model, status, key_prefix, release, tier, purpose, provider, agent, channel
    ON CONFLICT (start, scope, model, status, key_prefix, release, tier, purpose, provider, agent, channel) DO UPDATE SET
      calls = had.calls + excluded.calls, unpriced = had.unpriced + excluded.unpriced,
      estimated = had.estimated + excluded.estimated, input_tokens = had.input_tokens + excluded.input_tokens,
      cached_tokens = had.cached_tokens + excluded.cached_tokens,
      output_tokens = had.output_tokens + excluded.output_tokens, cost_nano = had.cost_nano + excluded.cost_nano,
      charged_nano = had.charged_nano + excluded.charged_nano,
      compared_nano = had.compared_nano + excluded.compared_nano,
      largest_nano = had.largest_nano + excluded.largest_nano, latency_ms = had.latency_ms + excluded.latency_ms,
      latencies = had.latencies + excluded.latencies;
  RETURN NULL;
END $$;
CREATE TRIGGER agents_call_added AFTER INSERT ON agents_call
  REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION agents_call_summed('1');
CREATE TRIGGER agents_call_before_change AFTER UPDATE ON agents_call
  REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION agents_call_summed('-1');
CREATE TRIGGER agents_call_changed AFTER UPDATE ON agents_call
  REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION agents_call_summed('1');
CREATE FUNCTION agents_call_emptied() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN TRUNCATE agents_callminute, agents_callhour; RETURN NULL; END $$;
CREATE TRIGGER agents_call_emptied AFTER TRUNCATE ON agents_call
  FOR EACH STATEMENT EXECUTE FUNCTION agents_call_emptied();


-- What was there before moves over, and counts as well.
CREATE TABLE agents_call_odd PARTITION OF agents_call DEFAULT;
CREATE TABLE agents_callminute_odd PARTITION OF agents_callminute DEFAULT;
CREATE TABLE agents_callhour_odd PARTITION OF agents_callhour DEFAULT;
SELECT agents_partition(parent, day::date, unit)
  FROM (VALUES ('agents_call', 'day'), ('agents_callminute', 'day'), ('agents_callhour', 'month')) AS tables (parent, unit),
    generate_series(greatest(least((SELECT min(at) FROM agents_call_plain), now()), now() - interval '90 days')
      - interval '1 day', now() + interval '2 days', '1 day') AS day;
INSERT INTO agents_call
  SELECT plain.*, coalesce(cost_nano, 0), NULL, '', '', '' FROM agents_call_plain AS plain;
SELECT setval('agents_call_number', coalesce((SELECT max(id) FROM agents_call_plain), 0) + 1, false);
DROP TABLE agents_call_plain;
ALTER TABLE agents_call ADD PRIMARY KEY (id, at);
ALTER TABLE agents_call ADD CONSTRAINT agents_call_once_per_attempt UNIQUE (call_id, attempt, at);
CREATE INDEX agents_call_recent ON agents_call (at DESC, id DESC);
CREATE INDEX agents_call_of_scope ON agents_call (scope, at DESC);
CREATE INDEX agents_call_of_turn ON agents_call (turn_id);
CREATE INDEX agents_call_of_key ON agents_call (key_prefix, at DESC);
CREATE INDEX agents_call_dear ON agents_call (cost_nano DESC);
CREATE INDEX agents_call_remarkable ON agents_call (at DESC, id DESC)
  WHERE status <> 'ok' OR guardrail <> 'passed' OR price <> 'exact';
