-- Count things against limits over a sliding window, each once however often it is counted.
-- KEYS sorted sets of what was counted lately, by the millisecond it was; one for each ARGV pair, perhaps the same
-- ARGV 1 the window in milliseconds   then pairs: the most in a window, the member to count
-- Gives for each: 0 counted now   -1 counted before   else milliseconds until there is room; it was not counted.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window = tonumber(ARGV[1])
local out = {}
for i, key in ipairs(KEYS) do
  local most, member = tonumber(ARGV[2 * i]), ARGV[2 * i + 1]
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now - window))
  -- What is still to come was counted before the clock was set back.
  redis.call('ZREMRANGEBYSCORE', key, string.format('(%.0f', now), '+inf')
  local count = redis.call('ZCARD', key)
  if redis.call('ZSCORE', key, member) then
    out[i] = -1
  elseif count < most then
    redis.call('ZADD', key, string.format('%.0f', now), member)
    redis.call('PEXPIRE', key, window)
    out[i] = 0
  else
    -- There is room when the last of those that are too many has left: after a limit was lowered, that is not the oldest.
    local oldest = redis.call('ZRANGE', key, count - most, count - most, 'WITHSCORES')
    out[i] = tonumber(oldest[2]) + window - now
  end
end
return out
