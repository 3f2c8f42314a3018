-- A member stays alive. By the broker's clock, so that members need not agree on the time.
-- KEYS 1 sorted set of members by the millisecond they lapse at
-- ARGV 1 member   2 time to live in milliseconds
-- Gives 1 if the member was there, 0 if it is new, was removed, or is being cleared away (a negative time).
local now = redis.call('TIME')
local lapses = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2]
local was = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
redis.call('ZADD', KEYS[1], string.format('%.0f', lapses), ARGV[1])
return was > 0 and 1 or 0
