-- Who is alive and who lapsed.
-- KEYS 1 sorted set of members by the millisecond they lapse at
-- Gives {alive, lapsed}.
local now = redis.call('TIME')
local ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
return {
  redis.call('ZRANGE', KEYS[1], '(' .. ms, '+inf', 'BYSCORE'),
  redis.call('ZRANGE', KEYS[1], '-inf', ms, 'BYSCORE'),
}
