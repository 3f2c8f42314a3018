-- How many users who have seats live in some places of one level.
-- KEYS 1 residents: place → how many users
-- ARGV places
-- Gives their sum.
local sum = 0
for i = 1, #ARGV do
  sum = sum + (redis.call('HGET', KEYS[1], ARGV[i]) or 0)
end
return sum
