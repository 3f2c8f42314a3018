-- Take some seats of a dead gateway away; presence is to look at who has none left.
-- KEYS 1 seats: hash of user → gateways, separated by spaces   2 set of users seated on this gateway
--      3 changes: sorted set of users by the millisecond to look at them   4 left: hash of user → when last seen
--      5 where: hash of user → places   6 residents: hash of place → how many users
-- ARGV 1 gateway   2 how many users at most   3 milliseconds in which they may come back unnoticed
--      4 when the gateway was last heard of, 0 for now
-- Gives how many were taken; 0 when none are left.
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
local look_at, seen = string.format('%.0f', ms + ARGV[3]), ARGV[4]
if seen == '0' then
  seen = string.format('%.0f', ms)
end
local users = redis.call('SPOP', KEYS[2], ARGV[2])
for _, user in ipairs(users) do
  local held = redis.call('HGET', KEYS[1], user)
  local others = {}
  for name in string.gmatch(held or '', '%S+') do
    if name ~= ARGV[1] then
      others[#others + 1] = name
    end
  end
  if #others > 0 then
    redis.call('HSET', KEYS[1], user, table.concat(others, ' '))
  elseif held then
    redis.call('HDEL', KEYS[1], user)
    redis.call('ZADD', KEYS[3], look_at, user)
    redis.call('HSET', KEYS[4], user, seen)
    for place in string.gmatch(redis.call('HGET', KEYS[5], user) or '', '%S+') do
      if redis.call('HINCRBY', KEYS[6], place, -1) <= 0 then
        redis.call('HDEL', KEYS[6], place)
      end
    end
    redis.call('HDEL', KEYS[5], user)
  end
end
return #users
