-- A process says how it is; what others said and did not renew is forgotten. By the broker's clock.
-- KEYS 1 hash of process → figures   2 sorted set of processes by the millisecond their figures lapse at
-- ARGV 1 process   2 figures   3 time to live in milliseconds
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
for _, lapsed in ipairs(redis.call('ZRANGE', KEYS[2], '-inf', string.format('%.0f', ms), 'BYSCORE')) do
  redis.call('HDEL', KEYS[1], lapsed)
  redis.call('ZREM', KEYS[2], lapsed)
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.0f', ms + ARGV[3]), ARGV[1])
