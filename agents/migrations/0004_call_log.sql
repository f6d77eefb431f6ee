-- Partitions are made by agents_partition(table, day, unit); "unit" is 'day' or 'month', days are those of UTC.
CREATE FUNCTION agents_partition(parent text, day date, unit text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  first timestamptz := date_trunc(unit, day::timestamp) AT TIME ZONE 'UTC';
  next timestamptz := (date_trunc(unit, day::timestamp) + ('1 ' || unit)::interval) AT TIME ZONE 'UTC';
  name text := parent || '_' || to_char(date_trunc(unit, day::timestamp), 'YYYYMMDD');
BEGIN
  IF to_regclass(name) IS NULL THEN
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', name, parent, first, next);
  END IF;
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
CREATE TABLE agents_call_odd PARTITION OF agents_call DEFAULT;
SELECT agents_partition('agents_call', day::date, 'day')
  FROM generate_series(greatest((SELECT min(at) FROM agents_call_plain), now() - interval '90 days'),
                       now() + interval '2 days', '1 day') AS day;
SELECT agents_partition('agents_call', (now() + make_interval(days => n))::date, 'day') FROM generate_series(-1, 2) AS n;
INSERT INTO agents_call
  SELECT plain.*, coalesce(cost_nano, 0), NULL, '', '', '' FROM agents_call_plain AS plain;
SELECT setval('agents_call_number', coalesce((SELECT max(id) FROM agents_call_plain), 0) + 1, false);
DROP TABLE agents_call_plain;
ALTER TABLE agents_call ADD PRIMARY KEY (id, at);
ALTER TABLE agents_call ADD CONSTRAINT agents_call_once_per_attempt UNIQUE (call_id, attempt, at);
CREATE INDEX agents_call_recent ON agents_call (at DESC, id DESC);
CREATE INDEX agents_call_of_scope ON agents_call (scope, at DESC);
CREATE INDEX agents_call_of_turn ON agents_call (turn_id);

-- Latency histograms: counts in buckets that grow by 15 %, from 1 ms to five minutes; a percentile read from them is
-- wrong by 7.3 % at most. They add up element by element.
CREATE FUNCTION agents_bucket(ms double precision) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT least(92, greatest(1, 1 + ceil(ln(greatest(ms, 0.001)) / ln(1.15))::integer)) $$;
CREATE FUNCTION agents_histogram_add(sums integer[], bucket integer) RETURNS integer[]
  LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
  $$ BEGIN sums[bucket] := sums[bucket] + 1; RETURN sums; END $$;
CREATE AGGREGATE agents_histogram(integer) (
  sfunc = agents_histogram_add, stype = integer[],
  initcond = '{0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}'
);
CREATE FUNCTION agents_merge(a integer[], b integer[], sign integer) RETURNS integer[]
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT array_agg(x + sign * y ORDER BY n) FROM unnest(a, b) WITH ORDINALITY AS both_of (x, y, n) $$;

CREATE TABLE agents_callminute (
  id bigint NOT NULL, start timestamptz NOT NULL,
  agent varchar(50) NOT NULL, channel varchar(110) NOT NULL, scope varchar(170) NOT NULL, release varchar(70) NOT NULL,
  provider varchar(50) NOT NULL, model varchar(120) NOT NULL, tier varchar(20) NOT NULL, purpose varchar(10) NOT NULL,
  key_prefix varchar(20) NOT NULL, status varchar(12) NOT NULL,
  calls bigint NOT NULL, unpriced bigint NOT NULL, estimated bigint NOT NULL, input_tokens bigint NOT NULL,
  cached_tokens bigint NOT NULL, output_tokens bigint NOT NULL, cost_nano bigint NOT NULL, charged_nano bigint NOT NULL,
  compared_nano bigint NOT NULL, largest_nano bigint NOT NULL, latency_ms double precision NOT NULL,
  histogram integer[] NOT NULL
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
CREATE TABLE agents_callminute_odd PARTITION OF agents_callminute DEFAULT;
CREATE TABLE agents_callhour_odd PARTITION OF agents_callhour DEFAULT;
SELECT agents_partition('agents_callminute', (now() + make_interval(days => n))::date, 'day')
  FROM generate_series(-1, 2) AS n;
SELECT agents_partition('agents_callhour', (now() + make_interval(months => n))::date, 'month')
  FROM generate_series(-1, 1) AS n;

-- Adds (sign 1) or takes away (sign -1) the rows of the transition table "rows" in both rollups.
CREATE FUNCTION agents_call_summed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  sign integer := TG_ARGV[0]::integer;
  target text;
  unit text;
BEGIN
  FOREACH unit IN ARRAY ARRAY['minute', 'hour'] LOOP
    target := 'agents_call' || unit;
    EXECUTE format($sql$
      INSERT INTO %1$I AS t (start, agent, channel, scope, release, provider, model, tier, purpose, key_prefix, status,
          calls, unpriced, estimated, input_tokens, cached_tokens, output_tokens, cost_nano, charged_nano,
          compared_nano, largest_nano, latency_ms, histogram)
        SELECT date_trunc(%2$L, at, 'UTC'), agent, channel, scope, release, provider, model, tier, purpose, key_prefix,
          status, %3$s * count(*), %3$s * count(*) FILTER (WHERE price = 'unknown'),
          %3$s * count(*) FILTER (WHERE price = 'estimated'), %3$s * sum(input_tokens), %3$s * sum(cached_tokens),
          %3$s * sum(output_tokens), %3$s * coalesce(sum(cost_nano), 0), %3$s * sum(charged_nano),
          %3$s * coalesce(sum(cost_nano) FILTER (WHERE largest_nano IS NOT NULL), 0),
          %3$s * coalesce(sum(largest_nano) FILTER (WHERE cost_nano IS NOT NULL), 0), %3$s * sum(latency_ms),
          agents_histogram(agents_bucket(latency_ms))
        FROM rows GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 ORDER BY 1, 4, 7, 11, 10, 5, 8, 9, 6, 2, 3
      ON CONFLICT (start, scope, model, status, key_prefix, release, tier, purpose, provider, agent, channel)
      DO UPDATE SET calls = t.calls + excluded.calls, unpriced = t.unpriced + excluded.unpriced,
        estimated = t.estimated + excluded.estimated, input_tokens = t.input_tokens + excluded.input_tokens,
        cached_tokens = t.cached_tokens + excluded.cached_tokens,
        output_tokens = t.output_tokens + excluded.output_tokens, cost_nano = t.cost_nano + excluded.cost_nano,
        charged_nano = t.charged_nano + excluded.charged_nano,
        compared_nano = t.compared_nano + excluded.compared_nano, largest_nano = t.largest_nano + excluded.largest_nano,
        latency_ms = t.latency_ms + excluded.latency_ms,
        histogram = agents_merge(t.histogram, excluded.histogram, %3$s)
    $sql$, target, unit, sign);
  END LOOP;
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

-- What was there before counts as well.
INSERT INTO agents_callminute (start, agent, channel, scope, release, provider, model, tier, purpose, key_prefix, status,
    calls, unpriced, estimated, input_tokens, cached_tokens, output_tokens, cost_nano, charged_nano, compared_nano,
    largest_nano, latency_ms, histogram)
  SELECT date_trunc('minute', at, 'UTC'), agent, channel, scope, release, provider, model, tier, purpose, key_prefix,
    status, count(*), count(*) FILTER (WHERE price = 'unknown'), count(*) FILTER (WHERE price = 'estimated'),
    sum(input_tokens), sum(cached_tokens), sum(output_tokens), coalesce(sum(cost_nano), 0), sum(charged_nano), 0, 0,
    sum(latency_ms), agents_histogram(agents_bucket(latency_ms))
  FROM agents_call GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11;
INSERT INTO agents_callhour (start, agent, channel, scope, release, provider, model, tier, purpose, key_prefix, status,
    calls, unpriced, estimated, input_tokens, cached_tokens, output_tokens, cost_nano, charged_nano, compared_nano,
    largest_nano, latency_ms, histogram)
  SELECT date_trunc('hour', at, 'UTC'), agent, channel, scope, release, provider, model, tier, purpose, key_prefix,
    status, count(*), count(*) FILTER (WHERE price = 'unknown'), count(*) FILTER (WHERE price = 'estimated'),
    sum(input_tokens), sum(cached_tokens), sum(output_tokens), coalesce(sum(cost_nano), 0), sum(charged_nano), 0, 0,
    sum(latency_ms), agents_histogram(agents_bucket(latency_ms))
  FROM agents_call GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11;
