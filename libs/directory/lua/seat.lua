-- Seat users on a gateway, or take their seats away; presence is to look at who came or went.
-- KEYS 1 seats: hash of user → gateways, separated by spaces   2 set of users seated on this gateway
--      3 changes: sorted set of users by the millisecond to look at them   4 left: hash of user → when last seen
--      5 where: hash of user → places   6 residents: hash of place → how many users
-- ARGV 1 gateway   2 milliseconds in which who went may come back unnoticed   then pairs of what and user:
--      '+' takes a seat that presence need not notice, '*' takes or has one that it must, '-' drops it
local gateway = ARGV[1]
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now, later = string.format('%.0f', ms), string.format('%.0f', ms + ARGV[2])
for i = 3, #ARGV, 2 do
  local user = ARGV[i + 1]
  local held = redis.call('HGET', KEYS[1], user)
  local others = {}
  for name in string.gmatch(held or '', '%S+') do
    if name ~= gateway then
      others[#others + 1] = name
    end
  end
  if ARGV[i] ~= '-' then
    others[#others + 1] = gateway
    redis.call('SADD', KEYS[2], user)
    if ARGV[i] == '*' then
      redis.call('ZADD', KEYS[3], now, user)
    end
  else
    redis.call('SREM', KEYS[2], user)
    if held and #others == 0 then
      redis.call('ZADD', KEYS[3], later, user)
      redis.call('HSET', KEYS[4], user, now)
    end
  end
  if #others > 0 then
    redis.call('HSET', KEYS[1], user, table.concat(others, ' '))
  else
    redis.call('HDEL', KEYS[1], user)
    for place in string.gmatch(redis.call('HGET', KEYS[5], user) or '', '%S+') do
      if redis.call('HINCRBY', KEYS[6], place, -1) <= 0 then
        redis.call('HDEL', KEYS[6], place)
      end
    end
    redis.call('HDEL', KEYS[5], user)
  end
end
