-- Replace the current generation of a dojo by a new one, in several calls.
--
-- What changed since the snapshot of the new one is first copied to it, some users in each call, so
-- that no call takes long. The call that finds only few users swaps.
--
-- request: dojo, generation (the token of the snapshot), epoch, since (copy the users whose records
--          were written later), limit (users copied in one call,
--          about), replaces (the current generation before the snapshot; nil: none)
-- reply: {status, since}; status is 'more' (call again, with the new `since`), 'installed', 'older'
--        (the current generation is newer, or of another epoch), 'lost' (Redis evicted a key), or
--        'unknown' (it is not known any more what changed since the snapshot)
--
-- include boards/hooks

next_token()
local dojo, generation = request.dojo, request.generation

local function finish(status, since) return reply({status = status, since = since or request.since}) end

if clock.epoch ~= request.epoch then return finish('older') end
local new = open_generation(dojo, generation)
if not new then return finish('lost') end
local replaced = current_generation(dojo)
if replaced and tonumber(replaced) >= tonumber(generation) then return finish('older') end
local old = replaced and open_generation(dojo, replaced)
-- Nothing was written to a state of an older epoch since this one began.
local epoch = replaced and redis.pcall('HGET', prefix_of(dojo, replaced), 'epoch')
local is_of_older_epoch = type(epoch) == 'string' and epoch ~= clock.epoch
local is_lost = not old and (replaced or request.replaces) and not is_of_older_epoch
if old then
  if old.log_from > tonumber(generation) then return finish('unknown') end
  local log, first = old.prefix .. ':log', '(' .. digits(request.since)
  -- The users of one batch have the same token, so they are copied together.
  local since = redis.call('ZRANGEBYSCORE', log, first, '+inf', 'WITHSCORES',
    'LIMIT', request.limit - 1, 1)[2]
  for _, user in ipairs(redis.call('ZRANGEBYSCORE', log, first, since or '+inf')) do
    local record = unpacked(redis.call('HGET', old.prefix .. ':users', user))
    if record and record.token > tonumber(generation) then
      record.tagged = redis.call('HEXISTS', old.prefix .. ':tagged', user) == 1
      if not put(new, user, record) then return finish('lost') end
    end
  end
  if since then return finish('more', tonumber(since)) end
end
redis.call('SET', BOARDS .. dojo, generation)
states[dojo] = nil
local was_doubtful = redis.call('HEXISTS', DOUBTS, dojo) == 1 and not has_doubt(new)
if was_doubtful then redis.call('HDEL', DOUBTS, dojo) end
-- The statistics follow where they came from the state before. They are not derived: a solve since
-- the snapshot may not be in the new state yet. A reconcile, which doubts all, has enqueued them.
if was_doubtful or (old and not has_doubt(old, EVERY_DOJO)) then
  follow('boards_installed', dojo, false)
end
set_next_expiry(dojo)
if is_lost then doubt(dojo, 'state_missing') end -- what was written to it could not be copied
if redis.call('ZCARD', new.prefix .. ':dirty') > 1 then follow('arrays_changed', dojo) end
return reply({status = 'installed', since = request.since, replaced = replaced})
