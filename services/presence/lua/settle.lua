-- Done with some fields of a hash, unless they changed meanwhile.
-- KEYS 1 hash
-- ARGV pairs: field, the value that was dealt with
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
