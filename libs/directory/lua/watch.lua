-- Watch users from a gateway, or stop it. Who was never announced is to be looked at.
-- KEYS 1 watchers: hash of user → gateways, separated by spaces   2 set of users watched from this gateway
--      3 presence: hash of user → what was last announced   4 changes: sorted set of users by when to look at them
-- ARGV 1 gateway   then pairs: '+' or '-', user
-- Gives for each user what was last announced; '' if nothing was, or the user is not watched any more.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local announced = {}
for i = 2, #ARGV, 2 do
  local user = ARGV[i + 1]
  local names = {}
  for name in string.gmatch(redis.call('HGET', KEYS[1], user) or '', '%S+') do
    if name ~= ARGV[1] then
      names[#names + 1] = name
    end
  end
  local said = ''
  if ARGV[i] == '+' then
    names[#names + 1] = ARGV[1]
    redis.call('SADD', KEYS[2], user)
    said = redis.call('HGET', KEYS[3], user) or ''
    if said == '' then
      redis.call('ZADD', KEYS[4], 'NX', now, user)
    end
  else
    redis.call('SREM', KEYS[2], user)
  end
  if #names > 0 then
    redis.call('HSET', KEYS[1], user, table.concat(names, ' '))
  else
    redis.call('HDEL', KEYS[1], user)
  end
  announced[#announced + 1] = said
end
return announced
