-- The only writer of money. One file, four verbs, each atomic. ARGV[1] names the verb.
-- Counters: hash {spent, held} for each budget and window. Hold: hash {nano, keys, context}; zset ph:holds by expiry.
local HOLDS, STREAM, EPOCH = 'ph:holds', 'ph:calls', 'ph:epoch'

local function counter(key)
  local found = redis.call('HMGET', key, 'spent', 'held')
  return tonumber(found[1] or '0'), tonumber(found[2] or '0')
end

local function whole(number) return string.format('%.0f', number) end

local function pressure_of(key, limit)
  local spent, held = counter(key)
  if limit <= 0 then return 1 end
  return (spent + held) / limit
end

local function take_off(hold, name)
  redis.call('DEL', hold)
  redis.call('ZREM', HOLDS, name)
end

local verbs = {}

-- KEYS: hold, mark, counters…  ARGV: verb, name, nano, expires_at, context, counter_ttl, limits…
verbs.reserve = function()
  local hold, mark, name, nano = KEYS[1], KEYS[2], ARGV[2], tonumber(ARGV[3])
  local epoch = redis.call('GET', EPOCH) or '0'
  local again = redis.call('EXISTS', hold) == 1
  if redis.call('EXISTS', mark) == 1 then return {'settled', epoch, '0'} end
  if not again then
    for i = 3, #KEYS do
      local spent, held = counter(KEYS[i])
      local limit = tonumber(ARGV[i + 4])
      if nano > 0 and spent + held + nano > limit then
        return {'exhausted', epoch, tostring(i - 3), whole(spent), whole(held)}
      end
    end
    local keys = {}
    for i = 3, #KEYS do
      redis.call('HINCRBY', KEYS[i], 'held', ARGV[3])
      redis.call('EXPIRE', KEYS[i], ARGV[6])
      keys[#keys + 1] = KEYS[i]
    end
    redis.call('HSET', hold, 'nano', ARGV[3], 'keys', table.concat(keys, '\n'), 'context', ARGV[5])
    redis.call('ZADD', HOLDS, ARGV[4], name)
  end
  local pressure = 0
  for i = 3, #KEYS do pressure = math.max(pressure, pressure_of(KEYS[i], tonumber(ARGV[i + 4]))) end
  return {'held', epoch, string.format('%.6f', pressure)}
end

-- KEYS: hold, mark, counters…  ARGV: verb, name, nano, mark_ttl, entry fields…
verbs.settle = function()
  local hold, mark, name, nano = KEYS[1], KEYS[2], ARGV[2], ARGV[3]
  local marked = redis.call('GET', mark)
  if marked == 'settled' then return 0 end
  if marked then  -- it had expired into an estimate: correct the charge to what it really was
    for i = 3, #KEYS do redis.call('HINCRBY', KEYS[i], 'spent', whole(tonumber(nano) - tonumber(marked))) end
  else
    local held = redis.call('HGET', hold, 'nano')
    for i = 3, #KEYS do
      if held then redis.call('HINCRBY', KEYS[i], 'held', '-' .. held) end
      redis.call('HINCRBY', KEYS[i], 'spent', nano)
    end
    take_off(hold, name)
  end
  redis.call('SET', mark, 'settled', 'EX', ARGV[4])
  redis.call('XADD', STREAM, '*', unpack(ARGV, 5))
  return 1
end

-- KEYS: hold, mark, counters…  ARGV: verb, name
verbs.release = function()
  local held = redis.call('HGET', KEYS[1], 'nano')
  if not held then return 0 end
  for i = 3, #KEYS do redis.call('HINCRBY', KEYS[i], 'held', '-' .. held) end
  take_off(KEYS[1], ARGV[2])
  return 1
end

-- ARGV: verb, now, at_most, mark_ttl
verbs.expire = function()
  local names = redis.call('ZRANGEBYSCORE', HOLDS, '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
  for _, name in ipairs(names) do
    local hold = 'ph:h:' .. name
    local found = redis.call('HMGET', hold, 'nano', 'keys', 'context')
    if found[1] then
      for key in string.gmatch(found[2], '[^\n]+') do
        redis.call('HINCRBY', key, 'held', '-' .. found[1])
        redis.call('HINCRBY', key, 'spent', found[1])
      end
      redis.call('SET', 'ph:s:' .. name, found[1], 'EX', ARGV[4])
      local entry = {}
      for field, value in pairs(cjson.decode(found[3])) do entry[#entry + 1] = field; entry[#entry + 1] = value end
      for _, pair in ipairs({{'status', 'expired'}, {'cost_nano', found[1]}, {'price', 'estimated'}}) do
        entry[#entry + 1] = pair[1]; entry[#entry + 1] = pair[2]
      end
      redis.call('XADD', STREAM, '*', unpack(entry))
    end
    take_off(hold, name)
  end
  return #names
end

-- KEYS: counter  ARGV: verb, spent, counter_ttl
verbs.rebuild = function()
  local spent = counter(KEYS[1])
  if spent < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'spent', ARGV[2]) end
  redis.call('EXPIRE', KEYS[1], ARGV[3])
  return 1
end

return verbs[ARGV[1]]()
