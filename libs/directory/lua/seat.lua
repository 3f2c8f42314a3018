-- Seat users on a gateway, or take their seats away.
-- KEYS 1 seats: hash of user → gateways, separated by spaces   2 set of users seated on this gateway
--      3 where: user → places                                    4 residents: place → how many users
-- ARGV 1 gateway   then pairs: '+' or '-', user
local gateway = ARGV[1]
for i = 2, #ARGV, 2 do
  local user = ARGV[i + 1]
  local others = {}
  for name in string.gmatch(redis.call('HGET', KEYS[1], user) or '', '%S+') do
    if name ~= gateway then
      others[#others + 1] = name
    end
  end
  if ARGV[i] == '+' then
    others[#others + 1] = gateway
    redis.call('SADD', KEYS[2], user)
  else
    redis.call('SREM', KEYS[2], user)
  end
  if #others > 0 then
    redis.call('HSET', KEYS[1], user, table.concat(others, ' '))
  else
    redis.call('HDEL', KEYS[1], user)
    for place in string.gmatch(redis.call('HGET', KEYS[3], user) or '', '%S+') do
      if redis.call('HINCRBY', KEYS[4], place, -1) <= 0 then
        redis.call('HDEL', KEYS[4], place)
      end
    end
    redis.call('HDEL', KEYS[3], user)
  end
end
