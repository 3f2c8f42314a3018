-- Take some seats of a dead gateway away.
-- KEYS 1 seats: hash of user → gateways, separated by spaces   2 set of users seated on this gateway
--      3 where: user → places                                    4 residents: place → how many users
-- ARGV 1 gateway   2 how many users at most
-- Gives how many were taken; 0 when none are left.
local users = redis.call('SPOP', KEYS[2], ARGV[2])
for _, user in ipairs(users) do
  local others = {}
  for name in string.gmatch(redis.call('HGET', KEYS[1], user) or '', '%S+') do
    if name ~= ARGV[1] then
      others[#others + 1] = name
    end
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
return #users
