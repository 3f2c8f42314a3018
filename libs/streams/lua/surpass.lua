-- Tokens of a partition are to be above one that was seen: a failover may have lost how far they had come.
-- KEYS 1 lease   2 last fencing token given
-- ARGV 1 a token that was seen
-- Gives 1 if the lease is held under a lower one: it is taken away, and its owner takes it anew. Else 0.
local seen = tonumber(ARGV[1])
if tonumber(redis.call('GET', KEYS[2]) or '0') < seen then
  redis.call('SET', KEYS[2], ARGV[1])
end
local token = tonumber(string.match(redis.call('GET', KEYS[1]) or '', '^%d+'))
if token and token < seen then
  redis.call('DEL', KEYS[1])
  return 1
end
return 0
