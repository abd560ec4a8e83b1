-- Hooks, with which other packages extend the scripts of the queue. These defaults do nothing.
--
-- include jobs/queue

local hooks = {
  -- A job was completed; `answer` is its part of the request.
  completed = function(_name, _answer) end,
  -- Whether the values of an answer may be written now.
  may_write = function(_answer) return true end,
  -- Whether a key is not to be written, and the key index (JSON) of an answer without such keys.
  leaves_out = function(_key) return false end,
  kept_keys = function(key_index) return key_index end,
  -- Values of a job were refused, since newer ones are stored; `keys` are theirs.
  refused = function(_name, _keys) end,
  -- A job failed for good.
  buried = function(_name) end,
  -- Time has passed: enqueue the jobs whose answers changed by themselves. Returns whether there are
  -- more of them.
  time_passed = function() return false end,
  -- Jobs were leased: return an array with prefetched data for each, or nil. `changed` has, by name,
  -- what has changed.
  prefetch = function(_names, _changed) return nil end,
  -- Whether the data of a job beside its values is complete.
  is_whole = function(_name) return true end,
  -- Some keys of a job are missing. Returns whether they will be written without the job.
  repair = function(_name, _missing) return false end,
}
