-- The only writer of money. One file, a few verbs, each atomic; ARGV[1] names the verb, amounts are whole nano-dollars.
-- ph:b:<budget>:<window>  hash {spent, held, overshoot}
-- ph:h:<call>:<attempt>   hash {nano, expires, keys, context, asked, circuit} while money is held; `expired` once it
--                         is an estimate
-- ph:s:<call>:<attempt>   mark: "over", or the id of a reserve that nobody waits for any more
-- ph:holds                zset of holds by the second at which they expire, on this server's clock
-- ph:calls                stream of log entries; only the drain takes entries off
-- ph:counted              there while the counters can be trusted; gone with them when Redis loses its memory
-- ph:circuit:<name>       hash {fails, trips, until, probe} of a provider that fails; ph:circuits, the set of their names
local HOLDS, STREAM, EPOCH, CIRCUITS = 'ph:holds', 'ph:calls', 'ph:epoch', 'ph:circuits'
local COUNTED = 'ph:counted'
local EXHAUSTED, HELD, THERE, ENDED, OPEN, LOST, LIMITED = 0, 1, 2, 3, 4, 5, 6
local FAILS, PAUSE, LONGEST_PAUSE, PROBE, FORGOTTEN = 5, 5, 30, 30, 120

local function whole(number) return string.format('%.0f', number) end

local function clock(given)
  if given ~= '' then return tonumber(given) end
  local now = redis.call('TIME')
  return tonumber(now[1]) + tonumber(now[2]) / 1000000
end

local function counter(key)
  local found = redis.call('HMGET', key, 'spent', 'held')
  return tonumber(found[1] or '0'), tonumber(found[2] or '0')
end

-- Adds to a field of every counter; one that had expired or was lost gets its lifetime again.
local function add(keys, field, nano, ttl)
  if nano == 0 then return end
  for _, key in ipairs(keys) do
    redis.call('HINCRBY', key, field, whole(nano))
    if redis.call('TTL', key) == -1 then redis.call('EXPIRE', key, ttl) end
  end
end

local function counters() return {unpack(KEYS, 3)} end

local function split(text)
  local parts = {}
  for part in string.gmatch(text, '[^\n]+') do parts[#parts + 1] = part end
  return parts
end

local function take_off(hold, name)
  redis.call('DEL', hold)
  redis.call('ZREM', HOLDS, name)
end

-- The entry of an attempt whose own process never wrote one: the context of its hold, and these fields.
local function log_for(context, fields)
  local entry = {}
  for field, value in pairs(cjson.decode(context)) do
    if not fields[field] then entry[#entry + 1] = field; entry[#entry + 1] = value end
  end
  for field, value in pairs(fields) do entry[#entry + 1] = field; entry[#entry + 1] = value end
  redis.call('XADD', STREAM, '*', unpack(entry))
end

-- When the circuit lets a call through again; nil: now. Of those that come after a pause only the first may probe.
local function closed_until(circuit, now)
  if circuit == '' then return nil end
  local found = redis.call('HMGET', 'ph:circuit:' .. circuit, 'until', 'probe')
  if not found[1] then return nil end
  if now < tonumber(found[1]) then return tonumber(found[1]) end
  if now < tonumber(found[2] or '0') then return math.min(tonumber(found[2]), now + 1) end
  return nil
end

local function probes(circuit, now)
  local key = 'ph:circuit:' .. circuit
  if redis.call('HEXISTS', key, 'until') == 1 then
    redis.call('HSET', key, 'probe', string.format('%.3f', now + PROBE))
  end
end

-- What a call says of its provider: 'good', 'bad' or '' (nothing). Calls that were under way when the circuit opened
-- neither close it nor keep it open for longer. `pause`: what the provider itself asked for.
local function learn(circuit, verdict, pause, now)
  if circuit == '' then return end
  local key = 'ph:circuit:' .. circuit
  local till = tonumber(redis.call('HGET', key, 'until') or '0')
  if now < till then return end
  redis.call('HDEL', key, 'probe')
  if verdict == 'good' then
    if redis.call('DEL', key) == 1 then redis.call('SREM', CIRCUITS, circuit) end
  elseif verdict == 'bad' then
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

local verbs = {}

-- The rates of a call as a leaky bucket each: ph:r:<name> holds the time at which it is empty again. A minute's worth
-- may come at once. Returns which one is full and the seconds until there is room; else writes them all down.
local function over_rate(rates, now)
  local empty = {}
  for i, rate in ipairs(rates) do
    local name, amount, per_minute = 'ph:r:' .. rate[1], tonumber(rate[2]), tonumber(rate[3])
    local at = math.max(now, tonumber(redis.call('GET', name) or '0')) + math.min(amount, per_minute) * 60 / per_minute
    if at - now > 60.0005 then return i, at - now - 60 end
    empty[name] = at
  end
  for name, at in pairs(empty) do redis.call('SET', name, string.format('%.4f', at), 'EX', 120) end
  return nil
end

-- KEYS: hold, mark, counters…  ARGV: verb, name, nano, ttl, now, context, asked, counter_ttl, circuit, rates, limits…
-- `asked` is the id of this asking: a repeated reserve of the same attempt has another one. `rates`: '' or JSON,
-- [[name, amount, per minute], …].
verbs.reserve = function()
  local hold, mark, name, nano = KEYS[1], KEYS[2], ARGV[2], tonumber(ARGV[3])
  local epoch = tonumber(redis.call('GET', EPOCH) or '0')
  if redis.call('EXISTS', COUNTED) == 0 then return {LOST, epoch} end
  local there = redis.call('HMGET', hold, 'nano', 'expires', 'keys', 'expired')
  local marked = redis.call('GET', mark)
  if there[4] or marked == 'over' or marked == ARGV[7] then return {ENDED, epoch} end
  local now = clock(ARGV[5])
  local reopens = not there[1] and closed_until(ARGV[9], now)
  if reopens then return {OPEN, epoch, string.format('%.3f', reopens - now)} end
  if there[1] then nano = 0 end
  local pressure = 0
  for i = 3, #KEYS do
    local spent, held = counter(KEYS[i])
    local limit = tonumber(ARGV[i + 8])
    if nano > 0 and spent + held + nano > limit then return {EXHAUSTED, epoch, i - 3, whole(spent), whole(held)} end
    pressure = math.max(pressure, limit > 0 and (spent + held + nano) / limit or 1)
  end
  local share = string.format('%.6f', pressure)
  if there[1] then
    redis.call('HSET', hold, 'asked', ARGV[7])
    return {THERE, epoch, share, there[2], there[1], there[3]}
  end
  if ARGV[10] ~= '' then
    local full, wait = over_rate(cjson.decode(ARGV[10]), now)
    if full then return {LIMITED, epoch, full - 1, string.format('%.3f', wait)} end
  end
  local keys = counters()
  add(keys, 'held', nano, ARGV[8])
  if ARGV[9] ~= '' then
    probes(ARGV[9], now)
    redis.call('HSET', hold, 'circuit', ARGV[9])
  end
  local expires = string.format('%.3f', now + tonumber(ARGV[4]))
  redis.call('HSET', hold, 'nano', ARGV[3], 'expires', expires, 'keys', table.concat(keys, '\n'), 'context', ARGV[6],
    'asked', ARGV[7])
  redis.call('ZADD', HOLDS, expires, name)
  return {HELD, epoch, share, expires}
end

-- KEYS: hold, mark, counters…
-- ARGV: verb, name, nano, now, expires, mark_ttl, counter_ttl, circuit, verdict, pause, entry fields…
verbs.settle = function()
  local hold, mark, name, nano, ttl = KEYS[1], KEYS[2], ARGV[2], tonumber(ARGV[3]), ARGV[7]
  if redis.call('GET', mark) == 'over' then return 0 end
  local there = redis.call('HMGET', hold, 'nano', 'expired')
  local keys, held = counters(), tonumber(there[1] or '0')
  local entry = {unpack(ARGV, 11)}
  if there[2] then  -- it had become an estimate: what is added is the difference, and the entry replaces the estimate's
    add(keys, 'spent', nano - held, ttl)
    for _, part in ipairs({'late', '1', 'estimate_nano', there[1]}) do entry[#entry + 1] = part end
  elseif there[1] then
    add(keys, 'held', -held, ttl)
    add(keys, 'spent', nano, ttl)
  else  -- this server lost the hold, or the mark has gone with time: only the first is a charge
    if clock(ARGV[4]) > tonumber(ARGV[5]) + tonumber(ARGV[6]) then return 0 end
    add(keys, 'spent', nano, ttl)
  end
  if there[1] and nano > held then add(keys, 'overshoot', nano - held, ttl) end
  take_off(hold, name)
  redis.call('SET', mark, 'over', 'EX', ARGV[6])
  redis.call('XADD', STREAM, '*', unpack(entry))
  learn(ARGV[8], ARGV[9], tonumber(ARGV[10]), clock(ARGV[4]))
  return 1
end

-- KEYS: hold, mark  ARGV: verb, name, mark_ttl, counter_ttl
verbs.release = function()
  local hold, mark, name = KEYS[1], KEYS[2], ARGV[2]
  local there = redis.call('HMGET', hold, 'nano', 'expired', 'context', 'keys', 'circuit')
  if not there[1] then return 0 end
  if there[5] then redis.call('HDEL', 'ph:circuit:' .. there[5], 'probe') end  -- it was not sent, so it proves nothing
  add(split(there[4]), there[2] and 'spent' or 'held', -tonumber(there[1]), ARGV[4])
  take_off(hold, name)
  if there[2] then
    redis.call('SET', mark, 'over', 'EX', ARGV[3])
    log_for(there[3], {status = 'cancelled', cost_nano = '0', charged_nano = '0', price = 'exact', late = '1', estimate_nano = there[1]})
  end
  return 1
end

-- KEYS: hold, mark  ARGV: verb, name, mark_ttl, counter_ttl, asked
-- Takes back one asking whose answer nobody heard; should it be on its way here still, it will find its mark.
verbs.abandon = function()
  local there = redis.call('HMGET', KEYS[1], 'asked', 'expired')
  if there[1] == ARGV[5] and not there[2] then return verbs.release() end
  if redis.call('GET', KEYS[2]) ~= 'over' then redis.call('SET', KEYS[2], ARGV[5], 'EX', ARGV[3]) end
  return 0
end

-- ARGV: verb, now, at_most, estimate_ttl, counter_ttl
verbs.expire = function()
  local names = redis.call('ZRANGEBYSCORE', HOLDS, '-inf', clock(ARGV[2]), 'LIMIT', 0, ARGV[3])
  for _, name in ipairs(names) do
    local hold = 'ph:h:' .. name
    local there = redis.call('HMGET', hold, 'nano', 'keys', 'context')
    if there[1] then
      local keys, nano = split(there[2]), tonumber(there[1])
      add(keys, 'held', -nano, ARGV[5])
      add(keys, 'spent', nano, ARGV[5])
      redis.call('HSET', hold, 'expired', '1')
      redis.call('EXPIRE', hold, ARGV[4])
      log_for(there[3], {status = 'expired', cost_nano = there[1], charged_nano = there[1], price = 'estimated'})
    end
    redis.call('ZREM', HOLDS, name)
  end
  return #names
end

-- KEYS: counters…  ARGV: verb, counter_ttl, what to add to each…
verbs.rebuild = function()
  for i, key in ipairs(KEYS) do add({key}, 'spent', tonumber(ARGV[i + 2]), ARGV[2]) end
  redis.call('SET', COUNTED, '1')
  return #KEYS
end

return verbs[ARGV[1]]()
