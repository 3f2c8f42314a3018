-- Users say how they want to be seen while they are here.
-- KEYS 1 seats: hash of user → gateways   2 chosen: hash of user → away or busy
--      3 changes: sorted set of users by the millisecond to look at them
-- ARGV pairs: online, away or busy, user
-- Gives for each user 1, or 0 if they have no seat: then nothing is kept.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local taken = {}
for i = 1, #ARGV, 2 do
  local user = ARGV[i + 1]
  if redis.call('HEXISTS', KEYS[1], user) == 0 then
    taken[#taken + 1] = 0
  else
    if ARGV[i] == 'online' then
      redis.call('HDEL', KEYS[2], user)
    else
      redis.call('HSET', KEYS[2], user, ARGV[i])
    end
    redis.call('ZADD', KEYS[3], now, user)
    taken[#taken + 1] = 1
  end
end
return taken
