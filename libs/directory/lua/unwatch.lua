-- Stop some of what a dead gateway watched.
-- KEYS 1 watchers: hash of user → gateways, separated by spaces   2 set of users watched from this gateway
-- ARGV 1 gateway   2 how many users at most
-- Gives how many it stopped watching; 0 when none are left.
local users = redis.call('SPOP', KEYS[2], ARGV[2])
for _, user in ipairs(users) do
  local names = {}
  for name in string.gmatch(redis.call('HGET', KEYS[1], user) or '', '%S+') do
    if name ~= ARGV[1] then
      names[#names + 1] = name
    end
  end
  if #names > 0 then
    redis.call('HSET', KEYS[1], user, table.concat(names, ' '))
  else
    redis.call('HDEL', KEYS[1], user)
  end
end
return #users
