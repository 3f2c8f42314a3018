-- Note where users live, and count them there. Users without a seat are left out.
-- KEYS 1 seats   2 where: user → places (`level:place`, separated by spaces)   3 residents: place → how many users
-- ARGV pairs: user, places
for i = 1, #ARGV, 2 do
  local user, places = ARGV[i], ARGV[i + 1]
  local before = redis.call('HGET', KEYS[2], user) or ''
  if before ~= places and redis.call('HEXISTS', KEYS[1], user) == 1 then
    for place in string.gmatch(before, '%S+') do
      if redis.call('HINCRBY', KEYS[3], place, -1) <= 0 then
        redis.call('HDEL', KEYS[3], place)
      end
    end
    for place in string.gmatch(places, '%S+') do
      redis.call('HINCRBY', KEYS[3], place, 1)
    end
    redis.call('HSET', KEYS[2], user, places)
  end
end
