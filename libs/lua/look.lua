-- Who is alive and who lapsed.
-- KEYS 1 sorted set of members by the millisecond they lapse at
-- ARGV 1 time to live in milliseconds
-- Gives {alive, lapsed}.
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local ms, latest = string.format('%.0f', now_ms), string.format('%.0f', now_ms + ARGV[1])
-- Who is to live for longer than anybody beat before the clock was set back, and has one more life to beat again.
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], '(' .. latest, '+inf', 'BYSCORE')) do
  redis.call('ZADD', KEYS[1], latest, member)
end
return {
  redis.call('ZRANGE', KEYS[1], '(' .. ms, '+inf', 'BYSCORE'),
  redis.call('ZRANGE', KEYS[1], '-inf', ms, 'BYSCORE'),
}
