-- The only writer of money. One file, a few verbs; amounts are whole nano-dollars.
-- ARGV: pairs, {verb, …} as JSON and an entry of the log as JSON, else ''. All pairs of one run are one atomic step,
-- done one after the other; one that fails answers {FAILED, why} and holds up no other. Returns an answer for each pair.
-- COUNTER_TTL, MARK_TTL and ESTIMATE_TTL, in seconds, are set above this text.
-- ph:b:<budget>:<window>  hash {spent, held, overshoot}
-- ph:h:<call>:<attempt>   hash {nano, expires, keys, context, asked, circuit} while money is held; `expired` once it
--                         is an estimate
-- ph:s:<call>:<attempt>   mark: "over", or the id of a reserve that nobody waits for any more
-- ph:holds                zset of holds by the second at which they expire, on this server's clock
-- ph:calls                stream of log entries, {entry: JSON} and what takes the place of its fields; only the drain
--                         takes entries off
-- ph:counted              there while the counters can be trusted; gone with them when Redis loses its memory
-- ph:circuit:<name>       hash {fails, trips, until, probe} of a provider that fails; ph:circuits, the set of their names
local HOLDS, STREAM, EPOCH, CIRCUITS = 'ph:holds', 'ph:calls', 'ph:epoch', 'ph:circuits'
local COUNTED = 'ph:counted'
local EXHAUSTED, HELD, THERE, ENDED, OPEN, LOST, LIMITED, FAILED = 0, 1, 2, 3, 4, 5, 6, 7
local FAILS, PAUSE, LONGEST_PAUSE, PROBE, FORGOTTEN = 5, 5, 30, 30, 120

local function whole(number) return string.format('%.0f', number) end

-- What is the same for all verbs of a run is asked once.
local known = {}

local function clock(given)
  if given then return given end
  if not known.now then
    local now = redis.call('TIME')
    known.now = tonumber(now[1]) + tonumber(now[2]) / 1000000
  end
  return known.now
end

local function epoch()
  if not known.epoch then known.epoch = tonumber(redis.call('GET', EPOCH) or '0') end
  return known.epoch
end

local function counted()
  if known.counted == nil then known.counted = redis.call('EXISTS', COUNTED) == 1 end
  return known.counted
end

-- Counters are read once a run, and written once, at its end.
local counters = {}

local function counter(key)
  if not counters[key] then
    local found = redis.call('HMGET', key, 'spent', 'held')
    local spent, held = tonumber(found[1] or '0'), tonumber(found[2] or '0')
    counters[key] = {spent = spent, held = held, overshoot = 0, new = not (found[1] or found[2]), more = {}}
  end
  return counters[key]
end

local function add(keys, field, nano)
  if nano == 0 then return end
  for _, key in ipairs(keys) do
    local found = counter(key)
    found[field] = found[field] + nano
    found.more[field] = (found.more[field] or 0) + nano
  end
end

-- A counter that had expired or was lost gets its lifetime again.
local function write_counters()
  for key, found in pairs(counters) do
    for field, nano in pairs(found.more) do
      if nano ~= 0 then redis.call('HINCRBY', key, field, whole(nano)) end
    end
    if found.new and next(found.more) then redis.call('EXPIRE', key, COUNTER_TTL) end
  end
end

local function split(text)
  local parts = {}
  for part in string.gmatch(text, '[^\n]+') do parts[#parts + 1] = part end
  return parts
end

local function take_off(hold, name)
  redis.call('DEL', hold)
  redis.call('ZREM', HOLDS, name)
end

-- Of a provider against which nothing is known, as nearly always, nothing else is asked.
local function is_known(circuit)
  if circuit == '' then return false end
  local key = 'ph:circuit:' .. circuit
  if known[key] == nil then known[key] = redis.call('EXISTS', key) == 1 end
  return known[key]
end

-- When the circuit lets a call through again; nil: now. Of those that come after a pause only the first may probe.
local function closed_until(circuit, now)
  if not is_known(circuit) then return nil end
  local found = redis.call('HMGET', 'ph:circuit:' .. circuit, 'until', 'probe')
  if not found[1] then return nil end
  if now < tonumber(found[1]) then return tonumber(found[1]) end
  if now < tonumber(found[2] or '0') then return math.min(tonumber(found[2]), now + 1) end
  return nil
end

local function probes(circuit, now)
  local key = 'ph:circuit:' .. circuit
  if is_known(circuit) and redis.call('HEXISTS', key, 'until') == 1 then
    redis.call('HSET', key, 'probe', string.format('%.3f', now + PROBE))
  end
end

-- What a call says of its provider: 'good', 'bad' or '' (nothing). Calls that were under way when the circuit opened
-- neither close it nor keep it open for longer. `pause`: what the provider itself asked for.
local function learn(circuit, verdict, pause, now)
  if circuit == '' or not (is_known(circuit) or verdict == 'bad') then return end
  local key = 'ph:circuit:' .. circuit
  local till = tonumber(redis.call('HGET', key, 'until') or '0')
  if now < till then return end
  redis.call('HDEL', key, 'probe')
  if verdict == 'good' then
    if redis.call('DEL', key) == 1 then redis.call('SREM', CIRCUITS, circuit) end
  elseif verdict == 'bad' then
    known[key] = true
    local fails = redis.call('HINCRBY', key, 'fails', 1)
    if till > 0 or fails >= FAILS or pause > 0 then
      local trips = redis.call('HINCRBY', key, 'trips', 1)
      local pauses = math.max(pause, math.min(PAUSE * 2 ^ (trips - 1), LONGEST_PAUSE))
      redis.call('HSET', key, 'until', string.format('%.3f', now + pauses))
      redis.call('SADD', CIRCUITS, circuit)
    end
    redis.call('EXPIRE', key, FORGOTTEN + math.ceil(pause))
  end
end

-- The rates of a call as a leaky bucket each: ph:r:<name> holds the time at which it is empty again. A minute's worth
-- may come at once. Returns which one is full and the seconds until there is room; else writes them all down.
local function over_rate(rates, now)
  local empty = {}
  for i, rate in ipairs(rates) do
    local name, amount, per_minute = 'ph:r:' .. rate[1], rate[2], rate[3]
    local at = math.max(now, tonumber(redis.call('GET', name) or '0')) + math.min(amount, per_minute) * 60 / per_minute
    if at - now > 60.0005 then return i, at - now - 60 end
    empty[name] = at
  end
  for name, at in pairs(empty) do redis.call('SET', name, string.format('%.4f', at), 'EX', 120) end
  return nil
end

local verbs = {}

-- {name, nano, ttl, now?, asked, circuit, rates, keys, limits}, context
-- `asked` is the id of this asking: a repeated reserve of the same attempt has another one. `rates`:
-- [[name, amount, per minute], …].
verbs.reserve = function(ask, context)
  local hold, name, nano, circuit = 'ph:h:' .. ask.name, ask.name, ask.nano, ask.circuit
  if not counted() then return {LOST, epoch()} end
  local there = redis.call('HMGET', hold, 'nano', 'expires', 'keys', 'expired')
  local marked = redis.call('GET', 'ph:s:' .. name)
  if there[4] or marked == 'over' or marked == ask.asked then return {ENDED, epoch()} end
  local now = clock(ask.now)
  local reopens = not there[1] and closed_until(circuit, now)
  if reopens then return {OPEN, epoch(), string.format('%.3f', reopens - now)} end
  if there[1] then nano = 0 end
  local pressure = 0
  for i, key in ipairs(ask.keys) do
    local limit, found = ask.limits[i], counter(key)
    local used = found.spent + found.held + nano
    if nano > 0 and used > limit then return {EXHAUSTED, epoch(), i - 1, whole(found.spent), whole(found.held)} end
    pressure = math.max(pressure, limit > 0 and used / limit or 1)
  end
  local share = string.format('%.6f', pressure)
  if there[1] then
    redis.call('HSET', hold, 'asked', ask.asked)
    return {THERE, epoch(), share, there[2], there[1], there[3]}
  end
  local full, wait = over_rate(ask.rates, now)
  if full then return {LIMITED, epoch(), full - 1, string.format('%.3f', wait)} end
  local expires = string.format('%.3f', now + ask.ttl)
  redis.call('HSET', hold, 'nano', whole(nano), 'expires', expires, 'keys', table.concat(ask.keys, '\n'),
    'context', context, 'asked', ask.asked, 'circuit', circuit)
  redis.call('ZADD', HOLDS, expires, name)
  probes(circuit, now)
  add(ask.keys, 'held', nano)
  return {HELD, epoch(), share, expires}
end

-- {name, nano, now?, expires, keys, circuit, verdict, pause}, entry
verbs.settle = function(ask, entry)
  local hold, mark, nano, now = 'ph:h:' .. ask.name, 'ph:s:' .. ask.name, ask.nano, clock(ask.now)
  if redis.call('GET', mark) == 'over' then return 0 end
  local there = redis.call('HMGET', hold, 'nano', 'expired')
  local held = tonumber(there[1] or '0')
  -- this server lost the hold, or the mark has gone with time: only the first is a charge
  if not there[1] and now > ask.expires + MARK_TTL then return 0 end
  if there[2] then  -- it had become an estimate: what is added is the difference, and the entry replaces the estimate's
    redis.call('XADD', STREAM, '*', 'entry', entry, 'late', '1', 'estimate_nano', there[1])
    add(ask.keys, 'spent', nano - held)
  else
    redis.call('XADD', STREAM, '*', 'entry', entry)
    add(ask.keys, 'held', -held)
    add(ask.keys, 'spent', nano)
  end
  take_off(hold, ask.name)
  redis.call('SET', mark, 'over', 'EX', MARK_TTL)
  if there[1] and nano > held then add(ask.keys, 'overshoot', nano - held) end
  learn(ask.circuit, ask.verdict, ask.pause, now)
  return 1
end

-- {name}
verbs.release = function(ask)
  local hold = 'ph:h:' .. ask.name
  local there = redis.call('HMGET', hold, 'nano', 'expired', 'context', 'keys', 'circuit')
  if not there[1] then return 0 end
  -- it was not sent, so it proves nothing
  if is_known(there[5] or '') then redis.call('HDEL', 'ph:circuit:' .. there[5], 'probe') end
  take_off(hold, ask.name)
  add(split(there[4]), there[2] and 'spent' or 'held', -tonumber(there[1]))
  if there[2] then
    redis.call('SET', 'ph:s:' .. ask.name, 'over', 'EX', MARK_TTL)
    redis.call('XADD', STREAM, '*', 'entry', there[3], 'status', 'cancelled', 'cost_nano', '0', 'charged_nano', '0',
      'price', 'exact', 'late', '1', 'estimate_nano', there[1])
  end
  return 1
end

-- {name, asked}
-- Takes back one asking whose answer nobody heard; should it be on its way here still, it will find its mark.
verbs.abandon = function(ask)
  local mark, there = 'ph:s:' .. ask.name, redis.call('HMGET', 'ph:h:' .. ask.name, 'asked', 'expired')
  if there[1] == ask.asked and not there[2] then return verbs.release(ask) end
  if redis.call('GET', mark) ~= 'over' then redis.call('SET', mark, ask.asked, 'EX', MARK_TTL) end
  return 0
end

-- {now?, at_most}
verbs.expire = function(ask)
  local names = redis.call('ZRANGEBYSCORE', HOLDS, '-inf', clock(ask.now), 'LIMIT', 0, ask.at_most)
  for _, name in ipairs(names) do
    local hold = 'ph:h:' .. name
    local there = redis.call('HMGET', hold, 'nano', 'keys', 'context')
    if there[1] then
      local keys, nano = split(there[2]), tonumber(there[1])
      redis.call('HSET', hold, 'expired', '1')
      redis.call('EXPIRE', hold, ESTIMATE_TTL)
      redis.call('XADD', STREAM, '*', 'entry', there[3], 'status', 'expired', 'cost_nano', there[1],
        'charged_nano', there[1], 'price', 'estimated')
      add(keys, 'held', -nano)
      add(keys, 'spent', nano)
    end
    redis.call('ZREM', HOLDS, name)
  end
  return #names
end

-- {keys, nanos}: what to add to each
verbs.rebuild = function(ask)
  for i, key in ipairs(ask.keys) do add({key}, 'spent', ask.nanos[i]) end
  redis.call('SET', COUNTED, '1')
  known.counted = true
  return #ask.keys
end

local answers = {}
for i = 1, #ARGV, 2 do
  local ask = cjson.decode(ARGV[i])
  local done, answer = pcall(verbs[ask.verb], ask, ARGV[i + 1])
  answers[#answers + 1] = done and answer or {FAILED, type(answer) == 'table' and answer.err or tostring(answer)}
end
write_counters()
return answers
