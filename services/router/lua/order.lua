-- Give messages their place in their conversations: the checked step that a save takes its seq from.
-- KEYS 1 lease   2 seqs: conversation → last seq given, until saved   3 assigned: message key → seq, until saved
--      4 recent, this window: message key → "seq conversation"        5 recent, the window before
-- ARGV 1 the lease as we hold it   2 '1' to look among the recent (the store is away and cannot be asked)
--      then for each message: key, conversation, last seq in the store (-1: not known),
--      '1' if it may be given a place or '0' to be told only of the one it has
-- Gives nil if the lease is not ours, else for each message {state, seq, conversation}:
--   'given' it has a place and is not saved yet   'recent' it was saved not long ago
--   'none' it has no place and may not have one   'unknown' where its conversation stands is not known
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return nil
end
local out = {}
for i = 3, #ARGV, 4 do
  local key, conversation, saved, may = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local given = tonumber(redis.call('HGET', KEYS[3], key) or '0')
  local recent = nil
  if ARGV[2] == '1' then
    recent = redis.call('HGET', KEYS[4], key) or redis.call('HGET', KEYS[5], key)
  end
  -- A place at or below what the store holds went to another message (the broker lost its newest
  -- writes): this one was not found in the store, so it takes a new place.
  if given > saved and given > 0 then
    out[#out + 1] = {'given', given, conversation}
  elseif recent then
    local seq, where = string.match(recent, '^(%d+) (.*)$')
    out[#out + 1] = {'recent', tonumber(seq), where}
  elseif may == '0' then
    out[#out + 1] = {'none', 0, conversation}
  else
    local last = tonumber(redis.call('HGET', KEYS[2], conversation) or '-1')
    if last < 0 and saved < 0 then
      out[#out + 1] = {'unknown', 0, conversation}
    else
      local seq = math.max(last, saved) + 1
      redis.call('HSET', KEYS[2], conversation, seq)
      redis.call('HSET', KEYS[3], key, seq)
      out[#out + 1] = {'given', seq, conversation}
    end
  end
end
return out
