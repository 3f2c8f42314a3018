-- Write how jobs are: changed, or done.
-- KEYS 1 lease   2 jobs
-- ARGV 1 lease as this router holds it; then for each job: its field, its value (empty when it is done)
-- Gives 1, or nil when the lease is not ours.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return nil
end
for at = 2, #ARGV, 2 do
  if ARGV[at + 1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[at])
  else
    redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  end
end
return 1
