-- Take the lease of a partition, or keep it.
-- KEYS 1 lease   2 last fencing token given
-- ARGV 1 router   2 time to live in milliseconds   3 the token held, or 0 to take the lease (anew)
--      4 by how much a new token is above the last one, if the clock is behind it
-- Gives the token, or 0 when another router has the lease (or this one's has lapsed).
-- Tokens rise for ever, also after the broker was wiped: they are never below the clock (µs). Should a failover
-- lose the last of them while the new clock is behind, gateways say what they have seen (surpass.lua).
local held = redis.call('GET', KEYS[1])
if ARGV[3] ~= '0' then
  if held == ARGV[3] .. ' ' .. ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return ARGV[3]
  end
  return '0'
end
-- One's own lease may be taken anew: that is how an owner starts its partition over.
if held and string.match(held, '^%d+ (.*)$') ~= ARGV[1] then
  -- One that is to last for longer than any was taken before the broker's clock was set back.
  if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  end
  return '0'
end
local now = redis.call('TIME')
local token = math.max(now[1] * 1000000 + now[2], (tonumber(redis.call('GET', KEYS[2]) or '0')) + ARGV[4])
local text = string.format('%.0f', token)
redis.call('SET', KEYS[2], text)
redis.call('SET', KEYS[1], text .. ' ' .. ARGV[1], 'PX', ARGV[2])
return text
