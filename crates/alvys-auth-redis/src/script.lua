-- One operation on one shared token. KEYS are the token, the lease and the pause; their times to live are the only clock.
-- The token's value is its generation, its whole lifetime in milliseconds and the sealed text; the lease's is its owner.
-- Values are written before others are removed: a server without memory refuses the first write, and so changes nothing.
local operation, owner = ARGV[1], ARGV[2]

-- What has ended within this millisecond, or never ends and so is not ours, is not there.
local function read(key)
  local left = redis.call('PTTL', key)
  if left > 0 then
    return redis.call('GET', key), left
  end
  return false, 0
end

local function put(key, value, left)
  if tonumber(left) > 0 then
    redis.call('SET', key, value, 'PX', left)
    return value, tonumber(left)
  end
  redis.call('DEL', key)
  return false, 0
end

local token, left = read(KEYS[1])
local lease, busy_for = read(KEYS[2])
local pause, paused_for = read(KEYS[3])
local generation, lifetime, sealed
local function take_apart()
  generation, lifetime, sealed = nil, nil, nil
  if token then
    generation, lifetime, sealed = string.match(token, '^(%x+) (%d+) (.*)$')
  end
end
take_apart()

local outcome
if operation == 'look' then
  outcome = 'seen'
elseif operation == 'claim' then
  local unwanted, lasts = ARGV[3], ARGV[4]
  if generation and generation ~= unwanted then
    outcome = 'newer'
  elseif pause then
    outcome = 'paused'
  elseif lease and lease ~= owner then
    outcome = 'busy'
  else
    lease, busy_for = put(KEYS[2], owner, lasts)
    outcome = 'claimed'
  end
elseif operation == 'publish' then
  local replaced, published, lasts, text = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
  if (lease == owner) or not generation or (not lease and generation == replaced) then
    token, left = put(KEYS[1], published .. ' ' .. lasts .. ' ' .. text, lasts)
    take_apart()
    if pause then
      pause, paused_for = put(KEYS[3], '', 0)
    end
    if lease == owner then
      lease, busy_for = put(KEYS[2], '', 0)
    end
    outcome = 'published'
  else
    outcome = 'lost'
  end
elseif operation == 'fail' then
  local failure, lasts = ARGV[3], ARGV[4]
  if lease == owner then
    if tonumber(lasts) > paused_for then
      pause, paused_for = put(KEYS[3], failure, lasts)
    end
    lease, busy_for = put(KEYS[2], '', 0)
    outcome = 'failed'
  else
    outcome = 'lost'
  end
elseif operation == 'reject' then
  local rejected, grace = ARGV[3], ARGV[4]
  if generation ~= rejected then
    outcome = 'newer'
  elseif tonumber(lifetime) - left < tonumber(grace) then
    outcome = 'young'
  else
    token, left = put(KEYS[1], '', 0)
    take_apart()
    outcome = 'rejected'
  end
else
  return redis.error_reply('ERR there is no such operation')
end

local age = generation and tonumber(lifetime) - left or 0
return {outcome, generation or '', sealed or '', age, left, busy_for, pause or '', paused_for}
