-- Turn what waited into jobs, once: what was taken is remembered for a while.
-- KEYS 1 lease   2 waiting   3 taken   4 jobs
-- ARGV 1 lease as this router holds it   2 now in ms   3 forget what was taken before (ms)   4 how many members
--      then the members; then for each job: its field, its value
-- Gives 1, or nil when the lease is not ours.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return nil
end
local at = 5
for _ = 1, tonumber(ARGV[4]) do
  redis.call('ZREM', KEYS[2], ARGV[at])
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[at])
  at = at + 1
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[3])
while at < #ARGV do
  redis.call('HSET', KEYS[4], ARGV[at], ARGV[at + 1])
  at = at + 2
end
return 1
