-- Take what was read off some streams.
-- KEYS streams
-- ARGV for each, the id of the last entry that was read
-- Gives for each: 1 done   0 it is gone   -1 it never came as far as it was read, and is left as it is: a failover
-- lost its newest entries, and the clock that makes ids now is behind.
local function parts(id)
  local ms, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(number)
end
local out = {}
for i, stream in ipairs(KEYS) do
  out[i] = 0
  if redis.call('EXISTS', stream) == 1 then
    local info, last = redis.call('XINFO', 'STREAM', stream), '0-0'
    for at = 1, #info, 2 do
      if info[at] == 'last-generated-id' then
        last = info[at + 1]
      end
    end
    local ms, number = parts(ARGV[i])
    local last_ms, last_number = parts(last)
    if last_ms < ms or (last_ms == ms and last_number < number) then
      out[i] = -1
    else
      redis.call('XTRIM', stream, 'MINID', '=', string.format('%.0f-%.0f', ms, number + 1))
      out[i] = 1
    end
  end
end
return out
