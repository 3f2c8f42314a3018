-- Decide what became of the users that are to be looked at, and give what watchers are to be told.
-- KEYS 1 announcer: who announces   2 changes: sorted set of users by the millisecond to look at them
--      3 seats   4 chosen: user → away or busy   5 left: user → when last seen
--      6 presence: user → '<status> <at ms> <last seen ms>', as last announced   7 watchers: user → gateways
--      8 pending: user → at ms, announced and not published   9 counts: status → how many, and when it all began
--      10 unsaved: user → last seen ms, for the store
-- ARGV 1 announcer   2 its lease in milliseconds   3 how many users at most
--      4 milliseconds from the beginning in which nobody is settled as cold   then pairs that the store gave for
--      cold users: user, last seen ms (0: never)
-- Gives nil if another announces, or {cold users, rows of (user, status, at, last seen, gateways), how many were
-- looked at, milliseconds by which the first of them was late}.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  -- Taken before the clock was set back, it would last for as long as that.
  if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  end
  return false
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local limit = tonumber(ARGV[3])

local function text(ms)
  return string.format('%.0f', ms)
end

-- What was last announced: status, at, last seen; nothing if nothing was.
local function announced(user)
  return string.match(redis.call('HGET', KEYS[6], user) or '', '^(%S+) (%d+) (%d+)$')
end

local function announce(user, was, before, status, seen)
  local at = now
  if before and tonumber(before) >= at then
    at = before + 1
  end
  redis.call('HSET', KEYS[6], user, status .. ' ' .. text(at) .. ' ' .. seen)
  if was and was ~= 'offline' then
    redis.call('HINCRBY', KEYS[9], was, -1)
  end
  if status ~= 'offline' then
    redis.call('HINCRBY', KEYS[9], status, 1)
  end
  if redis.call('HEXISTS', KEYS[7], user) == 1 then
    redis.call('HSET', KEYS[8], user, text(at))
  end
end

-- Who was found in the store, unless they came meanwhile.
for i = 5, #ARGV, 2 do
  local user = ARGV[i]
  if not announced(user) and redis.call('HEXISTS', KEYS[3], user) == 0 then
    announce(user, nil, nil, 'offline', ARGV[i + 1])
    redis.call('ZREM', KEYS[2], user)
  end
end

-- After a wipe gateways need a while to seat their users again: until then who has no seat is not known to be away.
redis.call('HSETNX', KEYS[9], 'began', text(now))
if tonumber(redis.call('HGET', KEYS[9], 'began')) > now then
  redis.call('HSET', KEYS[9], 'began', text(now)) -- by a clock that was set back since
end
local cold_from = redis.call('HGET', KEYS[9], 'began') + ARGV[4]
local cold, late = {}, 0
local room = math.max(0, limit - redis.call('HLEN', KEYS[8]))
local due = {}
if room > 0 then
  due = redis.call('ZRANGE', KEYS[2], '-inf', text(now), 'BYSCORE', 'LIMIT', 0, room)
end
if due[1] then
  late = now - redis.call('ZSCORE', KEYS[2], due[1])
end
-- Nobody is to be looked at two minutes from now: who is, was put there before the clock was set back.
if #due < room then
  local far = redis.call('ZRANGE', KEYS[2], '(' .. text(now + 120000), '+inf', 'BYSCORE', 'LIMIT', 0, room - #due)
  for _, user in ipairs(far) do
    due[#due + 1] = user
  end
end
for _, user in ipairs(due) do
  local was, before, seen = announced(user)
  local is_seated = redis.call('HEXISTS', KEYS[3], user) == 1
  if not is_seated and not was then
    redis.call('HDEL', KEYS[5], user)
    redis.call('ZADD', KEYS[2], text(math.max(now + 1000, cold_from)), user)
    if now >= cold_from then
      cold[#cold + 1] = user
    end
  else
    local status = 'offline'
    if is_seated then
      status = redis.call('HGET', KEYS[4], user) or 'online'
      seen = text(now)
    else
      seen = redis.call('HGET', KEYS[5], user) or seen
      redis.call('HDEL', KEYS[4], user)
    end
    -- Who was never seen to be here (they were not let in) was not seen to leave.
    if was ~= status then
      announce(user, was, before, status, seen)
      redis.call('HSET', KEYS[10], user, seen)
    end
    redis.call('HDEL', KEYS[5], user)
    redis.call('ZREM', KEYS[2], user)
  end
end

local rows = {}
local pending = redis.call('HGETALL', KEYS[8])
for i = 1, #pending, 2 do
  local user = pending[i]
  local status, at, seen = announced(user)
  if status then
    for _, value in ipairs({ user, status, at, seen, redis.call('HGET', KEYS[7], user) or '' }) do
      rows[#rows + 1] = value
    end
  else
    redis.call('HDEL', KEYS[8], user)
  end
end
return { cold, rows, #due, text(late) }
