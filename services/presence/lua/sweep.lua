-- Forget who has been offline for long, is watched by nobody, and is in the store: a few fields a call.
-- KEYS 1 presence: user → '<status> <at ms> <last seen ms>'   2 watchers: user → gateways   3 unsaved: user → last seen
-- ARGV 1 cursor   2 about how many to look at   3 age in milliseconds   4 the same for who was never here
-- Gives {next cursor, how many were forgotten}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local forgotten = 0
for i = 1, #page[2], 2 do
  local user = page[2][i]
  local at, seen = string.match(page[2][i + 1], '^offline (%d+) (%d+)$')
  if
    at
    and tonumber(at) < now - (seen == '0' and ARGV[4] or ARGV[3])
    and redis.call('HEXISTS', KEYS[2], user) == 0
    and redis.call('HEXISTS', KEYS[3], user) == 0
  then
    forgotten = forgotten + redis.call('HDEL', KEYS[1], user)
  end
end
return { page[1], forgotten }
